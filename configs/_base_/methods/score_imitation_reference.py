# The feature loss of Ultralytics 8.4 as it is: the adapter two convolutions with a ReLU between
# them, each level by its own mean on each process, times the images, weight 6. The weight belongs
# to their models: features are not standardised.
__method__ = dict(
    teaches="the teacher's features where it is sure of an object, as Ultralytics does",
    needs=['teacher: rows', 'a level in common'],
    source='Ultralytics 8.4 (distillation guide)',
    published=[('YOLO26', 'YOLO26', 0.4)],  # the least of +0.4 to +1.0
)
_base_ = './score_imitation.py'
balance = None
distiller = dict(
    connectors=dict(
        adapter=[
            dict(type='FeatureAdapter', act_cfg=dict(type='ReLU')),
            dict(type='FeatureAdapter'),
        ]
    ),
    distill_losses=dict(loss_feature=dict(loss_weight=6.0, normalizer='ultralytics')),
)

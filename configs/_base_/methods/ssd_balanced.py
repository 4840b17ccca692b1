# The recipe of the small SSD pairs (docs/results.md): soft classes on the mined priors (Chen et
# al., NeurIPS 2017), the teacher's boxes (after Mehta & Ozturk 2018) and fine-grained imitation
# (Wang et al., CVPR 2019), each with half the gradient of the student's own losses.
__method__ = dict(
    teaches='soft classes on mined priors, boxes and imitated features, weighted by balance',
    needs=['SSDHead', 'equal classes', 'equal priors', 'equal coder', 'equal levels'],
    source='Chen et al., NeurIPS 2017; Mehta & Ozturk 2018; Wang et al., CVPR 2019',
)
_base_ = './ssd_imitation.py'
balance = dict(shares=0.5)
distiller = dict(
    distill_losses=dict(
        _delete_=True,
        loss_soft=dict(type='WeightedSoftCls', temperature=2.0, bg_weight=1.0),
        loss_box=dict(type='TeacherScaledReg'),
        loss_imitation=dict(type='FineGrainedImitation'),
    ),
    loss_forward_mappings=dict(
        _delete_=True,
        loss_soft=_base_.distiller.loss_forward_mappings.loss_soft,
        loss_box=dict(
            preds_S=dict(recorder='head', from_student=True, data_idx=1),
            preds_T=dict(recorder='head', from_student=False, data_idx=1),
            scores_T=dict(recorder='head', from_student=False, data_idx=0),
        ),
        loss_imitation=_base_.distiller.loss_forward_mappings.loss_imitation,
    ),
)

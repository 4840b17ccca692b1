# The predictions of DETRDistill (Chang et al., ICCV 2023), weighed by the teacher's score as
# KD-DETR does: layer by layer each of the teacher's surest queries is taught to the query of the
# student that suits it best. For two DETRs of any kind and depth.
__method__ = dict(
    teaches="what the teacher's queries predict, layer by layer",
    needs=['rows', 'DETR', 'equal classes'],
    source='Chang et al., ICCV 2023 (arXiv 2211.10156)',
)
balance = dict(shares=0.5)
distiller = dict(
    type='ConfigurableDistiller',
    student_recorders=dict(queries=dict(type='Queries')),
    teacher_recorders=dict(queries=dict(type='Predictions', layers='all')),
    distill_losses=dict(loss_queries=dict(type='MatchedQueries')),
    loss_forward_mappings=dict(
        loss_queries=dict(
            preds_S=dict(recorder='queries', from_student=True),
            preds_T=dict(recorder='queries', from_student=False),
        )
    ),
)

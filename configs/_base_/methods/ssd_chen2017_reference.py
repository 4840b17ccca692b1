# Chen et al. (NeurIPS 2017) as implemented for SSD, the reference form: log(p + 1e-10), and the
# bound decided once per batch.
_base_ = './ssd_chen2017.py'
distiller = dict(
    distill_losses=dict(loss_soft=dict(log_eps=1e-10), loss_bounded=dict(gate='batch'))
)

# Chen et al. (NeurIPS 2017) as implemented for SSD, the reference form: log(p + 1e-10), and the
# bound decided once per batch.
__method__ = dict(
    teaches='ssd_chen2017 as it was implemented, to compare',
    needs=['SSDHead', 'equal classes', 'equal priors', 'equal coder'],
    source='Chen et al., NeurIPS 2017',
)
_base_ = './ssd_chen2017.py'
distiller = dict(
    distill_losses=dict(loss_soft=dict(log_eps=1e-10), loss_bounded=dict(gate='batch'))
)

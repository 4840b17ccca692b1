"""What is known of the losses that mmkd did not write: MMRazor's and mmdet's.

A loss of one's own may say the same in class attributes: ``softmax_scores``, the arguments over
whose channels it takes a softmax; ``matches_rows = True``, it finds itself which row of the
student belongs to which of the teacher; ``accepts_other_shapes = True``, it brings student's and
teacher's maps to one shape itself; ``idle_without``, the item of its ``logs`` at whose 0 the batch
has nothing to teach.
"""

from typing import Any

from torch import nn

#: By class, the arguments over whose channels (the second axis) a softmax is taken.
SOFTMAX_SCORES = {
    'KLDivergence': ('preds_S', 'preds_T'),
    'CrossEntropyLoss': ('preds_S', 'preds_T'),
    'DKDLoss': ('preds_S', 'preds_T'),
    'DISTLoss': ('logits_S', 'logits_T'),
    'WSLD': ('student', 'teacher'),
    'KDSoftCELoss': ('preds_S', 'preds_T'),
    'OnehotLikeLoss': ('preds_T',),
    'InformationEntropyLoss': ('preds_T',),
    'KnowledgeDistillationKLDivLoss': ('pred', 'soft_label'),
}

#: By class, what it needs equal of student's and teacher's maps; of MMRazor's others 'shape'.
NEEDS = {
    'ATLoss': 'space',  # it averages over the channels
    'DistanceWiseRKD': 'batch',  # it compares distances within a batch
    'AngleWiseRKD': 'batch',
    'FBKDLoss': 'last',  # tuples, whose last items are the features
    'PKDLoss': 'pkd',
}


def author(loss: nn.Module) -> str:
    """The package whose ``forward`` it is: 'mmrazor', 'mmdet', 'mmkd', or another."""
    return _writer(loss).__module__.partition('.')[0]


def softmax_scores(loss: nn.Module) -> tuple[str, ...]:
    """The arguments over whose channels a softmax is taken."""
    loss = getattr(loss, 'each', loss)  # of EachLevel
    found = getattr(loss, 'softmax_scores', None)
    if found is None and author(loss) in ('mmrazor', 'mmdet'):
        found = SOFTMAX_SCORES.get(_writer(loss).__name__)
    return tuple(found or ())


def needs(loss: nn.Module, settings: Any = None) -> str:
    """What a loss needs equal of the maps that it is fed from both sides.

    'shape', 'space' (all but channels), 'batch', 'last' (shape, of the last items of tuples),
    'resized' (shape, where the height is equal), 'own' (it sees to it itself), or 'no broadcast',
    of a loss that is not known: as many levels, and no axis that would be repeated.

    Args:
        loss: the built loss.
        settings: its config.
    """
    if getattr(loss, 'accepts_other_shapes', False) or author(loss) == 'mmkd':
        return 'own'
    if author(loss) != 'mmrazor':
        return 'no broadcast'
    kind = NEEDS.get(_writer(loss).__name__, 'shape')
    if kind == 'pkd':
        asked = 'resize_stu' in (settings or ()) or not getattr(loss, 'resize_stu', True)
        return 'resized' if asked else 'shape'
    return kind


def compares_rows(loss: nn.Module) -> bool | None:
    """Whether row i of one side is compared with row i of the other; None where nobody knows."""
    if getattr(loss, 'matches_rows', False):
        return False
    return True if author(loss) in ('mmrazor', 'mmdet', 'mmkd', 'mmyolo', 'torch') else None


def _writer(loss: nn.Module) -> type:
    """The class that the loss has its ``forward`` from."""
    return next(cls for cls in type(loss).__mro__ if 'forward' in vars(cls))

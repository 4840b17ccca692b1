"""The keys under which a training step logs, in one place.

=========================== ====================================================================
``loss``                    sum of all terms, added by mmengine
``student.<term>``          a term of the student's own
``distill.<name>``          a distillation loss, by its name in ``distill_losses``
``distill.<name>_<part>``   a part or statistic of it, which is not back-propagated: "loss" is
                            taken off both words
=========================== ====================================================================
"""

TOTAL = 'loss'
STUDENT = 'student.'
DISTILL = 'distill.'

#: Parts of ``distill.<name>_<part>`` that are not the loss's own: the factor of
#: ``DistillWeightHook``, that of the gradient balance, and the share that it has reached.
WEIGHT, BALANCE, SHARE = 'weight', 'balance', 'share'


def is_term(key: str) -> bool:
    """Whether mmengine adds it to the total and back-propagates it: each key with "loss" in it."""
    return 'loss' in key


def statistic_key(name: str, part: str) -> str:
    """The key, without ``distill.``, of a part or statistic of a loss; never that of a term.

    Args:
        name: of the loss in ``distill_losses``.
        part: a key of its ``logs``, or WEIGHT, BALANCE or SHARE.

    Example:
        >>> statistic_key('loss_soft', 'mined'), statistic_key('soft_loss', 'loss')
        ('soft_mined', 'soft_value')
    """
    return f'{_without_loss(name)}_{_without_loss(part) or "value"}'


def _without_loss(word: str) -> str:
    while is_term(word):
        word = word.replace('loss_', '').replace('loss', '')
    return word.strip('_')

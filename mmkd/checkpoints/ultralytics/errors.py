"""The errors of this package."""


class CheckpointError(ValueError):
    """A checkpoint file that cannot be read, is not trusted, or does not fit the model."""


class EndlessError(CheckpointError):
    """A pickle that would keep any reader busy for ever."""


MALFORMED = 'the pickle is malformed: '


def need(condition: bool, what: str) -> None:
    """Refuse a malformed pickle.

    Raises:
        CheckpointError: The condition does not hold.
    """
    if not condition:
        raise CheckpointError(f'{MALFORMED}{what}')

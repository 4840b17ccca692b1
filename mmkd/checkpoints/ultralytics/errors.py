"""The one error of this package."""


class CheckpointError(ValueError):
    """A checkpoint file that cannot be read, is not trusted, or does not fit the model."""

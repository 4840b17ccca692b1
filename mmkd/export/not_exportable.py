"""The error of a detector that cannot be a graph."""


class NotExportableError(ValueError):
    """A detector, or a part of it, that has no form as a graph."""

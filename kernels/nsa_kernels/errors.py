"""The error an attention operation raises for limits of shape, device or implementation."""


class UnsupportedError(NotImplementedError):
    """The request is meaningful, but this implementation or device cannot carry it out."""

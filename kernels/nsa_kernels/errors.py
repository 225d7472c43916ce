"""The error for shapes, devices and options that an implementation does not support."""


class UnsupportedError(NotImplementedError):
    """Raised when the arguments are valid but this implementation or device lacks support."""

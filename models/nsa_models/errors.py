"""Errors for the user, each with a message, a hint, a code and an exit code.

NsaError                     1   any other failure
├── UsageError               2   wrong arguments
├── DataError                3   a data file is missing, empty or malformed
├── DoesNotFitError          4   a text or its memory exceeds a limit
└── ModelError               1   a model cannot be fetched, read or run
"""

from __future__ import annotations


class NsaError(Exception):
    """A failure that is shown to the user in one line.

    Attributes:
        message: What happened and where, as one clause without a final period.
        hint: The remedy, or an empty string. A program may supply its own hint by `code`.
        code: A stable, machine-readable name such as `scanned`.
        exit_code: The exit status of the program.
    """

    exit_code = 1
    default_code = "error"

    def __init__(self, message: str, *, hint: str = "", code: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code or self.default_code


class UsageError(NsaError):
    """An argument is invalid, or arguments contradict each other."""

    exit_code = 2
    default_code = "usage"


class DataError(NsaError):
    """A data file cannot be used; `code` is `missing`, `empty` or `broken`."""

    exit_code = 3
    default_code = "data"


class DoesNotFitError(NsaError):
    """A text or its memory exceeds the context, the memory or the disk."""

    exit_code = 4
    default_code = "does_not_fit"


class ModelError(NsaError):
    """A model cannot be fetched, read or run."""

    default_code = "model"


def unsupported(feature: str, hint: str) -> ModelError:
    """Return the error for a feature that Native Sparse Attention lacks."""
    return ModelError(
        f"Native Sparse Attention does not support {feature}",
        hint=hint,
        code="attention_unsupported",
    )

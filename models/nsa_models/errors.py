"""The errors a user can meet, each with a message, a next step and an exit code.

NsaError                     1   something went wrong
├── UsageError               2   the command was given wrongly
├── UnreadableError          3   a document is missing, empty, binary, broken, encrypted, scanned
├── DoesNotFitError          4   a text, or what it needs, is larger than what there is
└── ModelError               1   a model cannot be fetched, read or run
"""

from __future__ import annotations


class NsaError(Exception):
    """A failure shown to the user in one line.

    Attributes:
        message: What happened and where, as one clause without a final period.
        hint: What to do next, or an empty string.
        code: A stable, machine-readable name such as `scanned`, for `--json`.
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
    """The command line does not say something that can be done."""

    exit_code = 2
    default_code = "usage"


class UnreadableError(NsaError):
    """A source cannot be read; `code` says why (`missing`, `empty`, `binary`, …)."""

    exit_code = 3
    default_code = "unreadable"


class DoesNotFitError(NsaError):
    """A text or the room it needs is larger than what there is."""

    exit_code = 4
    default_code = "does_not_fit"


class ModelError(NsaError):
    """A model cannot be fetched, read or run."""

    default_code = "model"


def unsupported(what: str, hint: str) -> ModelError:
    """The error for what is asked of this attention and cannot be had."""
    return ModelError(
        f"Native Sparse Attention does not support {what}", hint=hint, code="attention_unsupported"
    )

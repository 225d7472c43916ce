"""The error of a document that cannot be read."""

from __future__ import annotations

from nsa_models.errors import NsaError


class UnreadableError(NsaError):
    """A source cannot be read; `code` names the reason (`missing`, `empty`, `binary`, …)."""

    exit_code = 3
    default_code = "unreadable"

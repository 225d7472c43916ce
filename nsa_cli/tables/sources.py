"""Sources that may hold tables."""

from __future__ import annotations

from collections.abc import Sequence

from nsa_cli.documents.compressed import is_compressed
from nsa_cli.documents.formats.choose import kind_of
from nsa_cli.documents.sources import Source
from nsa_models.errors import DoesNotFitError

_KINDS = frozenset(["delimited", "sheets", "open_document", "compound", "mail", "records"])
"""Readers of formats with tables, or with attachments that may be tables."""


def may_hold_tables(sources: Sequence[Source]) -> bool:
    """Whether some sources may hold tables, judged by their formats alone."""
    return any(_may(source) for source in sources)


def _may(source: Source) -> bool:
    if is_compressed(source.data):
        return True
    try:
        return kind_of(source.data, source.name) in _KINDS
    except DoesNotFitError:
        return False

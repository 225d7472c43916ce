"""The summary cache: the same bytes are summarized once. No torch here.

Summaries are in the folder of answers, and are kept and removed as these are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from nsa_cli.caches import json_files
from nsa_cli.caches.answers import MOST, answers_folder, is_kept, key_facts
from nsa_cli.config.options import Options
from nsa_cli.documents import Location
from nsa_cli.results import Citation, DocumentSummary, Statement
from nsa_models.model_folder import ModelFolder

_FORMAT = 2
"""Bump when the same request may make another summary."""


class SummaryCache:
    """The cached summary of a document, or of several together.

    Args:
        content: The document's bytes, or a hash of them.
        source: The document's name.
        asked: The request and the prompts, as JSON has them.
        where: The model.
        options: How to read.
    """

    def __init__(
        self,
        content: bytes,
        source: str,
        asked: dict[str, Any],
        where: ModelFolder,
        options: Options,
    ) -> None:
        facts = key_facts(content, source, {**asked, "summary": _FORMAT}, where, options)
        self._path = json_files.path_of(answers_folder(), facts)
        self._usable = is_kept(options)

    def recall(self) -> DocumentSummary | None:
        """Return the cached summary, all of its document reused; None without one."""
        kept = json_files.read(self._path) if self._usable else None
        try:
            return None if kept is None else _summary(kept)
        except (TypeError, KeyError):
            return None

    def keep(self, made: DocumentSummary, sources: Sequence[str], contents: Sequence[str]) -> None:
        """Store a summary; ignore a disk that refuses it.

        Args:
            made: The summary.
            sources: Names of the document's files.
            contents: Hashes of the document's files; by both it is removed.
        """
        if not self._usable:
            return
        body = {
            "name": made.source,
            "sources": list(sources),
            "contents": list(contents),
            "overview": [asdict(each) for each in made.overview],
            "statements": [asdict(each) for each in made.statements],
            "document_tokens": made.document_tokens,
            "warnings": list(made.warnings),
        }
        json_files.write(self._path, body, most=MOST)


def _summary(kept: dict[str, Any]) -> DocumentSummary:
    return DocumentSummary(
        source=kept["name"],
        overview=tuple(map(_statement, kept["overview"])),
        statements=tuple(map(_statement, kept["statements"])),
        document_tokens=kept["document_tokens"],
        reused_tokens=kept["document_tokens"],
        warnings=tuple(kept["warnings"]),
        is_kept=True,
    )


def _statement(kept: dict[str, Any]) -> Statement:
    place = kept.pop("place")
    citations = tuple(Citation(**each) for each in kept.pop("citations"))
    return Statement(
        **kept, place=None if place is None else Location(**place), citations=citations
    )

"""Summaries by the model: a document prefilled with room, its statements, its overview."""

from __future__ import annotations

from collections.abc import Sequence

from nsa_cli.config.summary_length import SummaryRequest
from nsa_cli.context.tokens import answer_room
from nsa_cli.documents.sources import Source
from nsa_cli.engine.engine import Engine
from nsa_cli.engine.open_document import OpenDocument
from nsa_cli.results import DocumentSummary
from nsa_cli.summaries.candidates import word_count
from nsa_cli.summaries.overview import overview
from nsa_cli.summaries.prompts import ABOUT
from nsa_cli.summaries.statements import statements

_MORE_ROOM = 96


def open_for_summary(
    engine: Engine,
    sources: Sequence[Source],
    name: str,
    focus: str | None,
    content: bytes | None = None,
) -> OpenDocument:
    """Prefill sources with the room that statements need.

    Args:
        engine: The engine.
        sources: The sources.
        name: Name of all of them together.
        focus: A topic to summarize, or None.
        content: Digest of the sources, if known.

    Raises:
        NsaError: If the sources cannot be read, or do not fit the model or the memory.
    """
    room = summary_room(engine, focus)
    return engine.open(sources, name, room, content)


def summary_room(engine: Engine, focus: str | None) -> int:
    """Tokens that the question whose attention ranks the passages needs after the text."""
    return answer_room([engine.prompts.question(focus or ABOUT)], _MORE_ROOM)


def summarize_document(opened: OpenDocument, request: SummaryRequest) -> DocumentSummary:
    """Summarize an open document."""
    length, focus = request.length.within(word_count(opened.document.text)), request.focus
    made = tuple(statements(opened, length, focus=focus, outline=request.outline))
    return DocumentSummary(
        source=opened.document.name,
        overview=overview(opened, made, length, focus),
        statements=made,
        document_tokens=opened.tokens,
        reused_tokens=opened.reused_tokens,
        warnings=opened.document.warnings,
    )

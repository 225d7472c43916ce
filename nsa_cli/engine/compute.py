"""Answers that are computed from the tables of a document, without a model and without torch."""

from __future__ import annotations

import time
from collections.abc import Sequence

from nsa_cli.computing.asks import asks_for_expression
from nsa_cli.computing.forms import FORM_RULES
from nsa_cli.documents import Document
from nsa_cli.documents.sources import Source
from nsa_cli.events import AnswerFinished
from nsa_cli.output.logging import log
from nsa_cli.results import Passage, Stats, Turn
from nsa_cli.retrieval.rules import SUPPORT_RULES
from nsa_cli.system import peak_memory_bytes
from nsa_cli.tables.answer import RULES, compute
from nsa_cli.tables.sources import may_hold_tables


def rule_versions(sources: Sequence[Source], question: str, *, compute: bool) -> dict[str, int]:
    """Return the versions of the rules that an answer depends on, for its key in the cache.

    Args:
        sources: The sources.
        question: The question as typed.
        compute: Whether answers may be computed by expressions.
    """
    versions = {"support": SUPPORT_RULES}
    if may_hold_tables(sources):
        versions["rules"] = RULES
    if compute and asks_for_expression(question):
        versions["forms"] = FORM_RULES
    return versions


def computed(document: Document, question: str, model: str) -> AnswerFinished | None:
    """Answer a question by computing over the tables of a document.

    Args:
        document: The document.
        question: The question as typed.
        model: Name of the model, which is not used.

    Returns:
        The answer; None if the model should answer.
    """
    began = time.monotonic()
    found = compute(document, question)
    if found is None:
        return None
    seconds = time.monotonic() - began
    log.info("computed in %.3f s: %s", seconds, found.computation.description)
    return AnswerFinished(
        answer=found.text,
        citations=found.citations,
        model=model,
        finish_reason="stop",
        stats=Stats(
            document_tokens=0,
            reused_tokens=0,
            question_tokens=0,
            answer_tokens=0,
            load_seconds=0.0,
            prefill_seconds=0.0,
            time_to_first_token_seconds=round(seconds, 3),
            decode_tokens_per_second=0.0,
            peak_memory_bytes=peak_memory_bytes(),
            cache_bytes=0,
            cache_bytes_touched=0,
        ),
        warnings=document.warnings,
        computation=found.computation,
    )


def turn_of(document: Document, question: str, finished: AnswerFinished) -> Turn:
    """A computed answer as a turn of a conversation, with the first row that it cites."""
    passage = None
    for citation in finished.citations[:1]:
        span = document.line_span(citation.source, citation.page, citation.line_start)
        if span is not None:
            passage = Passage(start=span[0], end=span[1], score=1.0)
    return Turn(question=question, answer=finished.answer, passage=passage)

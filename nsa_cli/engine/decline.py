"""The answer that a document does not say, with its nearest sentence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import torch

from nsa_cli.documents import Document
from nsa_cli.engine.answer_context import AnswerContext
from nsa_cli.engine.generate import GeneratedAnswer
from nsa_cli.engine.open_document import OpenDocument
from nsa_cli.results import Citation, Passage
from nsa_cli.retrieval.citations import Cited
from nsa_cli.retrieval.declining import DECLINED
from nsa_cli.retrieval.nearest import nearest_sentence
from nsa_cli.retrieval.passages import AnswerAttention
from nsa_cli.retrieval.yes_or_no import is_contrary_to, told_yes_or_no

_LONGEST_QUOTE = 160


def declined(document: Document, passages: Sequence[Passage], question: str) -> tuple[str, Cited]:
    """Return the answer that declines, with the sentence that is nearest to the question.

    No sentence is quoted that has only common words of the question.

    Args:
        document: The document.
        passages: What was found in it.
        question: The question.
    """
    found = nearest_sentence(document, passages, question)
    if found is None:
        return DECLINED, Cited((), passages)
    return _with_quote(document, passages, DECLINED, found)


def yes_or_no(
    document: Document, passages: Sequence[Passage], question: str, answer: str | None
) -> tuple[str, Cited] | None:
    """Return the yes or no that a sentence gives to a question, with this sentence; or None.

    Args:
        document: The document.
        passages: What was found in it.
        question: The question.
        answer: An answer that stays unless the sentence says the contrary; None without one.
    """
    told = told_yes_or_no(document, passages, question)
    if told is None or (answer is not None and not is_contrary_to(told, answer)):
        return None
    return _with_quote(document, passages, f"{told.word}.", (told.start, told.end))


def _with_quote(
    document: Document, passages: Sequence[Passage], answer: str, span: tuple[int, int]
) -> tuple[str, Cited]:
    """An answer followed by a sentence of the document, which is cited and not verified."""
    start, end = span
    quote = document.text[start:end]
    citation = Citation(
        **asdict(document.locate(start, end)), quote=quote, score=1.0, verified=False
    )
    quote = " ".join(quote.split())
    quote = quote if len(quote) <= _LONGEST_QUOTE else f"{quote[:_LONGEST_QUOTE].rstrip()}…"
    return f"{answer} It says: “{quote}” [1]", Cited((citation,), passages)


def without_decoding(opened: OpenDocument, context: AnswerContext, text: str) -> GeneratedAnswer:
    """Return an answer that was composed and not decoded.

    Args:
        opened: The document.
        context: What it is answered from.
        text: The answer.
    """
    size = opened.answers.config.select_block
    mass = torch.zeros(-(-len(context.text.ids) // size))
    return GeneratedAnswer(
        text=text,
        tokens=0,
        attention=AnswerAttention(mass=mass, text=context.text, size=size),
        finish_reason="stop",
        first_token_seconds=0.0,
        tokens_per_second=0.0,
    )

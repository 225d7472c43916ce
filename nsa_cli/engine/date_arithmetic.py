"""Answers with dates: the model chooses dates or a period of the passages, the program computes."""

from __future__ import annotations

from collections.abc import Sequence

from nsa_cli.computing.date_forms import DateChoice, DateResult, date_form_of
from nsa_cli.computing.dates import DateError
from nsa_cli.context.tokens import TokenizedQuestion
from nsa_cli.engine.answer_context import AnswerContext
from nsa_cli.engine.arithmetic import (
    ByExpression,
    cited_sentences,
    composed,
    decode_choice,
    spans_of,
)
from nsa_cli.engine.generate import GenerationOptions
from nsa_cli.engine.open_document import OpenDocument
from nsa_cli.output.logging import log
from nsa_cli.results import EXPRESSION, Computation, Passage


def by_dates(
    opened: OpenDocument,
    context: AnswerContext,
    passages: Sequence[Passage],
    question: TokenizedQuestion,
    options: GenerationOptions,
    *,
    verified: bool,
) -> ByExpression | None:
    """Answer a question that asks for a date or for the time between two dates.

    It is None if the model is to answer it in words: for other questions, and where the passages
    have no dates or periods for it, or the model chooses none.

    Args:
        opened: The document.
        context: What the model answers from.
        passages: The passages in it.
        question: The question.
        options: Whether to compute, and with which attention.
        verified: Whether citations may be verified.
    """
    form = date_form_of(question.text) if options.compute else None
    if form is None:
        return None
    spans = spans_of(opened, context, passages, options)
    choice = DateChoice(form, question.text, opened.document, spans)
    if not choice.is_possible:
        return None
    own = opened if opened.answerer is None else opened.answerer
    asked = own.prompts.expression(question.text, choice.lead, dates=True)
    decoded = decode_choice(opened, context, choice, asked, options)
    if decoded is None or decoded.texts is None:
        return None
    try:
        result = choice.result(decoded.texts)
    except DateError as error:
        log.info("no expression with dates: %s", error)
        return None
    sentences = list(dict.fromkeys(map(choice.sentence_at, result.places)))
    cited = cited_sentences(opened.document, sentences, question.text)
    if not verified:
        cited = cited.unverified()
    text = result.sentence(len(cited.citations))
    return ByExpression(composed(opened, context, text, decoded), cited, _computation(result))


def _computation(result: DateResult) -> Computation:
    return Computation(
        table="",
        operation=EXPRESSION,
        description=result.expression,
        value=result.value,
        rows=0,
        refused=None,
        unit=result.unit,
    )

"""`nsa ask` from the source to the answer; torch is imported only when something must be read."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from nsa_cli.answers import Answers
from nsa_cli.documents import Document, parse_document, read_source
from nsa_cli.events import AnswerText, Event, Finished, Note, Progress
from nsa_cli.options import Options
from nsa_models.resolve import ModelFolder, resolve_model

if TYPE_CHECKING:
    from nsa_cli.plan import Estimate

Emit = Callable[[Event], None]


def ask(source: str, question: str, options: Options, emit: Emit) -> Finished:
    """Answer a question about a document.

    Args:
        source: A path, or `-` for standard input.
        question: What to ask.
        options: How.
        emit: Receives everything worth showing, in order; the result is not among it.

    Raises:
        NsaError: Whatever goes wrong that the user can do something about.
    """
    began = time.monotonic()
    name, data = read_source(source)
    where = _resolve(options, emit)
    answers = Answers(data, name, question, where, options)
    remembered = answers.recall(time.monotonic() - began)
    if remembered is not None:
        emit(Note(text="answered before; --no-store asks anew"))
        emit(AnswerText(text=remembered.answer))
        return remembered
    document = _parse(name, data, options, emit)
    from nsa_cli.engine import answer_question

    finished = answer_question(document, question, where, options, emit, began)
    answers.keep(finished)
    return finished


def estimate(source: str, question: str, options: Options, emit: Emit) -> Estimate:
    """Say what reading a document will take, and read nothing; arguments as for `ask`.

    Raises:
        NsaError: As `ask` does, the refusal of what does not fit the memory excepted.
    """
    name, data = read_source(source)
    where = _resolve(options, emit)
    document = _parse(name, data, options, emit)
    from nsa_cli.engine import plan, prepare

    return plan(prepare(document, question, where, options, emit), where, options)


def _resolve(options: Options, emit: Emit) -> ModelFolder:
    """The model's folder, fetched if need be."""
    return resolve_model(
        options.model,
        on_progress=lambda task, done, total: emit(
            Progress(task=task, done=done, total=total, unit="bytes")
        ),
        on_note=lambda text: emit(Note(text=text)),
    )


def _parse(name: str, data: bytes, options: Options, emit: Emit) -> Document:
    """The document's text, and notes about what was odd in it."""
    document = parse_document(
        name,
        data,
        password=options.password,
        on_page=lambda done, total: emit(
            Progress(task=f"Opening {name}", done=done, total=total, unit="pages")
        ),
    )
    for warning in document.warnings:
        emit(Note(text=f"{name}: {warning}"))
    return document

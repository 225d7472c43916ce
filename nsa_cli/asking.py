"""`nsa ask` from the source to the answer; torch is imported only when something must be read."""

from __future__ import annotations

import time
from collections.abc import Callable

from nsa_cli.answers import Answers
from nsa_cli.documents import parse_document, read_source
from nsa_cli.events import AnswerText, Event, Finished, Note, Progress
from nsa_cli.options import Options
from nsa_models.resolve import resolve_model


def ask(source: str, question: str, options: Options, emit: Callable[[Event], None]) -> Finished:
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
    where = resolve_model(
        options.model,
        on_progress=lambda task, done, total: emit(
            Progress(task=task, done=done, total=total, unit="bytes")
        ),
        on_note=lambda text: emit(Note(text=text)),
    )
    answers = Answers(data, name, question, where, options)
    remembered = answers.recall(time.monotonic() - began)
    if remembered is not None:
        emit(Note(text="answered before; --no-store asks anew"))
        emit(AnswerText(text=remembered.answer))
        return remembered
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
    from nsa_cli.engine import answer_question

    finished = answer_question(document, question, where, options, emit, began)
    answers.keep(finished)
    return finished

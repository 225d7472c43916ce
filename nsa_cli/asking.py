"""From the sources to the answers; torch is imported only when something must be read."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from nsa_cli.answers import Answers
from nsa_cli.documents import (
    Document,
    PageRanges,
    digest,
    parse_sources,
    read_sources,
    title,
)
from nsa_cli.documents.sources import Source
from nsa_cli.events import AnswerText, Event, Finished, Note, Progress
from nsa_cli.options import Options
from nsa_models.resolve import ModelFolder, resolve_model

Emit = Callable[[Event], None]


def ask(
    arguments: Sequence[str], questions: Sequence[str], options: Options, emit: Emit
) -> Iterator[Finished]:
    """Answer questions about sources.

    Args:
        arguments: Paths, folders, globs, or `-` for standard input.
        questions: What to ask, at least one question.
        options: How.
        emit: Receives everything worth showing, in order; the results are not among it.

    Yields:
        An answer for each question, in order.

    Raises:
        NsaError: Whatever goes wrong that the user can do something about.
    """
    began = time.monotonic()
    sources = read_sources(arguments, on_note=lambda text: emit(Note(text=text)))
    where = find_model(options, emit)
    name = title(arguments, len(sources))
    content = digest(sources)
    kept = [Answers(content, name, question, where, options) for question in questions]
    found = [each.recall(time.monotonic() - began) for each in kept]
    text = None
    for question, answers, remembered in zip(questions, kept, found, strict=True):
        if remembered is not None:
            emit(Note(text="answered before; --no-store asks anew"))
            emit(AnswerText(text=remembered.answer))
            yield remembered
            continue
        if text is None:
            document = open_sources(sources, name, options, emit)
            from nsa_cli.session import Session

            session = Session(where, options, emit)
            room = max(session.prompter.room(each) for each in questions)
            text = session.read(document, room + options.max_tokens)
            text = replace(text, load_seconds=time.monotonic() - began - text.read_seconds)
        finished = text.answer(question)
        answers.keep(finished)
        yield finished


def find_model(options: Options, emit: Emit) -> ModelFolder:
    """The model that the options name, fetched where needed.

    Raises:
        ModelError: If it cannot be had.
    """
    return resolve_model(
        options.model,
        on_progress=lambda task, done, total: emit(
            Progress(task=task, done=done, total=total, unit="bytes")
        ),
        on_note=lambda text: emit(Note(text=text)),
    )


def open_sources(sources: Sequence[Source], name: str, options: Options, emit: Emit) -> Document:
    """Sources that were read, as one document; what is odd about it is told.

    Raises:
        NsaError: If what the user named cannot be read, or nothing is left.
    """
    document = parse_sources(
        sources,
        name,
        password=options.password,
        pages=PageRanges.parse(options.pages) if options.pages is not None else None,
        on_page=lambda source, done, total: emit(
            Progress(task=f"Opening {source}", done=done, total=total, unit="pages")
        ),
        on_note=lambda text: emit(Note(text=text)),
    )
    single = len({piece.source for piece in document.pieces}) == 1
    for warning in document.warnings:
        emit(Note(text=f"{document.pieces[0].source}: {warning}" if single else warning))
    return document

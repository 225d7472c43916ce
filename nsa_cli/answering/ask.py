"""`nsa ask` from the sources to the answers; torch is imported only when something is read."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

from nsa_cli.config.options import Options
from nsa_cli.documents import read_sources, title
from nsa_cli.engine.engine import Desk
from nsa_cli.events import Event, Finished, Note


def ask(
    arguments: Sequence[str],
    questions: Sequence[str],
    options: Options,
    emit: Callable[[Event], None],
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
    desk = Desk(options, emit)
    yield from desk.answers(sources, title(arguments, len(sources)), questions, began)

"""`nsa ask`, from the sources to the answers; torch is imported only for a document not stored."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from nsa_cli.answering.read import read
from nsa_cli.config.options import Options
from nsa_cli.documents import title
from nsa_cli.engine import elsewhere
from nsa_cli.engine.engine import Engine
from nsa_cli.events import AnswerFinished, Emit


def ask(
    arguments: Sequence[str], questions: Sequence[str], options: Options, emit: Emit
) -> Iterator[AnswerFinished]:
    """Answer questions about sources.

    Args:
        arguments: Paths, folders, globs, URLs, or `-` for standard input.
        questions: The questions, at least one.
        options: How to read and answer.
        emit: Receives events in order; the results are not among them.

    Yields:
        An answer for each question, in order.

    Raises:
        NsaError: If the sources cannot be read, or do not fit the model or the memory.
    """
    began = time.monotonic()
    sources = read(arguments, options, emit)
    engine = Engine(options, emit)
    name = title(arguments, len(sources))
    with elsewhere.work() as work:
        yield from engine.ask(sources, name, questions, began, work)

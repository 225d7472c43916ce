"""`nsa find`, from the sources to the passages."""

from __future__ import annotations

from collections.abc import Sequence

from nsa_cli.answering.read import read
from nsa_cli.config.options import Options
from nsa_cli.documents import digest, title
from nsa_cli.engine.elsewhere import find_elsewhere
from nsa_cli.engine.engine import Engine
from nsa_cli.events import Emit, drain
from nsa_cli.results import MatchInContext


def find(
    arguments: Sequence[str], query: str, top: int, options: Options, emit: Emit
) -> list[MatchInContext]:
    """Find the passages of the sources that the model attends to most, best first.

    Args:
        arguments: Paths, folders, globs, URLs, or `-` for standard input.
        query: Words or a question.
        top: Maximum passages.
        options: How to read.
        emit: Receives events in order.

    Raises:
        NsaError: If the sources cannot be read, or do not fit the model or the memory.
    """
    sources = read(arguments, options, emit)
    engine, name = Engine(options, emit), title(arguments, len(sources))
    parsed = engine.parsed(sources, name, digest(sources))  # errors of parsing need no torch
    return drain(find_elsewhere(engine, parsed, query, top), emit)

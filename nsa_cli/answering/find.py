"""`nsa find` from the sources to the passages."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from nsa_cli.config.options import Options
from nsa_cli.documents import read_sources, title
from nsa_cli.engine.engine import Desk
from nsa_cli.events import Event, Note
from nsa_cli.results import Match


def find(
    arguments: Sequence[str], query: str, top: int, options: Options, emit: Callable[[Event], None]
) -> list[Match]:
    """Passages of the sources that a query lights on, best first.

    Args:
        arguments: Paths, folders, globs, or `-` for standard input.
        query: What to look for.
        top: Passages at most.
        options: How to read.
        emit: Receives everything worth showing.

    Raises:
        NsaError: Whatever goes wrong that the user can do something about.
    """
    sources = read_sources(arguments, on_note=lambda text: emit(Note(text=text)))
    desk = Desk(options, emit)
    room = desk.session.prompter.room(query)
    return desk.open(sources, title(arguments, len(sources)), room).find(query, top)

"""`nsa ask --follow`: a text that grows is asked about again, and only what is new is read."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nsa_cli.config.options import Options
from nsa_cli.documents import digest, find_sources, read_sources, title
from nsa_cli.engine.engine import Desk
from nsa_cli.events import Event, Finished, Note
from nsa_cli.kv_store import inventory
from nsa_models.errors import UnreadableError

if TYPE_CHECKING:
    from nsa_cli.engine.open_document import OpenText

_INTERVAL_SECONDS = 1.0

_MOST_LOOKS = 10
"""Looks at a text that never rests, before it is asked about all the same."""

_State = list[tuple[str, int, int]]


def follow(
    arguments: Sequence[str],
    questions: Sequence[str],
    options: Options,
    emit: Callable[[Event], None],
    wait: Callable[[], None] = lambda: time.sleep(_INTERVAL_SECONDS),
) -> Iterator[Iterator[Finished]]:
    """Answer questions, and again whenever what they are about has changed and is at rest.

    Args:
        arguments: Paths, folders or globs.
        questions: What to ask.
        options: How.
        emit: Receives everything worth showing.
        wait: Lets time pass between two looks.

    Yields:
        An answer for each question, each time.

    Raises:
        NsaError: As `nsa_cli.answering.ask.ask` does; not for files that are missing for a while.
    """
    name, began = "", time.monotonic()
    desk = Desk(options, emit)
    last: bytes | None = None
    own: set[Path] = set()
    while True:
        state = _settled(arguments, wait, at_once=last is None)
        try:
            sources = read_sources(arguments, on_note=lambda text: emit(Note(text=text)))
        except UnreadableError:  # a log that is being rotated comes back
            if last is None:
                raise
            wait()
            continue
        content = digest(sources)
        if content != last:
            if last is not None:
                emit(Note(text=f"{name} has changed; asking again"))
                began = time.monotonic()
            name, last = title(arguments, len(sources)), content
            yield desk.answers(sources, name, questions, began)
            own = _superseded(own, desk.opened)
        del sources
        while _state(arguments) in (state, None):
            wait()


def _settled(arguments: Sequence[str], wait: Callable[[], None], *, at_once: bool) -> _State | None:
    """Files that do not change while one waits, so that no line is cut in two.

    None if one that was named is missing.
    """
    state = _state(arguments)
    for _ in range(0 if at_once else _MOST_LOOKS):
        wait()
        before, state = state, _state(arguments)
        if state is not None and state == before:
            break
    return state


def _state(arguments: Sequence[str]) -> _State | None:
    """Names, sizes and times of files; None while one that was named is missing."""
    try:
        found = [each.path for each in find_sources(arguments)]
        stats = [(path, os.stat(path)) for path in found]  # noqa: PTH116
    except (UnreadableError, OSError):
        return None
    return [(path, stat.st_size, stat.st_mtime_ns) for path, stat in stats]


def _superseded(own: set[Path], text: OpenText | None) -> set[Path]:
    """The readings that this run has written of the text as it is; what they supersede goes."""
    if text is None:
        return own
    folders = {
        volume.readings.store.folder(volume.text.ids): volume.reused_tokens < len(volume.text.ids)
        for volume in text.volumes
        if volume.readings.store is not None
    }
    for folder in own - folders.keys():
        inventory.remove_folder(folder)
    return {folder for folder, written in folders.items() if written or folder in own}

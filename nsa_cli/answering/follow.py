"""`nsa ask --follow`: ask again when a file has grown; only the new part is prefilled."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nsa_cli.answering.read import read
from nsa_cli.config.options import Options
from nsa_cli.documents import digest, find_sources, title
from nsa_cli.documents.errors import UnreadableError
from nsa_cli.engine.engine import Engine
from nsa_cli.events import AnswerFinished, Emit, Note
from nsa_cli.kv_store import inventory

if TYPE_CHECKING:
    from nsa_cli.engine.open_document import OpenDocument

_INTERVAL_SECONDS = 1.0

_MOST_LOOKS = 10
"""Checks of a file that keeps changing, before it is asked about all the same."""

_State = list[tuple[str, int, int]]


def follow(
    arguments: Sequence[str],
    questions: Sequence[str],
    options: Options,
    emit: Emit,
    wait: Callable[[], None] = lambda: time.sleep(_INTERVAL_SECONDS),
) -> Iterator[Iterator[AnswerFinished]]:
    """Answer questions, and answer again whenever the files have changed and then stayed the same.

    Args:
        arguments: Paths, folders or globs.
        questions: The questions.
        options: How to read and answer.
        emit: Receives events in order.
        wait: Waits between two checks.

    Yields:
        An answer for each question, each time.

    Raises:
        NsaError: As `nsa_cli.answering.ask.ask` does, except for files that are missing later on.
    """
    name, began = "", time.monotonic()
    engine = Engine(options, emit)
    last: bytes | None = None
    own: set[Path] = set()
    while True:
        state = _settled(arguments, wait, at_once=last is None)
        try:
            sources = read(arguments, options, emit)
        except UnreadableError:  # a rotated log comes back
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
            yield engine.ask(sources, name, questions, began)
            own = _superseded(own, engine.opened)
        del sources
        while _state(arguments) in (state, None):
            wait()


def _settled(arguments: Sequence[str], wait: Callable[[], None], *, at_once: bool) -> _State | None:
    """Wait until the files stop changing, so that no line is cut in two.

    Returns:
        Their state; None if one that the user named is missing.
    """
    state = _state(arguments)
    for _ in range(0 if at_once else _MOST_LOOKS):
        wait()
        before, state = state, _state(arguments)
        if state is not None and state == before:
            break
    return state


def _state(arguments: Sequence[str]) -> _State | None:
    """Return names, sizes and times of files; None if one that the user named is missing."""
    try:
        found = [each.path for each in find_sources(arguments)]
        stats = [(path, os.stat(path)) for path in found]  # noqa: PTH116
    except (UnreadableError, OSError):
        return None
    return [(path, stat.st_size, stat.st_mtime_ns) for path, stat in stats]


def _superseded(own: set[Path], opened: OpenDocument | None) -> set[Path]:
    """Remove what this run stored of earlier states of the files.

    Args:
        own: Folders that this run has stored.
        opened: The document as it is now.

    Returns:
        The folders that this run has stored of the present state.
    """
    if opened is None:
        return own
    folders = {
        window.prefiller.store.folder(window.text.ids): window.reused_tokens < len(window.text.ids)
        for window in opened.windows
        if window.prefiller.store is not None
    }
    for folder in own - folders.keys():
        inventory.remove_folder(folder)
    return {folder for folder, written in folders.items() if written or folder in own}

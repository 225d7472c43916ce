"""Sources as commands read them: notes and progress become events, and URLs are fetched."""

from __future__ import annotations

from collections.abc import Sequence

from nsa_cli.config.options import Options
from nsa_cli.documents import read_sources
from nsa_cli.documents.names import is_url
from nsa_cli.documents.sources import Source
from nsa_cli.documents.urls.access import WebAccess
from nsa_cli.events import Emit, Note, Progress
from nsa_models.hub.offline import offline_variable


def read(arguments: Sequence[str], options: Options, emit: Emit) -> list[Source]:
    """Read sources.

    Args:
        arguments: Paths, folders, globs, URLs, or `-` for standard input.
        options: Whether private addresses may be connected to, and whether responses are stored.
        emit: Receives notes about skipped files, and the progress of fetching.

    Raises:
        NsaError: If what the user named cannot be read.
    """

    def note(text: str) -> None:
        emit(Note(text=text))

    web = web_access(options, emit) if any(map(is_url, arguments)) else None
    return read_sources(arguments, on_note=note, web=web)


def web_access(options: Options, emit: Emit) -> WebAccess:
    """Return how URLs are fetched with some options."""

    def progress(url: str, done: int, total: int) -> None:
        emit(
            Progress(task=f"Fetching {url}", done=done, total=total, unit="bytes", stage="opening")
        )

    offline = offline_variable()
    setter = "--no-network or NSA_OFFLINE" if offline == "NSA_OFFLINE" else offline
    return WebAccess(
        forbidden=f"{setter} forbids the network" if offline else "",
        allow_private=options.allow_private,
        store=options.store,
        on_progress=progress,
    )

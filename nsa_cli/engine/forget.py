"""Removal of all stored data of a document: its readings, parsed text and answers."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nsa_cli.caches.answers import answers_folder
from nsa_cli.caches.documents import parsed_folder
from nsa_cli.caches.json_files import content_hash, is_of, kept_of
from nsa_cli.documents import find_sources, read_source
from nsa_cli.kv_store.inventory import StoredEntry, stored_entries
from nsa_models.errors import NsaError


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """The stored data of a document.

    Attributes:
        readings: Stored KV caches.
        documents: Files with its parsed text.
        answers: Files with answers about it.
    """

    readings: tuple[StoredEntry, ...]
    documents: tuple[Path, ...]
    answers: tuple[Path, ...]


def find_kept(arguments: Sequence[str]) -> Kept:
    """Find the stored data of files and folders.

    A file is recognized by its content under any name, and by its name. A file
    that does not exist any more is recognized by its name.

    Args:
        arguments: Files and folders.
    """
    names = {spelled for argument in arguments for spelled in _spellings(argument)}
    contents = set[str]()
    for argument in arguments:
        if Path(argument).exists():
            contents |= _contents(argument)
    readings = tuple(
        entry
        for entry in stored_entries()
        if not contents.isdisjoint(entry.contents)
        or any(is_of(source, names) for source in (entry.name, *entry.sources))
    )
    documents, answers = (
        tuple(kept_of(folder, contents, names)) for folder in (parsed_folder(), answers_folder())
    )
    return Kept(readings=readings, documents=documents, answers=answers)


def _spellings(name: str) -> set[str]:
    """The ways to write a path."""
    absolute = os.path.abspath(name)  # noqa: PTH100 - links are not resolved
    return {name, os.path.normpath(name), absolute, os.path.relpath(name)}


def _contents(argument: str) -> set[str]:
    """Hashes of the files of a path; files that cannot be read have none."""
    found = set()
    try:
        for each in find_sources([argument]):
            found.add(content_hash(read_source(each.path)[1]))
    except NsaError:
        return found
    return found

"""Removal of all stored data of a document: readings, parsed text, answers, the web page."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urldefrag

from nsa_cli.caches.answers import answers_folder
from nsa_cli.caches.documents import parsed_folder
from nsa_cli.caches.json_files import HASH_LENGTH, content_hash, is_of, kept_of
from nsa_cli.documents import find_sources, read_source
from nsa_cli.documents.names import is_url
from nsa_cli.documents.urls.kept import kept_pages
from nsa_cli.kv_store.inventory import StoredEntry, stored_entries
from nsa_models.errors import NsaError


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """The stored data of a document.

    Attributes:
        readings: Stored KV caches.
        documents: Files with its parsed text.
        answers: Files with answers about it.
        pages: Files of fetched web pages, two for each.
    """

    readings: tuple[StoredEntry, ...]
    documents: tuple[Path, ...]
    answers: tuple[Path, ...]
    pages: tuple[Path, ...]


def find_kept(arguments: Sequence[str]) -> Kept:
    """Find the stored data of files, folders and URLs.

    A file is recognized by its content under any name, and by its name. A file
    that does not exist any more is recognized by its name, and so is a URL.

    Args:
        arguments: Files, folders and URLs.
    """
    names = {spelled for argument in arguments for spelled in _spellings(argument)}
    urls = {urldefrag(each).url for each in arguments if is_url(each)}
    pages = [each for each in kept_pages() if any(is_of(url, urls) for url in each.urls)]
    contents = {page.sha256[:HASH_LENGTH] for page in pages}
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
    files = tuple(path for page in pages for path in page.files)
    return Kept(readings=readings, documents=documents, answers=answers, pages=files)


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

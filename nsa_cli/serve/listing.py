"""The files of the served folder, for the web page."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nsa_cli.documents.sources import may_be_read
from nsa_cli.documents.walk import files_of
from nsa_cli.serve.documents import DocumentStore, RefusedError

MOST_FILES = 100
"""Files of one answer."""


def listing(library: DocumentStore, query: str) -> dict[str, Any]:
    """The files of the served folder that match a query, in order of their paths.

    Hidden, ignored, binary and empty files are left out, as in a question about the folder.

    Args:
        library: The documents that clients may read.
        query: Words that must all occur in a path, in any case; empty for all files.

    Raises:
        RefusedError: If the folder cannot be listed.
    """
    found: list[dict[str, Any]] = []
    more = False
    words = _plain(query).split()
    if library.root is not None:
        root = os.fspath(library.root)
        for path in _paths(root):
            name = os.path.relpath(path, root).replace(os.sep, "/")
            if not all(word in _plain(name) for word in words) or not _is_text(name):
                continue
            size = _size(path)
            if not size or not may_be_read(path):
                continue
            if len(found) == MOST_FILES:
                more = True
                break
            found.append({"id": name, "object": "document", "bytes": size})
    return {
        "object": "list",
        "data": found,
        "has_more": more,
        "root": library.root is not None,
        "fetches_urls": library.fetches_urls,
    }


def _paths(root: str) -> Iterator[str]:
    try:
        yield from files_of(root, lambda *_: None)
    except OSError as error:
        raise RefusedError(
            f"the served folder cannot be listed: {error.strerror or error}",
            hint="check its permissions on the server",
        ) from error


def _plain(text: str) -> str:
    return unicodedata.normalize("NFC", text).casefold()


def _is_text(name: str) -> bool:
    """Whether a name can be sent: names on disk need not be valid UTF-8."""
    return not any("\ud800" <= char <= "\udfff" for char in name)


def _size(path: str) -> int:
    """The size of a file in bytes; 0 if it is gone."""
    try:
        return Path(path).stat().st_size
    except OSError:
        return 0

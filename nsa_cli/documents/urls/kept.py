"""Responses on disk, for requests that ask whether they have changed."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from email.message import Message
from pathlib import Path

from nsa_models.paths import atomic_write, cache_root

_MOST, _MOST_BYTES = 500, 2**30
"""Responses to keep, and their bytes; the least recently used go first."""

_HEADERS = ("ETag", "Last-Modified", "Content-Type", "Content-Disposition")


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A response on disk.

    Attributes:
        url: Where it came from.
        asked: URLs that led to it, by a redirect or directly.
        headers: Those of its headers that are needed again.
        body: Its bytes, decompressed.
    """

    url: str
    asked: frozenset[str]
    headers: dict[str, str]
    body: bytes

    @property
    def conditions(self) -> dict[str, str]:
        """Headers that ask for the document only if it has changed."""
        named = (("If-None-Match", "ETag"), ("If-Modified-Since", "Last-Modified"))
        return {asked: self.headers[kept] for asked, kept in named if kept in self.headers}

    @property
    def message(self) -> Message:
        """The headers as a message."""
        message = Message()
        for name, value in self.headers.items():
            message[name] = value
        return message


def web_folder() -> Path:
    """Return the folder of kept responses."""
    return cache_root() / "web"


def recall(url: str) -> Kept | None:
    """Return the kept response of a URL; None if none is kept, or it is damaged."""
    about, body = _paths(url)
    try:
        facts = json.loads(about.read_text(encoding="utf-8"))
        data = body.read_bytes()
        if facts["url"] != url or facts["sha256"] != hashlib.sha256(data).hexdigest():
            return None
        headers = {name: str(facts["headers"][name]) for name in facts["headers"]}
        asked = frozenset(facts.get("asked", ()))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    with suppress(OSError):  # a read-only disk
        os.utime(about)
    return Kept(url=url, asked=asked, headers=headers, body=data)


def keep(url: str, headers: Message, body: bytes, asked: Collection[str]) -> None:
    """Store a response that can be asked for by its ETag or date; ignore a disk that refuses it.

    Args:
        url: Where it came from.
        headers: Its headers.
        body: Its bytes, decompressed.
        asked: URLs that led to it.
    """
    if not ("ETag" in headers or "Last-Modified" in headers):
        return
    if "no-store" in headers.get("Cache-Control", "").lower():
        return
    about, data = _paths(url)
    facts = {
        "url": url,
        "asked": sorted(asked),
        "sha256": hashlib.sha256(body).hexdigest(),
        "headers": {name: headers[name] for name in _HEADERS if name in headers},
    }
    with suppress(OSError, ValueError):
        folder = about.parent
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
        with atomic_write(data) as partial:
            partial.write_bytes(body)
        with atomic_write(about) as partial:
            partial.write_text(json.dumps(facts), encoding="utf-8")
        _evict(folder)


def kept_files(before: float = float("inf")) -> Iterator[Path]:
    """Yield the files of responses that were last used before a time in seconds."""
    for about in web_folder().glob("*.json"):
        if about.stat().st_mtime < before:
            yield from (about, about.with_suffix(".body"))


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptPage:
    """A response on disk, without its body.

    Attributes:
        urls: Where it came from, and the URLs that led to it.
        sha256: Hash of its body.
        files: Its two files.
    """

    urls: frozenset[str]
    sha256: str
    files: tuple[Path, Path]


def kept_pages() -> Iterator[KeptPage]:
    """Yield the kept responses; damaged ones are left out."""
    for about in sorted(web_folder().glob("*.json")):
        try:
            facts = json.loads(about.read_text(encoding="utf-8"))
            urls = frozenset((facts["url"], *facts.get("asked", ())))
            files = (about, about.with_suffix(".body"))
            found = KeptPage(urls=urls, sha256=str(facts["sha256"]), files=files)
        except (OSError, ValueError, KeyError, TypeError):
            continue
        yield found


def _paths(url: str) -> tuple[Path, Path]:
    name = hashlib.sha256(url.encode("utf-8", "surrogateescape")).hexdigest()[:32]
    return web_folder() / f"{name}.json", web_folder() / f"{name}.body"


def _evict(folder: Path) -> None:
    most, most_bytes = _MOST, _MOST_BYTES
    found = [(about.stat().st_mtime, about) for about in folder.glob("*.json")]
    for _, about in sorted(found, reverse=True):
        body = about.with_suffix(".body")
        most, most_bytes = most - 1, most_bytes - (body.stat().st_size if body.exists() else 0)
        if most < 0 or most_bytes < 0:
            about.unlink(missing_ok=True)
            body.unlink(missing_ok=True)

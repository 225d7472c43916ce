"""Sources for the document names of clients: uploads, files within one folder, and URLs."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from nsa_cli.documents import Document, digest, parse_sources, read_sources
from nsa_cli.documents.names import is_url
from nsa_cli.documents.sources import Found, Source, read_one
from nsa_cli.documents.urls.access import WebAccess
from nsa_cli.serve.uploads import Uploads, is_upload
from nsa_models.errors import NsaError

_MOST_CHARACTERS = 64_000_000
"""Total characters of the parsed documents in memory."""


_MOST_FETCHED = 200_000_000
"""Total bytes of the documents from URLs in memory."""


def _ignore(text: str) -> None:
    """Ignore a note about skipped files; clients do not see them."""
    del text


class RefusedError(NsaError):
    """A document that does not exist or that clients may not read."""

    default_code = "document_refused"


class ParsedDocuments:
    """Parsed documents by digest, in memory; evicts the least recently used."""

    def __init__(self) -> None:
        self._documents: OrderedDict[bytes, Document] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: bytes) -> Document | None:
        """The document of a digest, or None."""
        with self._lock:
            document = self._documents.get(key)
            if document is not None:
                self._documents.move_to_end(key)
            return document

    def put(self, key: bytes, document: Document) -> None:
        """Keep a document; evict others beyond the character limit."""
        with self._lock:
            self._documents[key] = document
            self._documents.move_to_end(key)
            total = sum(len(each.text) for each in self._documents.values())
            while total > _MOST_CHARACTERS and len(self._documents) > 1:
                total -= len(self._documents.popitem(last=False)[1].text)


class DocumentStore:
    """The documents that clients may ask about.

    Args:
        root: The folder whose files clients may name; None for uploads only.
        uploads: Uploaded files.
        ocr: Languages for OCR of scanned pages, or None.
        web: How URLs are fetched; None to refuse them.
    """

    def __init__(
        self,
        root: Path | None,
        uploads: Uploads,
        ocr: str | None = None,
        web: WebAccess | None = None,
    ) -> None:
        self.root = None if root is None else root.resolve(strict=True)
        self.uploads = uploads
        self._ocr = ocr
        self._web = web
        self._fetched: OrderedDict[str, Source] = OrderedDict()
        self._lock = threading.Lock()
        self.parsed = ParsedDocuments()

    @property
    def fetches_urls(self) -> bool:
        """Whether names may be URLs."""
        return self._web is not None

    def sources(self, names: Sequence[str], *, seen: bool = False) -> list[Source]:
        """The sources of names, with the names that citations show.

        Args:
            names: Ids of uploads, paths of files and folders within the root, or URLs.
            seen: Whether a URL that was fetched before is not fetched again, so that a citation
                is shown in the text that was read.

        Raises:
            RefusedError: If a document does not exist or may not be read.
            NsaError: If a document cannot be read.
        """
        found: list[Source] = []
        for name in names:
            if is_upload(name):
                upload = self.uploads.get(name)
                data = self.uploads.read(name)
                found.append(Source(name=upload.filename, data=data, named=True))
            elif is_url(name):
                found.append(self._fetch(name, seen=seen))
            else:
                found += self._within(name)
        return found

    def document(self, sources: Sequence[Source], name: str) -> Document:
        """Sources as one document, parsed once.

        Raises:
            NsaError: If the sources cannot be parsed.
        """
        key = digest(sources)
        document = self.parsed.get(key)
        if document is None:
            document = parse_sources(sources, name, ocr=self._ocr, on_note=_ignore)
            self.parsed.put(key, document)
        return document

    def _fetch(self, url: str, *, seen: bool) -> Source:
        """Fetch a URL, and keep the last ones."""
        if self._web is None:
            raise RefusedError(
                f"this server fetches no URLs: {url}",
                hint="upload the file, or start the server with --fetch-urls",
            )
        with self._lock:
            found = self._fetched.get(url) if seen else None
        if found is None:
            found = read_one(Found(path=url, named=True), on_note=_ignore, web=self._web)
        with self._lock:
            self._fetched[url] = found
            self._fetched.move_to_end(url)
            total = sum(len(each.data) for each in self._fetched.values())
            while total > _MOST_FETCHED and len(self._fetched) > 1:
                total -= len(self._fetched.popitem(last=False)[1].data)
        return found

    def _within(self, name: str) -> list[Source]:
        path = self._path(name)
        assert self.root is not None
        inside = len(os.fspath(self.root).rstrip("/")) + 1
        try:
            sources = read_sources([os.fspath(path)], on_note=_ignore)
        except NsaError as error:
            error.message = self._without_root(error.message)
            error.hint = self._without_root(error.hint)
            raise
        return [replace(source, name=source.name[inside:]) for source in sources]

    def _path(self, name: str) -> Path:
        """The file or folder of a name within the root, with links resolved.

        All failures give the same message, so that clients learn nothing about other folders.
        """
        if self.root is None:
            raise _not_found(name, "upload it with POST /v1/files, or start the server with --root")
        parts = Path(name).parts
        if not parts or "\0" in name or name.startswith(("/", "~")) or ".." in parts:
            raise RefusedError(
                f"{name!r} is not a path within the served folder",
                hint="give a path relative to it, without `..` and a leading `/`",
            )
        if any(part.startswith(".") for part in parts):
            raise RefusedError(f"{name!r} is hidden", hint="hidden files are not served")
        try:
            path = (self.root / name).resolve(strict=True)
            inside = path.relative_to(self.root)
            allowed = path.is_dir() or path.is_file()
        except (OSError, ValueError, RuntimeError):
            allowed = False
        if not allowed or any(part.startswith(".") for part in inside.parts):
            raise _not_found(name, "give its path relative to the served folder")
        return path

    def _without_root(self, text: str) -> str:
        """A message without the path of the root."""
        return text.replace(f"{self.root}/", "").replace(f"{self.root}", "the folder")


def _not_found(name: str, hint: str) -> RefusedError:
    return RefusedError(f"document {name!r} not found", hint=hint, code="document_not_found")

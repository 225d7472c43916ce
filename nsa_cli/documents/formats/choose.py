"""Which format some bytes have."""

from __future__ import annotations

import importlib
import re
from pathlib import PurePath
from typing import Any

from nsa_cli.documents.byte_forms import as_utf8
from nsa_cli.documents.compressed import MOST_FORMAT_BYTES, too_large
from nsa_cli.documents.document import Document
from nsa_cli.documents.errors import UnreadableError
from nsa_cli.documents.formats.archive import container_of
from nsa_cli.documents.formats.mail_head import looks_like_mail
from nsa_cli.documents.formats.pictures import with_pictures
from nsa_cli.documents.signatures import COMPOUND, OLDEST_SHEETS

_HTML = re.compile(rb"\s*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)*<(?:!doctype\s+html|html)\b", re.I)
_XML = re.compile(rb"\s*<\?xml\s")
_BY_SUFFIX = {
    ".html": "web",
    ".htm": "web",
    ".xhtml": "web",
    ".ipynb": "notebook",
    ".eml": "mail",
    ".mht": "mail",
    ".mhtml": "mail",
    ".mbox": "mail",
    ".csv": "delimited",
    ".tsv": "delimited",
    ".tab": "delimited",
    ".json": "records",
    ".jsonl": "records",
    ".ndjson": "records",
    ".geojson": "records",
    ".xml": "markup",
    ".srt": "subtitles",
    ".vtt": "subtitles",
}
_WITHOUT_LIMIT = frozenset(["delimited", "records", "markup"])
"""Readers that fall back to plain text, which has another limit."""


_ILLUSTRATED = frozenset(["word", "slides", "sheets", "open_document", "book", "web"])
"""Readers of formats that may hold pictures."""


def read_format(
    data: bytes, name: str, *, hidden: bool = False, ocr: str | None = None
) -> Document | None:
    """Read some bytes if they have one of the formats of this package; None if not.

    Args:
        data: The file.
        name: Its name, for its suffix and for messages.
        hidden: Whether text that a reader does not see is read.
        ocr: Languages in which pictures are read, or None.

    Raises:
        UnreadableError: If the file is damaged, has no text, or needs a library that is missing.
        DoesNotFitError: If it unpacks to more than can be taken in.
    """
    kind = kind_of(data, name)
    if kind is None or not data.strip():
        return None
    if len(data) > MOST_FORMAT_BYTES and not data.startswith(b"PK"):
        if kind in _WITHOUT_LIMIT:
            return None
        raise too_large(name, "holds more than 64 MB")
    reader = importlib.import_module(f"nsa_cli.documents.formats.{kind}")
    if kind not in _ILLUSTRATED:
        document: Document | None = reader.read(data, name, hidden=hidden)
        return document
    return _illustrated(reader, data, name, kind, hidden=hidden, ocr=ocr)


def _illustrated(
    reader: Any, data: bytes, name: str, kind: str, *, hidden: bool, ocr: str | None
) -> Document | None:
    """Read a document that may have pictures with text in them, and no other text."""
    try:
        document: Document | None = reader.read(data, name, hidden=hidden)
    except UnreadableError as error:
        if error.code != "empty" or (found := with_pictures(None, data, kind, name, ocr)) is None:
            raise
        return found
    return with_pictures(document, data, kind, name, ocr)


def kind_of(data: bytes, name: str) -> str | None:
    """The module that reads some bytes: by their first ones, then by the suffix of the name."""
    if data.startswith((COMPOUND, *OLDEST_SHEETS)):
        return "compound"
    if data.lstrip()[:5] == rb"{\rtf":
        return "rich_text"
    kind = container_of(data, name) or _BY_SUFFIX.get(PurePath(name).suffix.lower())
    if kind is not None:
        return kind
    head = as_utf8(data[:2048])
    if _HTML.match(head):
        return "web"
    if _XML.match(head):
        return "markup"
    if head.startswith(b"WEBVTT"):
        return "subtitles"
    return "mail" if looks_like_mail(data) else None

"""Content types: the format of a response, as a suffix that readers know."""

from __future__ import annotations

import re
from email.message import Message
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

from nsa_cli.documents.errors import UnreadableError

_SUFFIXES = {
    "application/pdf": ".pdf",
    "application/x-pdf": ".pdf",
    "text/html": ".html",
    "application/xhtml+xml": ".xhtml",
    "text/csv": ".csv",
    "text/tab-separated-values": ".tsv",
    "application/json": ".json",
    "application/geo+json": ".geojson",
    "application/x-ipynb+json": ".ipynb",
    "application/x-ndjson": ".jsonl",
    "application/jsonl": ".jsonl",
    "application/xml": ".xml",
    "text/xml": ".xml",
    "text/markdown": ".md",
    "text/vtt": ".vtt",
    "application/x-subrip": ".srt",
    "application/mbox": ".mbox",
    "message/rfc822": ".eml",
    "multipart/related": ".mhtml",
    "application/rtf": ".rtf",
    "text/rtf": ".rtf",
    "application/epub+zip": ".epub",
    "application/msword": ".doc",
    "application/vnd.ms-excel": ".xls",
    "application/vnd.ms-powerpoint": ".ppt",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": ".docx",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": ".xlsx",
    "application/vnd.openxmlformats-officedocument.presentationml.presentation": ".pptx",
    "application/vnd.oasis.opendocument.text": ".odt",
    "application/vnd.oasis.opendocument.spreadsheet": ".ods",
    "application/vnd.oasis.opendocument.presentation": ".odp",
}
_REFUSED = {
    "image": "an image",
    "audio": "a sound file",
    "video": "a video",
    "font": "a font",
    "model": "a 3D model",
}
_PAGES = (".html", ".htm", ".xhtml")
_SUFFIX = re.compile(r"\.\w{1,8}")


def suffix_of(headers: Message, url: str) -> str:
    """Return the suffix of a response's format, such as `.html`, or an empty string.

    The content type decides. Plain text, bytes of no declared kind and unknown types take the
    suffix of the file's name, if it has one.

    Args:
        headers: The response's headers.
        url: Where it came from.

    Raises:
        UnreadableError: If the content type is no document's, such as `image/png`.
    """
    kind = headers.get_content_type() if "Content-Type" in headers else ""
    main = kind.partition("/")[0]
    if main in _REFUSED:
        raise UnreadableError(
            f"{url} is {_REFUSED[main]} ({kind})", hint="name a document", code="binary"
        )
    if kind in _SUFFIXES:
        return _SUFFIXES[kind]
    name = headers.get_filename() or unquote(urlsplit(url).path)
    suffix = PurePosixPath(name).suffix.lower()
    if kind == "text/plain" and suffix in _PAGES:
        return ".txt"
    if kind.endswith("+json"):
        return ".json"
    if kind.endswith("+xml"):
        return ".xml"
    return suffix if _SUFFIX.fullmatch(suffix) else ""


def named_as(url: str) -> str:
    """Return the suffix of the name that a URL ends with, or an empty string."""
    return PurePosixPath(unquote(urlsplit(url).path)).suffix.lower()

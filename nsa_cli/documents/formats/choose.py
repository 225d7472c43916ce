"""Which format some bytes have."""

from __future__ import annotations

import importlib
import re
from pathlib import PurePath

from nsa_cli.documents.compressed import MOST_FORMAT_BYTES, too_large
from nsa_cli.documents.document import Document
from nsa_cli.documents.formats.archive import container_of

_HTML = re.compile(rb"\s*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)*<(?:!doctype\s+html|html)\b", re.I)
_BY_SUFFIX = {
    ".html": "web",
    ".htm": "web",
    ".xhtml": "web",
    ".ipynb": "notebook",
    ".eml": "mail",
}


def read_format(data: bytes, name: str) -> Document | None:
    """Read some bytes if they have one of the formats of this package; None if not.

    Args:
        data: The file.
        name: Its name, for its suffix and for messages.

    Raises:
        UnreadableError: If the file is damaged, has no text, or needs a library that is missing.
        DoesNotFitError: If it unpacks to more than can be taken in.
    """
    kind = container_of(data, name)
    if kind is None:
        kind = _BY_SUFFIX.get(PurePath(name).suffix.lower())
    if kind is None and _HTML.match(data[:2048]):
        kind = "web"
    if kind is None or not data.strip():
        return None
    if kind in _BY_SUFFIX.values() and len(data) > MOST_FORMAT_BYTES:
        raise too_large(name, "holds more than 64 MB")
    reader = importlib.import_module(f"nsa_cli.documents.formats.{kind}")
    document: Document = reader.read(data, name)
    return document

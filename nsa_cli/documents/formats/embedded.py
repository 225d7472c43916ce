"""Files inside office packages: embedded objects and imported documents."""

from __future__ import annotations

import io
import posixpath
from typing import Any

from nsa_cli.documents.formats.attachments import Attachments
from nsa_cli.documents.missing import need

_COMPOUND = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_NATIVE = "\x01Ole10Native"
_WHOLE = {"WordDocument": ".doc", "Workbook": ".xls", "Book": ".xls", "PowerPoint Document": ".ppt"}
_KNOWN = (b"PK\x03\x04", b"%PDF-", rb"{\rtf")
_MOST_NAME = 260


def take_embedded(part: Any, attachments: Attachments) -> bool:
    """Read the file of an embedded object.

    Args:
        part: Of the package, with `partname` and `blob`.
        attachments: Reads it, or warns about it.

    Returns:
        Whether a file was found; an object that only its program knows has none.
    """
    found = _file_of(posixpath.basename(str(part.partname)), part.blob)
    if found is None:
        return False
    attachments.take(found[0], "application/octet-stream", found[1])
    return True


def _file_of(name: str, data: bytes) -> tuple[str, bytes] | None:
    """Name and bytes of the file in an embedded object, or None."""
    if data.startswith(_KNOWN):
        suffix = ".pdf" if data.startswith(b"%PDF-") else posixpath.splitext(name)[1]
        return posixpath.splitext(name)[0] + suffix, data
    if not data.startswith(_COMPOUND):
        return None
    olefile = need("olefile", "olefile", "embedded objects")
    try:
        with olefile.OleFileIO(io.BytesIO(data)) as container:
            return _in_container(container, posixpath.splitext(name)[0], data)
    except MemoryError:
        raise
    except Exception:  # olefile leaks exceptions of many types from damaged containers.
        return None


def _in_container(container: Any, stem: str, data: bytes) -> tuple[str, bytes] | None:
    if container.exists(_NATIVE):
        return _native(container.openstream(_NATIVE).read(), stem)
    for stream in ("Package", "CONTENTS", "Contents"):
        if container.exists(stream):
            inside = container.openstream(stream).read()
            if inside.startswith(_KNOWN):
                return stem + (".pdf" if inside.startswith(b"%PDF-") else ""), inside
    for stream, suffix in _WHOLE.items():
        if container.exists(stream):
            return stem + suffix, data
    return None


def _native(data: bytes, stem: str) -> tuple[str, bytes] | None:
    """The file that the packager of Windows put into an object: names, then size and bytes."""
    at = 6  # The size of all, and two bytes of flags.
    names = []
    for skipped in (0, 4):
        end = data.find(b"\0", at, at + _MOST_NAME)
        if end < 0:
            return None
        names.append(data[at:end].decode("cp1252", "replace"))
        at = end + 1 + skipped
    length = int.from_bytes(data[at : at + 4], "little")  # Of the temporary file's name.
    at += 4 + length
    size = int.from_bytes(data[at : at + 4], "little")
    inside = data[at + 4 : at + 4 + size]
    name = names[0].replace("\\", "/").rpartition("/")[2] or stem
    return (name, inside) if inside else None

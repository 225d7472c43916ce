"""Zip containers of office files and books, checked before anything in them is unpacked."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from nsa_cli.documents.errors import UnreadableError
from nsa_cli.documents.signatures import identify
from nsa_models.errors import DoesNotFitError, NsaError

_MOST_BYTES = 512 * 1024 * 1024
"""Bytes that all members may unpack to; pictures in a presentation count too."""

_MOST_TEXT = 256 * 1024 * 1024
_MOST_RATIO = 250
_MOST_MEMBERS = 50_000
_MOST_HEAD = 1_000_000

_MAIN_PARTS = {
    "word/document.xml": "word",
    "xl/workbook.xml": "sheets",
    "ppt/presentation.xml": "slides",
}
_MAIN_TYPES = (
    (b"wordprocessingml.document.main+xml", "word"),
    (b"ms-word.document.macroEnabled.main+xml", "word"),
    (b"spreadsheetml.sheet.main+xml", "sheets"),
    (b"presentationml.presentation.main+xml", "slides"),
    (b"presentationml.slideshow.main+xml", "slides"),
    (b"presentationml.template.main+xml", "slides"),
    (b"ms-powerpoint.", "slides"),
)
"""Content types of main parts that have another name than the usual one."""

_OPEN_DOCUMENT = b"application/vnd.oasis.opendocument."


def container_of(data: bytes, name: str) -> str | None:
    """Which reader a zip container needs, or None where it is none that can be read.

    Raises:
        DoesNotFitError: If it is one, and unpacks to more than a document would.
        UnreadableError: If it begins like an Office file or a book, and its end is missing.
    """
    if not data.startswith(b"PK\x03\x04"):
        return None
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
            kind = _kind_of(archive)
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError, EOFError, zlib.error):
        _refuse_cut(data, name)
        return None
    if kind is not None:
        _refuse_bomb(members, name)
    return kind


def _refuse_cut(data: bytes, name: str) -> None:
    """Raise for an Office file or a book whose archive cannot be listed."""
    signature = identify(data)
    if signature is not None and signature.is_document:
        raise UnreadableError(
            f"{name} looks like {signature.looks_like} that is cut off: its end is missing",
            hint="get it again",
            code="broken",
        )


def _kind_of(archive: zipfile.ZipFile) -> str | None:
    names = set(archive.namelist())
    if "mimetype" in names:
        if "META-INF/container.xml" in names:
            return "book"
        if "content.xml" in names and _head(archive, "mimetype").startswith(_OPEN_DOCUMENT):
            return "open_document"
    usual = {name.replace("\\", "/").lower() for name in names}
    for part, kind in _MAIN_PARTS.items():
        if part in usual:
            return kind
    if "[Content_Types].xml" not in names:
        return None
    types = _head(archive, "[Content_Types].xml")
    return next((kind for content_type, kind in _MAIN_TYPES if content_type in types), None)


def _head(archive: zipfile.ZipFile, name: str) -> bytes:
    with archive.open(name) as member:
        return member.read(_MOST_HEAD)


def _refuse_bomb(members: list[zipfile.ZipInfo], name: str) -> None:
    """Raise for an archive that unpacks to far more than it holds.

    The sizes are those that the archive declares: a member is never unpacked past its own.
    """
    total = sum(member.file_size for member in members)
    text = sum(
        member.file_size
        for member in members
        if member.filename.endswith((".xml", ".rels", ".html", ".xhtml", ".htm"))
    )
    swollen = any(
        member.file_size > 10_000_000
        and member.file_size > _MOST_RATIO * max(1, member.compress_size)
        for member in members
    )
    if swollen or total > _MOST_BYTES or text > _MOST_TEXT or len(members) > _MOST_MEMBERS:
        raise DoesNotFitError(
            f"{name} would unpack to {total / 1e6:,.0f} MB in {len(members):,} parts, "
            "like a zip bomb",
            hint="check where it comes from, or convert it to PDF",
            code="zip_bomb",
        )


@contextmanager
def as_broken(name: str, what: str) -> Iterator[None]:
    """Turn any exception of a library on a damaged file into `broken`."""
    try:
        yield
    except (NsaError, MemoryError):
        raise
    except Exception as error:
        lines = str(error).splitlines()
        cause = lines[0][:120] if lines else type(error).__name__
        raise UnreadableError(
            f"{name} is a damaged {what} ({cause})",
            hint="get it again, or open it and save it again",
            code="broken",
        ) from error


def protected(name: str) -> UnreadableError:
    """The error for an Office file that a password opens."""
    return UnreadableError(
        f"{name} is protected by a password",
        hint="open it in its program and save a copy without the password",
        code="encrypted",
    )

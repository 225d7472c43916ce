"""One source, a path or standard input, becomes a document."""

from __future__ import annotations

import difflib
import os
import re
import stat
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from nsa_cli.documents.build import select_pages
from nsa_cli.documents.compressed import MOST_BYTES, decompress, is_compressed, too_large
from nsa_cli.documents.document import Document
from nsa_cli.documents.errors import UnreadableError
from nsa_cli.documents.formats import read_format
from nsa_cli.documents.names import is_url
from nsa_cli.documents.pages import PageRanges
from nsa_cli.documents.signatures import identify
from nsa_cli.documents.text import read_text
from nsa_cli.documents.urls.access import not_fetched
from nsa_models.errors import NsaError

STDIN_NAME = "stdin"
"""How citations name standard input."""

_CONTROLS = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f]")
"""Control characters except those that break lines or set tabs."""

_PDF_MAGIC = b"%PDF-"
_PDF_MAGIC_WITHIN = 65_536
"""Bytes within which the magic of a file named .pdf begins; mail gateways put some before it."""


def read_source(source: str, *, stdin: BinaryIO | None = None) -> tuple[str, bytes]:
    """The name that citations give a source, and its bytes.

    Args:
        source: A path, or `-` for standard input.
        stdin: What to read for `-`; the standard input of the process when None.

    Raises:
        UnreadableError: The source cannot be read; its `code` says why.
    """
    if is_url(source):
        raise not_fetched(source)
    if source == "-":
        opened = stdin or (sys.stdin.buffer if sys.stdin is not None else None)
        return STDIN_NAME, opened.read() if opened is not None else b""
    return source, _read_file(source)


def parse_document(
    name: str,
    data: bytes,
    *,
    password: str | None = None,
    on_page: Callable[[int, int], None] | None = None,
    pages: PageRanges | None = None,
    ocr: str | None = None,
    hidden: bool = False,
    suffix: str = "",
) -> Document:
    """Turn the bytes of a source into a document.

    Args:
        name: From `read_source`.
        data: A PDF or another format, told by its first bytes or the name's suffix, so that one
            piped in works too; or text; or any of these compressed.
        password: The password of an encrypted PDF; not used for other files.
        on_page: Called with the pages done and the pages in all, after each page of a PDF.
        pages: Those to read; all when None.
        ocr: Languages in which pages without text are read from their pictures, or None.
        hidden: Whether to read text that a reader does not see.
        suffix: The suffix that tells the format, where the name does not.

    Raises:
        UnreadableError: The bytes cannot be read; its `code` says why.
        DoesNotFitError: They hold more text than can be taken in.
        UsageError: It has none of the pages.
    """
    shared: Any = {
        "password": password,
        "on_page": on_page,
        "pages": pages,
        "ocr": ocr,
        "hidden": hidden,
    }
    if is_compressed(data):
        data, inside = decompress(data, name)
        return _renamed(parse_document(inside, data, **shared), inside, name)
    if suffix and not name.lower().endswith(suffix):
        inside = name + suffix
        try:
            return _renamed(parse_document(inside, data, **shared), inside, name)
        except NsaError as error:
            error.message = error.message.replace(inside, name)
            error.hint = error.hint.replace(inside, name)
            raise
    named_pdf = name.lower().endswith(".pdf")
    if named_pdf and data and _PDF_MAGIC not in data[:_PDF_MAGIC_WITHIN]:
        raise _not_a_pdf(data, name)
    if data and (named_pdf or data.lstrip()[: len(_PDF_MAGIC)] == _PDF_MAGIC):
        from nsa_cli.documents.pdf import read_pdf  # pypdf takes a while to import

        parse = partial(parse_document, hidden=hidden)
        return _without_controls(read_pdf(data, name, parse=parse, **shared))
    found = read_format(data, name, hidden=hidden, ocr=ocr)
    if found is None and len(data) > MOST_BYTES:
        raise too_large(name, "holds more than 512 MB of text")
    document = _without_controls(found or read_text(data, name))
    return document if pages is None else select_pages(document, pages)


def _without_controls(document: Document) -> Document:
    """Replace control characters by spaces: a terminal that shows them would obey them."""
    if _CONTROLS.search(document.text) is None:
        return document
    text = _CONTROLS.sub(" ", document.text)
    if not text.strip():
        raise UnreadableError(
            f"{document.name} contains nothing but control characters and white space",
            hint="name a file with text in it",
            code="empty",
        )
    return replace(document, text=text)


def _renamed(document: Document, inside: str, name: str) -> Document:
    """Return a document that was parsed under another name with its own."""
    pieces = tuple(
        replace(piece, source=name + piece.source.removeprefix(inside)) for piece in document.pieces
    )
    tables = tuple(
        replace(table, source=name + table.source.removeprefix(inside)) for table in document.tables
    )
    return replace(document, name=name, pieces=pieces, tables=tables)


def _read_file(source: str) -> bytes:
    """The bytes of a regular file or a pipe; each failure has its own code."""
    path = Path(source)
    try:
        mode = path.stat().st_mode if source else stat.S_IFDIR
        if stat.S_ISDIR(mode):
            raise IsADirectoryError
        if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode)):
            raise UnreadableError(
                f"{source} is a device, not a file",
                hint="name a file, or - for standard input",
                code="not_a_file",
            )
        return _read_regular(path, source)
    except IsADirectoryError as error:
        raise UnreadableError(
            f"{source or 'an empty name'} is a folder, not a file",
            hint="name a file inside it",
            code="not_a_file",
        ) from error
    except PermissionError as error:
        raise UnreadableError(
            f"{source} may not be read",
            hint="check its permissions with `ls -l`",
            code="permission",
        ) from error
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UnreadableError(
            f"{source} does not exist", hint=_missing_hint(path), code="missing"
        ) from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise UnreadableError(
            f"{source!r} cannot be read ({reason})", hint="check the path and the disk"
        ) from error


def _read_regular(path: Path, source: str) -> bytes:
    """Read a file, unless it looks like text and is longer than any text that nsa reads."""
    with path.open("rb") as file:
        head = file.read(_PDF_MAGIC_WITHIN)
        rest = file.read(MOST_BYTES)
        if len(rest) == MOST_BYTES and _PDF_MAGIC not in head and not head.startswith(b"PK"):
            raise too_large(source, "holds more than 512 MB")
        return head + rest + file.read()


def _missing_hint(path: Path) -> str:
    """Name the file that was probably meant, if its folder has one."""
    if path.is_symlink():
        return f"it is a link to {path.readlink()}, which is missing"
    try:
        beside = os.listdir(path.parent)  # noqa: PTH208 - names are all that is needed
    except OSError:
        return f"the folder {path.parent} cannot be listed either; check the path"
    close = difflib.get_close_matches(path.name, beside, n=1)
    return f"did you mean {path.parent / close[0]}?" if close else "check the path"


def _not_a_pdf(data: bytes, name: str) -> UnreadableError:
    """The error for a file that is named .pdf but is not a PDF."""
    signature = identify(data)
    head = data[:_PDF_MAGIC_WITHIN].lstrip().lower()
    if signature is not None:
        what, hint = signature.looks_like, "name it after what it is, or get the PDF again"
    elif head.startswith((b"<!doctype html", b"<html")):
        what, hint = "a web page", "download the PDF itself; a login or error page came instead"
    elif b"\0" not in data and data.isascii():
        what, hint = "plain text", "give it the suffix .txt"
    else:
        what, hint = "data of an unknown kind", "get the PDF again"
    return UnreadableError(f"{name} is not a PDF; it looks like {what}", hint=hint, code="broken")

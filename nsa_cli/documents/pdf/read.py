"""PDF files become documents, page by page."""

from __future__ import annotations

import mimetypes
import shlex
import unicodedata
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from pypdf import PageObject, PdfReader

from nsa_cli.documents.document import Document, Piece
from nsa_cli.documents.errors import UnreadableError
from nsa_cli.documents.hyphens import mend_hyphens
from nsa_cli.documents.pages import PageRanges
from nsa_cli.documents.pdf.attachments import read_attachments
from nsa_cli.documents.pdf.clean import clean
from nsa_cli.documents.pdf.messages import (
    about_damaged,
    about_fields,
    about_hidden,
    about_pages,
    about_unreadable,
)
from nsa_cli.documents.pdf.page import PageReader, PageText
from nsa_cli.documents.pdf.structure import (
    as_broken,
    broken,
    damage_warning,
    open_structure,
    page_labels,
    quiet_libraries,
    repaired,
    without_preamble,
)
from nsa_cli.documents.pdf.xfa import is_xfa, xfa_text
from nsa_models.errors import NsaError

PAGE_BREAK = "\n\n"
"""The text between two pages: a blank line, which belongs to neither."""

_WITHOUT_WORDS = ("image/", "audio/", "video/", "font/")
"""Media types of attached files without text; the text of the PDF gives their names."""

OnPage = Callable[[int, int], None]
Parser = Callable[[str, bytes], Document]


def read_pdf(
    path_or_bytes: str | Path | bytes,
    name: str,
    *,
    password: str | None,
    on_page: OnPage | None = None,
    pages: PageRanges | None = None,
    ocr: str | None = None,
    hidden: bool = False,
    parse: Parser | None = None,
) -> Document:
    """Read the text of a PDF into a document of one piece per page that has text.

    The text is what the page shows, values of form fields and annotations included, in reading
    order and in NFC; `clean` and `mend_hyphens` say what is changed in it. Comments follow their
    page, attached files the last page. Warnings name what is missing.

    Args:
        path_or_bytes: The file, or its bytes.
        name: The path as the user typed it, for citations and messages.
        password: The password, or None; a PDF with an empty password opens without.
        on_page: Called with the pages done and the pages in all, after each.
        pages: Those to read; all when None.
        ocr: Languages in which pages without readable text are read from their pictures, or None.
        hidden: Whether text that the page does not show is read too.
        parse: Parses an embedded file from its name and bytes; with None they are only named.

    Raises:
        UsageError: It has none of these pages.
        UnreadableError: The file is damaged (`broken`), needs another password (`encrypted`),
            has no page (`empty`), or has pages but no text on any (`scanned`).
    """
    data = path_or_bytes if isinstance(path_or_bytes, bytes) else Path(path_or_bytes).read_bytes()
    data = without_preamble(data)
    read = partial(
        _read_pdf,
        name=name,
        password=password,
        on_page=on_page,
        pages=pages,
        ocr=ocr,
        hidden=hidden,
        parse=parse,
    )
    try:
        return read(data)
    except UnreadableError as error:
        mended = repaired(data, password) if error.code == "broken" else None
        document = None
        if mended is not None:
            with suppress(UnreadableError):
                document = read(mended)
        if document is None:
            raise
        note = damage_warning(["its structure was repaired"])
        return replace(document, warnings=(*document.warnings, *note))


def _read_pdf(
    data: bytes,
    *,
    name: str,
    password: str | None,
    on_page: OnPage | None,
    pages: PageRanges | None,
    ocr: str | None,
    hidden: bool,
    parse: Parser | None,
) -> Document:
    """`read_pdf` of a file whose structure pypdf can read."""
    with quiet_libraries() as complaints:
        reader = open_structure(data, name, password)
        with as_broken(name):
            sheets = list(reader.pages)
        of_structure = len(complaints)
        read = _read_pages(data, sheets, name, password, on_page, pages, hidden)
        if not any(page.by_pypdf for page in read.values()):
            del complaints[of_structure:]  # About text that was not taken.
        damage = damage_warning(complaints)
        complaints.clear()
        labels = page_labels(reader, max(read, default=0))
        damage += ("the page labels are damaged",) if complaints else ()
        extra, shown, notes = _inside(reader, read, name, parse, pages)
    if not read:
        raise UnreadableError(
            f"{name} has no pages", hint="name a PDF with text in it", code="empty"
        )
    seen = _recognize(data, read, ocr, name, password, on_page)
    texts = _texts(read)
    if not any(texts) and not extra:
        raise _without_text(name, ocr, read)
    texts = _with_names(texts, shown)
    warnings = (*_about_text(texts, read, seen, ocr), *_about(read, ocr), *notes, *damage)
    return _document(name, texts, labels, extra, warnings)


def _texts(read: dict[int, PageText]) -> list[str]:
    """The text of each page up to the last that was read, empty for those that were not."""
    texts = [""] * max(read)
    for number, page in read.items():
        texts[number - 1] = clean(page.text)
    return [unicodedata.normalize("NFC", text) for text in mend_hyphens(texts)]


def _with_names(texts: Sequence[str], shown: Sequence[str]) -> list[str]:
    """Add the names of attached files without text to the last page that has text."""
    named = list(texts)
    for at in reversed(range(len(named))):
        if named[at]:
            named[at] = "\n".join([named[at], *(f"Attached file: {name}" for name in shown)])
            break
    return named


def _read_pages(
    data: bytes,
    sheets: Sequence[PageObject],
    name: str,
    password: str | None,
    on_page: OnPage | None,
    pages: PageRanges | None,
    hidden: bool,
) -> dict[int, PageText]:
    """The wanted pages by number."""
    read: dict[int, PageText] = {}
    with PageReader(data, password, hidden=hidden) as reader:
        count = max(len(sheets), len(reader))
        numbers = list(range(1, count + 1))
        if pages is not None and numbers:
            pages.check(numbers, name)
            numbers = [number for number in numbers if number in pages]
        for done, number in enumerate(numbers, start=1):
            sheet = sheets[number - 1] if number <= len(sheets) else None
            with as_broken(name, f"at page {number}"):
                read[number] = reader.read(number - 1, sheet)
            if on_page is not None:
                on_page(done, len(numbers))
    return read


def _recognize(
    data: bytes,
    read: dict[int, PageText],
    ocr: str | None,
    name: str,
    password: str | None,
    on_page: OnPage | None,
) -> list[int]:
    """Read pages without readable text by OCR; returns their numbers."""
    if ocr is None:
        return []
    wanted = [
        number
        for number, page in read.items()
        if (not clean(page.text) and not page.blank) or page.unreadable > _WORTH_OCR
    ]
    if wanted:
        from nsa_cli.documents.ocr import recognize

        found = recognize(data, wanted, ocr, name, password=password, on_page=on_page)
        for number, text in found.items():
            if text.strip():
                read[number].text, read[number].unreadable = text, 0.0
    return wanted


_WORTH_OCR = 0.3
"""Share of unreadable words from which the picture of a page is read instead."""


def _without_text(name: str, ocr: str | None, read: dict[int, PageText]) -> UnreadableError:
    """The error for a PDF that has no text on any page."""
    for number, page in read.items():
        if page.damaged:
            return broken(name, page.damaged, f"at page {number}")
    hidden = sum(page.hidden.total() for page in read.values())
    if hidden:
        return UnreadableError(
            f"{name} has no visible text, but {hidden} words of hidden text",
            hint="read them with --hidden",
            code="scanned",
        )
    return UnreadableError(
        f"{name} has no text layer (scanned?)" if ocr is None else f"{name} has no text",
        hint=f"read it with --ocr eng, or run `ocrmypdf {shlex.quote(name)} out.pdf` first"
        if ocr is None
        else "try another language with --ocr",
        code="scanned",
    )


def _about_text(
    texts: Sequence[str], read: dict[int, PageText], seen: Sequence[int], ocr: str | None
) -> tuple[str, ...]:
    """Warnings about pages that were read by OCR, have no text, or are damaged."""
    by_ocr = [number for number in seen if texts[number - 1]]
    blank = [number for number in read if not texts[number - 1] and not read[number].blank]
    damaged = {number: read[number].damaged for number in blank if read[number].damaged}
    without = "no text" if ocr is not None else "no text (scanned? --ocr reads them)"
    return (
        *about_pages(by_ocr, "read by OCR, which may be wrong in places", past=True),
        *about_pages([number for number in blank if number not in damaged], without),
        *about_damaged(damaged),
    )


def _about(read: dict[int, PageText], ocr: str | None) -> tuple[str, ...]:
    """Warnings about what the pages hold and the text lacks."""
    shares = {number: page.unreadable for number, page in read.items() if page.unreadable}
    fields = {n: page.unreadable_fields for n, page in read.items() if page.unreadable_fields}
    hidden = {number: page.hidden for number, page in read.items() if page.hidden}
    return (
        *about_unreadable(shares, ocr=ocr is not None),
        *about_fields(fields),
        *about_hidden(hidden),
    )


def _attached(
    reader: PdfReader, read: dict[int, PageText], name: str, parse: Parser | None
) -> tuple[list[Document], list[str], tuple[str, ...]]:
    """The documents attached to a PDF, the names of pictures and sounds, and warnings.

    A warning names the files that hold text and cannot be read.
    """
    annotated = [number - 1 for number, page in read.items() if page.annotated]
    documents: list[Document] = []
    left: list[str] = []
    shown: list[str] = []
    try:
        found = read_attachments(reader, annotated)
    except MemoryError:
        raise
    except Exception:  # pypdf leaks exceptions of many types from damaged files.
        return [], [], ("the list of attached files is damaged",)
    for attachment in found:
        inside = f"{name}/{attachment.name}"
        if attachment.data is None or parse is None:
            left.append(attachment.name)
            continue
        try:
            if attachment.data.lstrip()[:5] == b"%PDF-":
                document = read_pdf(attachment.data, inside, password=None)
            else:
                document = parse(inside, attachment.data)
        except NsaError:
            (shown if _without_words(attachment.name) else left).append(attachment.name)
        else:
            documents.append(document)
    if not left:
        return documents, shown, ()
    some = ", ".join(left[:5]) + (f" and {len(left) - 5} more" if len(left) > 5 else "")
    what = "1 attached file was" if len(left) == 1 else f"{len(left)} attached files were"
    return documents, shown, (f"{what} not read ({some})",)


def _inside(
    reader: PdfReader,
    read: dict[int, PageText],
    name: str,
    parse: Parser | None,
    pages: PageRanges | None,
) -> tuple[list[Document], list[str], tuple[str, ...]]:
    """What a PDF holds beside its pages: attached files as by `_attached`, and an XFA form."""
    form, about_form = _xfa(reader, name, None if pages is not None else parse)
    if pages is not None:
        return form, [], about_form
    documents, shown, notes = _attached(reader, read, name, parse)
    return documents + form, shown, notes + about_form


def _xfa(
    reader: PdfReader, name: str, parse: Parser | None
) -> tuple[list[Document], tuple[str, ...]]:
    """The words of an XFA form as a file inside the PDF, or a warning if it cannot be read."""
    try:
        if not is_xfa(reader):
            return [], ()
        text = xfa_text(reader) if parse is not None else None
    except MemoryError:
        raise
    except Exception:  # pypdf leaks exceptions of many types from damaged files.
        text = None
    if parse is None or text is None:
        return [], ("the pages are drawn by an XFA form, which cannot be read",)
    return ([parse(f"{name}/form.txt", text.encode())] if text.strip() else []), ()


def _without_words(name: str) -> bool:
    """Whether a file is a picture or a sound, by its name."""
    return (mimetypes.guess_type(name)[0] or "").startswith(_WITHOUT_WORDS)


def _document(
    name: str,
    texts: Sequence[str],
    labels: Sequence[str | None],
    attached: Sequence[Document],
    warnings: tuple[str, ...],
) -> Document:
    """Put pages that have text and attached documents together."""
    pieces: list[Piece] = []
    kept: list[str] = []
    start = 0
    for number, (text, label) in enumerate(zip(texts, labels, strict=False), start=1):
        if text:
            end = start + len(text)
            pieces.append(
                Piece(
                    source=name, page=number, page_label=label, start=start, end=end, first_line=1
                )
            )
            kept.append(text)
            start = end + len(PAGE_BREAK)
    for document in attached:
        pieces += [
            replace(piece, start=piece.start + start, end=piece.end + start)
            for piece in document.pieces
        ]
        kept.append(document.text)
        start += len(document.text) + len(PAGE_BREAK)
        warnings += tuple(f"{document.name}: {warning}" for warning in document.warnings)
    return Document(name=name, text=PAGE_BREAK.join(kept), pieces=tuple(pieces), warnings=warnings)

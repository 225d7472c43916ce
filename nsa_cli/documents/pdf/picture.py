"""Pictures of the pages of a PDF, and where a quote is on them."""

from __future__ import annotations

import ctypes
import difflib
import struct
import unicodedata
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pypdfium2
import pypdfium2.raw as pdfium_c

from nsa_cli.documents.errors import UnreadableError
from nsa_cli.documents.pdf.annotations import draw_annotations
from nsa_cli.documents.pdf.pdfium import PDFIUM_LOCK
from nsa_cli.documents.pdf.structure import without_preamble

_MOST_PIXELS = 16_000_000
"""Of a picture: larger ones are drawn coarser."""

_PDF_MAGIC = b"%PDF-"
_MAGIC_WITHIN = 65_536

_LEAST_PART = 8
"""Letters and digits of a part of a quote that is looked for by itself."""

_LEAST_SHARE = 0.5
"""Share of a quote that must be found on the page."""

_Steps = tuple[int, int, int, int]
"""Left, top, right and bottom in steps from the page's top left corner."""

_PER_POINT = 10
"""Steps in which PDFium gives positions."""

_SAME_LINE = 0.5
"""Share of the height by which boxes on one line overlap."""

_WIDEST_GAP = 3.0
"""Gap within a mark, as a multiple of its height."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A rectangle on a page; all values are shares of the page's width or height.

    Attributes:
        left: Distance of its left side from the page's.
        top: Distance of its top from the page's.
        width: Its width.
        height: Its height.
    """

    left: float
    top: float
    width: float
    height: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PageLayout:
    """The size of a page, and where a quote is on it.

    Attributes:
        width: Width in points.
        height: Height in points.
        pages: Pages of the file.
        marks: Rectangles of the quote, a line each; none if it was not found.
    """

    width: float
    height: float
    pages: int
    marks: tuple[Mark, ...]


def is_pdf(data: bytes) -> bool:
    """Whether a file is a PDF, by its first bytes."""
    return _PDF_MAGIC in data[:_MAGIC_WITHIN]


def draw_page(data: bytes, number: int, name: str, *, width: int) -> bytes:
    """Draw a page.

    Args:
        data: The PDF.
        number: The page, from 1.
        name: Name of the file, for messages.
        width: Width in pixels; a very large page is drawn smaller.

    Returns:
        The picture as PNG.

    Raises:
        UnreadableError: If the file has no such page, or it cannot be drawn.
    """
    with _opened(data, number, name) as (_, page):
        across, down = page.get_size()
        scale = width / max(1.0, across)
        scale = min(scale, (_MOST_PIXELS / max(1.0, across * down)) ** 0.5)
        picture = page.render(scale=scale, rev_byteorder=True)
        try:
            pixels = np.array(picture.to_numpy()[..., :3])
        finally:
            picture.close()
    return _png(pixels)


def lay_out_page(
    data: bytes, number: int, name: str, *, quote: str = "", before: str = ""
) -> PageLayout:
    """Measure a page and find a quote on it.

    Spaces, punctuation and hyphens do not count, since the text of a document differs from the
    page in these.

    Args:
        data: The PDF.
        number: The page, from 1.
        name: Name of the file, for messages.
        quote: The quote; empty for none.
        before: Text of the page before the quote, which tells repeated quotes apart.

    Raises:
        UnreadableError: If the file has no such page.
    """
    with _opened(data, number, name) as (pages, page):
        across, down = page.get_size()
        marks: tuple[Mark, ...] = ()
        if quote:
            text_page = page.get_textpage()
            try:
                count = pdfium_c.FPDFText_CountChars(text_page)
                codes = [pdfium_c.FPDFText_GetUnicode(text_page, at) for at in range(count)]
                shown = "".join(chr(code) if code <= 0x10FFFF else " " for code in codes)
                boxes = [_box(page, text_page, at) for at in find_characters(shown, quote, before)]
                size = across * _PER_POINT, down * _PER_POINT
                marks = tuple(_marks([box for box in boxes if box is not None], size))
            finally:
                text_page.close()
    return PageLayout(width=across, height=down, pages=pages, marks=marks)


def find_characters(shown: str, quote: str, before: str = "") -> list[int]:
    """The indices of a quote's letters and digits in a page's characters, in order.

    Args:
        shown: The characters of the page.
        quote: The quote.
        before: Text before the quote.
    """
    page, at = _letters(shown)
    wanted, _ = _letters(quote)
    if not wanted:
        return []
    found = _nth(page, wanted, _letters(before)[0].count(wanted))
    if found >= 0:
        return sorted(set(at[found : found + len(wanted)]))
    parts = [part for part, _ in map(_letters, quote.split("\n")) if len(part) >= _LEAST_PART]
    spans = [(page.find(part), len(part)) for part in parts if part in page]
    if sum(size for _, size in spans) < _LEAST_SHARE * len(wanted):
        blocks = difflib.SequenceMatcher(None, page, wanted, autojunk=False).get_matching_blocks()
        spans = [(block.a, block.size) for block in blocks if block.size >= _LEAST_PART]
    if sum(size for _, size in spans) < _LEAST_SHARE * len(wanted):
        return []
    return sorted({at[start + step] for start, size in spans for step in range(size)})


def _letters(text: str) -> tuple[str, list[int]]:
    """Letters and digits in lower case without accents, and the index of each in the text."""
    kept, at = [], []
    for index, char in enumerate(text):
        for plain in unicodedata.normalize("NFKD", char).casefold():
            if plain.isalnum():
                kept.append(plain)
                at.append(index)
    return "".join(kept), at


def _nth(text: str, wanted: str, skipped: int) -> int:
    """Where a string begins, after some others of it, or the last; -1 if it is not there."""
    found = text.find(wanted)
    for _ in range(skipped):
        further = text.find(wanted, found + 1)
        if further < 0:
            break
        found = further
    return found


@contextmanager
def _opened(data: bytes, number: int, name: str) -> Iterator[tuple[int, Any]]:
    """The pages of a PDF in all, and one of them with its annotations drawn."""
    with PDFIUM_LOCK:
        document = None
        try:
            document = pypdfium2.PdfDocument(without_preamble(data))
            if document.get_formtype() != pdfium_c.FORMTYPE_NONE:
                document.init_forms()
            if not 1 <= number <= len(document):
                raise UnreadableError(f"{name} has no page {number}", code="missing")
            page = document[number - 1]
            if draw_annotations(page):
                page.close()
                page = document[number - 1]
            try:
                yield len(document), page
            finally:
                page.close()
        except pypdfium2.PdfiumError as error:
            raise UnreadableError(
                f"page {number} of {name} cannot be drawn", hint="read its text", code="broken"
            ) from error
        finally:
            if document is not None:
                document.close()


def _box(page: Any, text_page: Any, index: int) -> _Steps | None:
    """Left, top, right and bottom of a character in steps from the page's top left corner."""
    box = pdfium_c.FS_RECTF()
    if not pdfium_c.FPDFText_GetLooseCharBox(text_page, index, box):
        return None
    across, down = (round(side * _PER_POINT) for side in page.get_size())
    corners = []
    x, y = ctypes.c_int(), ctypes.c_int()
    for corner in ((box.left, box.top), (box.right, box.bottom)):
        if not pdfium_c.FPDF_PageToDevice(page, 0, 0, across, down, 0, *corner, x, y):
            return None
        corners.append((x.value, y.value))
    (left, top), (right, bottom) = corners
    return min(left, right), min(top, bottom), max(left, right), max(top, bottom)


def _marks(boxes: Sequence[_Steps], size: tuple[float, float]) -> Iterator[Mark]:
    """Rectangles of characters that follow one another on a line."""
    joined: list[_Steps] = []
    turned = _is_turned(boxes)
    for box in map(_transposed, boxes) if turned else boxes:
        last = joined[-1] if joined else None
        if last is not None and _on_one_line(last, box):
            sides = zip(last, box, strict=True)
            left, top, right, bottom = sides
            joined[-1] = (min(left), min(top), max(right), max(bottom))
        else:
            joined.append(box)
    across, down = size
    for left_, top_, right_, bottom_ in map(_transposed, joined) if turned else joined:
        yield Mark(
            left=max(0.0, left_ / across),
            top=max(0.0, top_ / down),
            width=(right_ - left_) / across,
            height=(bottom_ - top_) / down,
        )


def _is_turned(boxes: Sequence[_Steps]) -> bool:
    """Whether most characters follow one another downwards or upwards."""
    steps = [(abs(b[0] - a[0]), abs(b[1] - a[1])) for a, b in pairwise(boxes)]
    return 2 * sum(down > across for across, down in steps) > len(steps)


def _transposed(box: _Steps) -> _Steps:
    left, top, right, bottom = box
    return top, left, bottom, right


def _on_one_line(last: _Steps, box: _Steps) -> bool:
    """Whether a character continues a rectangle."""
    height = min(last[3] - last[1], box[3] - box[1])
    shared = min(last[3], box[3]) - max(last[1], box[1])
    gap = max(last[0], box[0]) - min(last[2], box[2])
    return shared >= _SAME_LINE * height and gap <= _WIDEST_GAP * max(1, height)


def _png(pixels: np.ndarray[Any, np.dtype[np.uint8]]) -> bytes:
    """A picture as PNG.

    Args:
        pixels: Red, green and blue, (height, width, 3).
    """
    height, width, _ = pixels.shape
    lines = np.zeros((height, 1 + 3 * width), np.uint8)
    lines[:, 1:] = pixels.reshape(height, 3 * width)

    def chunk(kind: bytes, body: bytes) -> bytes:
        check = zlib.crc32(kind + body)
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", check)

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(lines.tobytes(), 3)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")

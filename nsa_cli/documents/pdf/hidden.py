"""Text that a page holds and does not show."""

from __future__ import annotations

import ctypes
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pypdfium2.raw as pdfium_c

from nsa_cli.documents.pdf.pdfium import address
from nsa_cli.documents.pdf.runs import Box, Run

_SCAN_SHARE = 0.5
"""Share of the page that images cover, from which invisible text is the text of a scan."""

_FEWEST_CUT = 2
"""Words beyond the edge of the page from which a run is cut there; one may be half a word."""

_STAMPS = frozenset({"Powered by TCPDF (www.tcpdf.org)"})
"""Invisible text that a program writes into all of its files: read, since it needs no warning."""

_PIXELS_PER_POINT = 1.5
_MOST_PIXELS = 8_000_000
_CONTRAST = 16
"""Steps of gray, of 255, by which text must differ from its background to be seen."""


def part_hidden(page: Any, runs: Sequence[Run], bounds: Box) -> tuple[list[Run], Counter[str]]:
    """The runs that a reader of the page sees, and how many words each reason hides from it.

    Hidden are runs off the page, runs too small to read, invisible runs unless an image of the
    page lies over them (a searchable scan), and runs whose color is that of their background. A
    run that crosses the edge of the page keeps the glyphs on the page.

    Args:
        page: PDFium's handle of the page.
        runs: Of the page.
        bounds: What is shown of the page.
    """
    seen: list[Run] = []
    left_out: list[tuple[str, Run]] = []
    pale = [run for run in runs if run.style.suspect == "pale" and _meet(run.box(), bounds)]
    unseen = _unseen(page, pale, bounds) if pale else set()
    scan: bool | None = None
    for run in runs:
        reason = ""
        suspect = run.style.suspect
        box = run.box()
        if not _meet(box, bounds):
            left_out.append(("off the page", run))
            continue
        if not _inside(box, bounds):
            inside, outside = _cut_off(run, bounds)
            if not inside.text or _words(outside) >= _FEWEST_CUT:
                left_out.append(("off the page", outside))
                run = inside
            if not run.text:
                continue
        if suspect == "tiny":
            reason = "too small to read"
        elif suspect == "invisible":
            if scan is None:
                scan = _image_share(page, bounds) >= _SCAN_SHARE
            reason = "" if scan or run.string().strip() in _STAMPS else "invisible"
        elif run.style.pointer is not None and address(run.style.pointer) in unseen:
            reason = "in the color of its background"
        if reason:
            left_out.append((reason, run))
        else:
            seen.append(run)
    return seen, _counted(left_out, seen)


def _counted(left_out: Sequence[tuple[str, Run]], seen: Sequence[Run]) -> Counter[str]:
    """How many words each reason hides; words that the page shows too, as a shadow, hide nothing.

    Args:
        left_out: The hidden runs with their reasons.
        seen: The other runs of the page.
    """
    words: Counter[str] = Counter()
    shown = " ".join(" ".join(run.string().split()) for run in seen) if left_out else ""
    shown = f" {shown} "
    for reason, run in left_out:
        text = " ".join(run.string().split())
        if f" {text} " not in shown:
            words += Counter({reason: _words(run)})
    return words


def is_blank(page: Any, bounds: Box) -> bool:
    """Whether nothing is drawn on a page: its pixels are all of one color.

    Args:
        page: PDFium's handle of the page.
        bounds: What is shown of the page.
    """
    rows = _rendered(page, _size(bounds))
    shades = {shade for row in rows for shade in set(row)}
    return max(shades) - min(shades) < _CONTRAST


def _size(bounds: Box) -> tuple[int, int]:
    """Width and height of a rendered page, in pixels."""
    width, height = bounds[2] - bounds[0], bounds[3] - bounds[1]
    scale = min(_PIXELS_PER_POINT, (_MOST_PIXELS / max(1.0, width * height)) ** 0.5)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _words(run: Run) -> int:
    return sum(any(map(str.isalnum, word)) for word in run.string().split())


def _inside(box: Box, bounds: Box) -> bool:
    left, bottom, right, top = box
    return bounds[0] <= left and right <= bounds[2] and bounds[1] <= bottom and top <= bounds[3]


def _meet(box: Box, bounds: Box) -> bool:
    left, bottom, right, top = box
    return left < bounds[2] and bounds[0] < right and bottom < bounds[3] and bounds[1] < top


def _cut_off(run: Run, bounds: Box) -> tuple[Run, Run]:
    """The glyphs of a run whose middle is on the page, and the others."""
    parts = tuple(
        replace(run, text=[], lefts=[], rights=[], unmapped=0, generated=0) for _ in range(2)
    )
    cosine, sine = run.style.direction
    height = run.base + 0.3 * run.style.size
    for char, left, right in zip(run.text, run.lefts, run.rights, strict=True):
        across = (left + right) / 2
        x, y = across * cosine - height * sine, across * sine + height * cosine
        shown = bounds[0] <= x <= bounds[2] and bounds[1] <= y <= bounds[3]
        part = parts[0] if shown else parts[1]
        part.text.append(char)
        part.lefts.append(left)
        part.rights.append(right)
    for part in parts:
        part.left, part.right = min(part.lefts, default=0.0), max(part.rights, default=0.0)
        part.unmapped = round(run.unmapped * len(part.text) / len(run.text))
        part.generated = round(run.generated * len(part.text) / len(run.text))
    return parts[0], parts[1]


def _image_share(page: Any, bounds: Box) -> float:
    """The share of the page that images cover, at most; where they overlap, both count."""
    area = 0.0
    sides = [ctypes.c_float() for _ in range(4)]
    for index in range(pdfium_c.FPDFPage_CountObjects(page)):
        item = pdfium_c.FPDFPage_GetObject(page, index)
        if _has_image(item) and pdfium_c.FPDFPageObj_GetBounds(item, *sides):
            left, bottom, right, top = (side.value for side in sides)
            width = min(right, bounds[2]) - max(left, bounds[0])
            height = min(top, bounds[3]) - max(bottom, bounds[1])
            area += max(0.0, width) * max(0.0, height)
    return area / max(1.0, (bounds[2] - bounds[0]) * (bounds[3] - bounds[1]))


def _has_image(item: Any, depth: int = 0) -> bool:
    kind = pdfium_c.FPDFPageObj_GetType(item)
    if kind != pdfium_c.FPDF_PAGEOBJ_FORM or depth > 10:
        return bool(kind == pdfium_c.FPDF_PAGEOBJ_IMAGE)
    count = max(0, pdfium_c.FPDFFormObj_CountObjects(item))
    return any(
        _has_image(pdfium_c.FPDFFormObj_GetObject(item, index), depth + 1) for index in range(count)
    )


def _unseen(page: Any, runs: Sequence[Run], bounds: Box) -> set[int]:
    """Addresses of the text objects of pale runs that leave no trace on the rendered page."""
    size = _size(bounds)
    with_text = _rendered(page, size)
    pointers = {address(run.style.pointer): run.style.pointer for run in runs}
    for pointer in pointers.values():
        pdfium_c.FPDFPageObj_SetIsActive(pointer, False)
    without = _rendered(page, size)
    for pointer in pointers.values():
        pdfium_c.FPDFPageObj_SetIsActive(pointer, True)
    found = set()
    for run in runs:
        left, top, right, bottom = _pixels(run.box(), bounds, size)
        differs = any(
            max(map(abs, map(int.__sub__, one[left:right], other[left:right])), default=0)
            > _CONTRAST
            for one, other in zip(with_text[top:bottom], without[top:bottom], strict=True)
        )
        if not differs:
            found.add(address(run.style.pointer))
    return found


def _pixels(box: Box, bounds: Box, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of a box in pixels of the unrotated page."""
    across = size[0] / max(1e-6, bounds[2] - bounds[0])
    down = size[1] / max(1e-6, bounds[3] - bounds[1])
    return (
        max(0, int((box[0] - bounds[0]) * across)),
        max(0, int((bounds[3] - box[3]) * down)),
        max(0, int((box[2] - bounds[0]) * across) + 1),
        max(0, int((bounds[3] - box[1]) * down) + 1),
    )


def _rendered(page: Any, size: tuple[int, int]) -> list[bytes]:
    """Rows of gray pixels of the page, not rotated."""
    width, height = size
    bitmap = pdfium_c.FPDFBitmap_CreateEx(width, height, pdfium_c.FPDFBitmap_Gray, None, 0)
    try:
        pdfium_c.FPDFBitmap_FillRect(bitmap, 0, 0, width, height, 0xFFFFFFFF)
        undo = (4 - pdfium_c.FPDFPage_GetRotation(page)) % 4
        pdfium_c.FPDF_RenderPageBitmap(bitmap, page, 0, 0, width, height, undo, 0)
        stride = pdfium_c.FPDFBitmap_GetStride(bitmap)
        start = pdfium_c.FPDFBitmap_GetBuffer(bitmap)
        data = ctypes.string_at(start, stride * height)
    finally:
        pdfium_c.FPDFBitmap_Destroy(bitmap)
    return [data[row * stride : row * stride + width] for row in range(height)]

"""Replacement texts (`/ActualText`) of glyphs in Arabic and Hebrew."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import pypdfium2.raw as pdfium_c

from nsa_cli.documents.pdf.glyphs import text_handles
from nsa_cli.documents.pdf.runs import Run

_KEY = b"ActualText"

_VARIANTS = str.maketrans("ھہیىک", "ههييك")
_WRITTEN_ALIKE = frozenset("ھہیىکهيك")
"""Letters that Arabic and other languages write alike, and fonts take for one another."""


def drop_actual_text(page: Any) -> bool:
    """Remove the replacement texts of a page's text objects if some of them are empty.

    PDFium reads a replacement text instead of the characters of the glyphs. Chrome and Google Docs
    write one for each glyph of Arabic, empty for the second glyph of a letter, and PDFium reads the
    glyph then. In words with marks, the texts belong to the next glyph.

    Args:
        page: PDFium's handle of the page. Text that was read from it before stays as it was.

    Returns:
        Whether the page had any.
    """
    found = []
    empty = False
    length = ctypes.c_ulong()
    for item in text_handles(page):
        for index in range(pdfium_c.FPDFPageObj_CountMarks(item)):
            mark = pdfium_c.FPDFPageObj_GetMark(item, index)
            if pdfium_c.FPDFPageObjMark_GetParamStringValue(mark, _KEY, None, 0, length):
                found.append((item, mark))
                empty |= length.value <= ctypes.sizeof(ctypes.c_ushort)
    if not empty:
        return False
    for item, mark in found:
        pdfium_c.FPDFPageObj_RemoveMark(item, mark)
    return True


def keep_variants(runs: Sequence[Run], before: Sequence[Run]) -> None:
    """Take a letter from a replacement text where the glyph's own is a variant of it.

    Args:
        runs: Of the glyphs; changed in place.
        before: Of the replacement texts.
    """
    given = {
        (round(run.base), _middle(run, at)): char
        for run in before
        for at, char in enumerate(run.text)
        if char in _WRITTEN_ALIKE
    }
    for run in runs if given else ():
        for at, char in enumerate(run.text):
            for step in (0, -1, 1):
                other = given.get((round(run.base), _middle(run, at) + step), char)
                if other != char and other.translate(_VARIANTS) == char.translate(_VARIANTS):
                    run.text[at] = other
                    break


def _middle(run: Run, at: int) -> int:
    """Where the middle of a glyph is, in points: the extent of a replacement is a guess."""
    return round((run.lefts[at] + run.rights[at]) / 2)

"""The text of one page: PDFium's glyphs, and pypdf where those cannot be read."""

from __future__ import annotations

import ctypes
import logging
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import pypdfium2
import pypdfium2.raw as pdfium_c
from pypdf import PageObject

from nsa_cli.documents.pdf.actual_text import drop_actual_text, keep_variants
from nsa_cli.documents.pdf.annotations import (
    Notes,
    draw_annotations,
    drawn_by_annotations,
    read_notes,
)
from nsa_cli.documents.pdf.encodings import FontTables
from nsa_cli.documents.pdf.glyphs import GlyphReader
from nsa_cli.documents.pdf.hidden import is_blank, part_hidden
from nsa_cli.documents.pdf.language import is_language, odd_share, stretched_share
from nsa_cli.documents.pdf.layout import page_text
from nsa_cli.documents.pdf.pdfium import PDFIUM_LOCK, address
from nsa_cli.documents.pdf.readable import MOST_ODD, unreadable_share
from nsa_cli.documents.pdf.right_to_left import has_right_to_left
from nsa_cli.documents.pdf.runs import Box, Run
from nsa_cli.documents.word_gaps import SPACE_WIDTH, gaps_become_spaces

PageRuns = tuple[list[Run], dict[int, int]]
"""The runs of a page, and the font of each of its text objects by their addresses."""

_REPEATED = re.compile(r"(.{2,40}?)\1+")

_FEWEST_LOST = 3
"""Text objects of a font without glyphs, from which the page is compared with pypdf's."""


@dataclass(slots=True)
class PageText:
    """What was read of a page.

    Attributes:
        text: Lines in reading order, not cleaned.
        hidden: Words of hidden text that were left out, by reason.
        unreadable: Share of the page's characters that are glyphs without a meaning.
        unreadable_fields: Form fields whose value cannot be read.
        annotated: Whether the page has annotations other than links.
        damaged: Why the page cannot be read, or an empty string.
        by_pypdf: Whether the text is pypdf's.
        blank: Whether the page shows nothing at all.
    """

    text: str = ""
    hidden: Counter[str] = field(default_factory=Counter)
    unreadable: float = 0.0
    unreadable_fields: int = 0
    annotated: bool = False
    damaged: str = ""
    by_pypdf: bool = False
    blank: bool = False


class PageReader:
    """Reads the pages of a PDF; a context manager.

    Args:
        data: The bytes of the file.
        password: Opens it, if it is encrypted.
        hidden: Whether hidden text is read too.
    """

    def __init__(self, data: bytes, password: str | None, *, hidden: bool = False) -> None:
        self._data = data
        self._password = password
        self._hidden = hidden
        self._glyphs = GlyphReader()
        self._document: Any = None

    def __enter__(self) -> PageReader:
        with PDFIUM_LOCK:
            try:
                self._document = pypdfium2.PdfDocument(self._data, password=self._password)
                if self._document.get_formtype() != pdfium_c.FORMTYPE_NONE:
                    self._document.init_forms()
            except pypdfium2.PdfiumError as error:
                logging.getLogger("pypdfium2").info("PDFium cannot open the file: %s", error)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._document is not None:
            with PDFIUM_LOCK:
                self._document.close()

    def __len__(self) -> int:
        return len(self._document) if self._document is not None else 0

    def read(self, index: int, sheet: PageObject | None) -> PageText:
        """The text of a page.

        Args:
            index: Counted from 0.
            sheet: The page as pypdf has it; None if pypdf does not find it.
        """
        with PDFIUM_LOCK:
            if index >= len(self):
                return _by_pypdf(sheet)
            try:
                page = self._document[index]
            except pypdfium2.PdfiumError:
                return _by_pypdf(sheet)
            before = pdfium_c.FPDFPage_CountObjects(page)
            annotated = draw_annotations(page)
            drawn: set[int] = set()
            if annotated:
                page.close()
                page = self._document[index]
                drawn = drawn_by_annotations(page, before)
            text_page = page.get_textpage()
            try:
                return self._read(page, text_page, sheet, drawn, annotated)
            finally:
                text_page.close()
                page.close()

    def _read(
        self, page: Any, text_page: Any, sheet: PageObject | None, drawn: set[int], annotated: bool
    ) -> PageText:
        tables = FontTables(sheet)
        runs, fonts = self._glyphs.runs(text_page, drawn, tables)
        if has_right_to_left(runs) and drop_actual_text(page):
            runs, fonts = self._read_again(page, drawn, tables, (runs, fonts))
        notes = Notes()
        if annotated and sheet is not None:
            notes = _notes(sheet, runs)
            runs += notes.runs
        read = PageText(annotated=annotated, unreadable_fields=notes.unreadable)
        bounds = _bounds(page)
        if not self._hidden:
            runs, read.hidden = part_hidden(page, runs, bounds)
        read.text = page_text(runs)
        read.unreadable = unreadable_share(runs, read.text)
        if (read.unreadable or not read.text or _lost_fonts(page, fonts)) and sheet is not None:
            _mend(read, sheet, [run for run in runs if run.style.annotation])
        read.text = "\n".join([read.text, *notes.comments])
        read.blank = not read.text.strip() and not read.damaged and is_blank(page, bounds)
        return read

    def _read_again(
        self, page: Any, drawn: set[int], tables: FontTables, before: PageRuns
    ) -> PageRuns:
        """The runs of a page without its replacement texts, if its glyphs can be read so.

        Args:
            page: PDFium's handle of the page.
            drawn: Addresses of the text objects that annotations draw.
            tables: Of the page's fonts.
            before: The runs with the replacement texts, and the fonts of their text objects.
        """
        text_page = page.get_textpage()
        try:
            after = self._glyphs.runs(text_page, drawn, tables)
        finally:
            text_page.close()
        if _unmapped(after[0]) > _unmapped(before[0]):
            return before
        keep_variants(after[0], before[0])
        return after


def _unmapped(runs: Sequence[Run]) -> int:
    return sum(run.unmapped for run in runs)


def _notes(sheet: PageObject, runs: Sequence[Run]) -> Notes:
    """What the annotations of a page say; one unreadable field if they are damaged."""
    try:
        return read_notes(sheet, "".join(run.string() for run in runs))
    except MemoryError:
        raise
    except Exception as error:  # pypdf leaks exceptions of many types from damaged pages.
        logging.getLogger("pypdf").warning("annotations: %s", error)
        return Notes(unreadable=1)


def _bounds(page: Any) -> Box:
    """What is shown of a page, in points."""
    box = pdfium_c.FS_RECTF()
    if pdfium_c.FPDF_GetPageBoundingBox(page, box):
        return box.left, box.bottom, box.right, box.top
    return 0.0, 0.0, pdfium_c.FPDF_GetPageWidthF(page), pdfium_c.FPDF_GetPageHeightF(page)


def _lost_fonts(page: Any, fonts: dict[int, int]) -> bool:
    """Whether most text objects of a font of the page give no glyph.

    PDFium drops text objects without an extent, such as those of a font that is not embedded and
    not installed.

    Args:
        page: PDFium's handle of the page.
        fonts: The font of each text object that has glyphs, by their addresses.
    """
    count = pdfium_c.FPDFPage_CountObjects(page)
    if count <= len(fonts):
        return False
    silent: Counter[int] = Counter()
    heard = Counter(fonts.values())
    for index in range(count):
        item = pdfium_c.FPDFPage_GetObject(page, index)
        if pdfium_c.FPDFPageObj_GetType(item) != pdfium_c.FPDF_PAGEOBJ_TEXT:
            continue
        if address(item) not in fonts and not _width(item):
            silent[address(pdfium_c.FPDFTextObj_GetFont(item))] += 1
    return any(times >= _FEWEST_LOST and times > heard[font] for font, times in silent.items())


def _width(item: Any) -> float:
    """The width of an object in points; a repeated draw has one, a lost text has none."""
    sides = [ctypes.c_float() for _ in range(4)]
    pdfium_c.FPDFPageObj_GetBounds(item, *sides)
    return sides[2].value - sides[0].value


def _mend(read: PageText, sheet: PageObject, annotations: Sequence[Run]) -> None:
    """Take pypdf's text of a page where it has words that PDFium's lacks.

    pypdf does not tell hidden text from text that is seen, so its text is not taken for a page
    with hidden text.
    """
    other = _by_pypdf(sheet)
    if not other.text.strip():
        read.damaged = "" if read.text.strip() else other.damaged
        return
    if read.hidden or odd_share(other.text) > MOST_ODD or stretched_share(other.text):
        return
    if read.unreadable:
        better = is_language(other.text) and other.text.split() != read.text.split()
    else:
        new = _sequences(other.text) - _sequences(read.text)
        better = len(new) > 0.2 * len(_sequences(read.text))
    if better:
        read.text, read.unreadable = "\n".join([other.text, page_text(annotations)]), 0.0
        read.by_pypdf = True


def _sequences(text: str) -> set[str]:
    """The sequences of four characters in a text without its spaces; a repeat counts once."""
    joined = _REPEATED.sub(r"\1", "".join(text.split()))
    return {joined[at : at + 4] for at in range(max(1, len(joined) - 3)) if joined}


def _by_pypdf(sheet: PageObject | None) -> PageText:
    """The text of a page as pypdf reads it."""
    if sheet is None:
        return PageText(damaged="the page is not found")
    try:
        with gaps_become_spaces():
            return PageText(text=sheet.extract_text(space_width=SPACE_WIDTH), by_pypdf=True)
    except MemoryError:
        raise
    except Exception as error:  # pypdf leaks exceptions of many types from damaged pages.
        lines = str(error).splitlines()
        return PageText(damaged=lines[0][:120] if lines else type(error).__name__)

"""The glyphs of a PDF page, by PDFium."""

from __future__ import annotations

import ctypes
import math
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import pypdfium2.raw as pdfium_c

from nsa_cli.documents.pdf.encodings import FontTables, mend_bytes, mend_numbers, symbol
from nsa_cli.documents.pdf.pdfium import address
from nsa_cli.documents.pdf.runs import CONTROLS, UPRIGHT, Run, RunBuilder, Style

TINY_POINTS = 1.5
"""Text below this size cannot be read on paper."""

_PALE = 0.85 * 255
"""Fill colors whose red, green and blue are all at least this cannot be read on white."""

_FAINT_ALPHA = 0.05 * 255

_FILLED = (pdfium_c.FPDF_TEXTRENDERMODE_FILL, pdfium_c.FPDF_TEXTRENDERMODE_FILL_CLIP)

_WHITE = frozenset({0x20, 0xA0, 0x0A, 0x0D})

_HYPHENS = (0x02, 0xFFFE)
"""What PDFium gives for a hyphen at a line end."""


_SURROGATES = range(0xD800, 0xE000)


class GlyphReader:
    """Reads the runs of the pages of one document.

    PDFium serves one thread at a time: the caller holds `PDFIUM_LOCK`.
    """

    def __init__(self) -> None:
        self._mapped: dict[tuple[int, int], bool] = {}
        self._plain: dict[int, set[int]] = {}

    def runs(
        self, text_page: Any, annotations: set[int], tables: FontTables
    ) -> tuple[list[Run], dict[int, int]]:
        """The runs of a page in the order in which PDFium gives its glyphs.

        The second value has the font of each text object that has glyphs, by their addresses.

        Args:
            text_page: PDFium's handle of the page's text.
            annotations: Addresses of the text objects that annotations draw.
            tables: Of the page's fonts.
        """
        names: dict[int, str] = {}
        builder = RunBuilder()
        styles: dict[int, tuple[Style, int]] = {}
        handle = address(text_page.raw)
        last, style, font, bottom = -1, None, 0, math.nan
        plain: set[int] = set()
        for index, code in enumerate(_codes(text_page, handle)):
            if code in _WHITE:
                generated = _is_generated(handle, index) == 1
                if code > 0x1F or generated:
                    builder.white(code, own=code == 0x20 and not generated)
                    continue
            _box_of(handle, index, _box_at)
            left, _, right, low = _left_top_right_bottom
            here = _object_of(handle, index) or 0
            if here != last or style is None:
                last = here
                if here not in styles:
                    styles[here] = _style(handle, index, here, here in annotations)
                style, font = styles[here]
                builder.object(style)
                plain = self._plain.setdefault(font, set()) if style.upright else set()
                bottom = math.nan
            elif low == bottom and code in plain and builder.plain(chr(code), left, right):
                continue
            if low != bottom or not style.upright:
                # One text object has one baseline, unless it is turned or written downwards.
                _origin_of(handle, index, _x_at, _y_at)
                bottom = low
            mapped = self._is_mapped(text_page, index, font, code)
            if code in _HYPHENS and mapped:
                code = 0x2D
            if code > 0x7E or not mapped or code == 0:
                name = names[font] = names[font] if font in names else _name(style.pointer)
                style.bytes = tables.has_bytes(name)
                code, mapped = _meant(code, mapped, name, tables)
            elif code >= CONTROLS:
                plain.add(code)
            if style.upright:
                builder.glyph(code, left, right, _y.value, mapped)
            else:
                builder.turned(code, (_x.value, _y.value), _box, mapped, _advance(style, code))
        runs = builder.finish()
        mend_bytes([run for run in runs if run.style.bytes])
        fonts = {item: font for item, (_, font) in styles.items()}
        mend_numbers(runs, fonts, {font: tables.numbers(name) for font, name in names.items()})
        return runs, fonts

    def _is_mapped(self, text_page: Any, index: int, font: int, code: int) -> bool:
        """Whether the file says which character a glyph is."""
        mapped = self._mapped.get((font, code))
        if mapped is None:
            mapped = pdfium_c.FPDFText_HasUnicodeMapError(text_page, index) != 1
            self._mapped[font, code] = mapped
        return mapped


def _meant(code: int, mapped: bool, name: str, tables: FontTables) -> tuple[int, bool]:
    """The character that a glyph stands for, and whether that is known."""
    char = chr(code) if code <= sys.maxunicode else "\ufffd"
    if "\uf000" <= char <= "\uf0ff":
        return ord(symbol(char, name)), mapped
    if code == 0:
        meant = tables.null(name)
        return meant, meant > 0
    named = None if mapped else tables.of(name).get(char)
    return (code, mapped) if named is None else (named, True)


def _advance(style: Style, code: int) -> float:
    """The width of a glyph along a slanted baseline in points; 0 for others and if unknown."""
    if 0.0 in style.direction:
        return 0.0
    font = pdfium_c.FPDFTextObj_GetFont(style.pointer) if style.pointer else None
    width = ctypes.c_float()
    if not font or not pdfium_c.FPDFFont_GetGlyphWidth(font, code, style.across, width):
        return 0.0
    return width.value


def _name(text_object: Any) -> str:
    """The name of the font of a text object, empty if it has none."""
    font = pdfium_c.FPDFTextObj_GetFont(text_object) if text_object else None
    length = pdfium_c.FPDFFont_GetBaseFontName(font, None, 0) if font else 0
    name = ctypes.create_string_buffer(max(1, length))
    if font:
        pdfium_c.FPDFFont_GetBaseFontName(font, name, length)
    return name.value.decode("latin-1")


def _quick(function: Any, *parameters: Any) -> Any:
    """A PDFium function that is called for each glyph, with plain integers for its handles."""
    prototype = ctypes.PYFUNCTYPE(*parameters)
    return prototype(address(function))


_unicode_of = _quick(pdfium_c.FPDFText_GetUnicode, ctypes.c_uint, ctypes.c_void_p, ctypes.c_int)
_object_of = _quick(pdfium_c.FPDFText_GetTextObject, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int)
_box_of = _quick(
    pdfium_c.FPDFText_GetLooseCharBox, ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p
)
_origin_of = _quick(
    pdfium_c.FPDFText_GetCharOrigin,
    *(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p),
)
_is_generated = _quick(pdfium_c.FPDFText_IsGenerated, ctypes.c_int, ctypes.c_void_p, ctypes.c_int)


def _codes(text_page: Any, handle: int) -> Sequence[int]:
    """The characters of a page."""
    count = max(0, pdfium_c.FPDFText_CountChars(text_page))
    units = (ctypes.c_ushort * (2 * count + 2))()
    given = pdfium_c.FPDFText_GetText(text_page, 0, count, units) - 1
    codes: list[int] = units[: max(0, given)]
    distinct = set(codes)
    # PDFium's text may lack characters, or hold some as pairs: then each one is asked for.
    if given == count and not any(map(_SURROGATES.__contains__, distinct)):
        if _HYPHENS[1] not in distinct:
            return codes
        # PDFium writes a hyphen for some glyphs that the file maps to no character, too.
        return [
            code if code != _HYPHENS[1] else _unicode_of(handle, at)
            for at, code in enumerate(codes)
        ]
    return [_unicode_of(handle, index) for index in range(count)]


_matrix_of = _quick(
    pdfium_c.FPDFText_GetMatrix, ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p
)
_size_of = _quick(pdfium_c.FPDFText_GetFontSize, ctypes.c_double, ctypes.c_void_p, ctypes.c_int)
_font_of = _quick(pdfium_c.FPDFTextObj_GetFont, ctypes.c_void_p, ctypes.c_void_p)
_mode_of = _quick(pdfium_c.FPDFTextObj_GetTextRenderMode, ctypes.c_int, ctypes.c_void_p)
_fill_of = _quick(pdfium_c.FPDFPageObj_GetFillColor, ctypes.c_int, *5 * (ctypes.c_void_p,))

# What PDFium writes into, one page at a time.
_sides = bytearray(ctypes.sizeof(pdfium_c.FS_RECTF))
_left_top_right_bottom = memoryview(_sides).cast("f")
_box, _x, _y = pdfium_c.FS_RECTF.from_buffer(_sides), ctypes.c_double(), ctypes.c_double()
_box_at, _x_at, _y_at = map(ctypes.addressof, (_box, _x, _y))
_matrix = pdfium_c.FS_MATRIX()
_matrix_at = ctypes.addressof(_matrix)
_parts = (ctypes.c_uint * 4)()
_parts_at = [ctypes.addressof(_parts) + at * ctypes.sizeof(ctypes.c_uint) for at in range(4)]


def _style(handle: int, index: int, item: int, annotation: bool) -> tuple[Style, int]:
    """What the glyphs of a text object share, from its first glyph, and its font's address.

    `_box` has the extent of that glyph.
    """
    _matrix_of(handle, index, _matrix_at)
    a, b = _matrix.a, _matrix.b
    size = _size_of(handle, index)
    across = math.hypot(a, b)
    up = math.hypot(_matrix.c, _matrix.d)
    direction = UPRIGHT
    if across > 0:
        forward = across if size >= 0 else -across  # A negative size turns the glyphs round.
        cosine, sine = a / forward, b / forward
        if abs(cosine) > 0.999 or abs(sine) > 0.999:
            cosine, sine = float(round(cosine)), float(round(sine))
        direction = (cosine, sine)
    across *= abs(size)
    size = abs(size) * max(up, 1e-6) or 1.0
    height = _box.top - _box.bottom if direction[1] == 0.0 else _box.right - _box.left
    pointer = ctypes.cast(item, pdfium_c.FPDF_PAGEOBJECT) if item else None
    if 0.0 in direction and size < 0.4 * height and not _name(pointer):
        # The glyphs of a Type 3 font, which has no name, may be any size in their own space. The
        # lines of other fonts, such as those of mathematics, may be many times as high as glyphs.
        size = 0.8 * height
    style = Style(
        size=size,
        direction=direction,
        annotation=annotation,
        suspect=_suspect(item, size),
        pointer=pointer,
        upright=direction == UPRIGHT,
        across=across,
    )
    return style, (_font_of(item) or 0) if item else 0


def _suspect(item: int, size: float) -> str:
    """Why the text of an object may be hidden, by its render mode, size and color."""
    mode = _mode_of(item) if item else -1
    if mode == pdfium_c.FPDF_TEXTRENDERMODE_INVISIBLE:
        return "invisible"
    if size < TINY_POINTS:
        return "tiny"
    if mode in _FILLED and _fill_of(item, *_parts_at):
        red, green, blue, alpha = _parts
        if alpha < _FAINT_ALPHA:
            return "invisible"
        if min(red, green, blue) >= _PALE:
            return "pale"
    return ""


def text_objects(form: Any) -> Iterator[int]:
    """Addresses of the text objects in a form object, its inner forms included."""
    return map(address, _text_handles(form, pdfium_c.FPDFFormObj_CountObjects, 0))


def text_handles(page: Any) -> Iterator[Any]:
    """PDFium's handles of the text objects of a page, those in form objects included."""
    return _text_handles(page, pdfium_c.FPDFPage_CountObjects, 0)


def _text_handles(parent: Any, count: Any, depth: int) -> Iterator[Any]:
    of_page = count is pdfium_c.FPDFPage_CountObjects
    get = pdfium_c.FPDFPage_GetObject if of_page else pdfium_c.FPDFFormObj_GetObject
    for index in range(max(0, count(parent))):
        inner = get(parent, index)
        kind = pdfium_c.FPDFPageObj_GetType(inner)
        if kind == pdfium_c.FPDF_PAGEOBJ_TEXT:
            yield inner
        elif kind == pdfium_c.FPDF_PAGEOBJ_FORM and depth <= 10:
            yield from _text_handles(inner, pdfium_c.FPDFFormObj_CountObjects, depth + 1)

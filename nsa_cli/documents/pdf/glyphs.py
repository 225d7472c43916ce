"""The glyphs of a PDF page, by PDFium, as runs of text with their place."""

from __future__ import annotations

import ctypes
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pypdfium2.raw as pdfium_c

_UPRIGHT = (1.0, 0.0)

_SAME_BASELINE = 0.4
"""Glyphs whose baselines differ by less than this share of the font size are on one line."""

_CELL_GAP = 1.0
"""A gap wider than this share of the font size begins another run (a column or a cell)."""

_WORD_GAP = 0.25
"""A gap wider than this share of the font size is a space, even where PDFium sees none."""

_LEAST_GAP = 0.03
"""A space that PDFium finds is one where the gap is wider than this share of the font size."""

_OVERLAP = 0.18
"""Text objects that overlap by more than this share of the font size are not one word."""

_REPEAT = 0.12
"""A glyph drawn again within this share of the font size is a repeated draw (fake bold)."""

TINY_POINTS = 1.5
"""Text below this size cannot be read on paper."""

_PALE = 0.85 * 255
"""Fill colors whose red, green and blue are all at least this cannot be read on white."""

_FAINT_ALPHA = 0.05 * 255
_FILLED = (pdfium_c.FPDF_TEXTRENDERMODE_FILL, pdfium_c.FPDF_TEXTRENDERMODE_FILL_CLIP)

Box = tuple[float, float, float, float]
"""Left, bottom, right, top in points."""

_CONTROLS = 0x20
_WHITE = frozenset({0x20, 0xA0, 0x0A, 0x0D})
_HYPHENS = (0x02, 0xFFFE)
"""What PDFium gives for a hyphen at a line end."""


@dataclass(slots=True, eq=False)
class Style:
    """What the glyphs of one text object have in common.

    Attributes:
        size: Font size in points, after the text matrix.
        direction: Cosine and sine of the baseline's angle.
        annotation: Whether an annotation draws it.
        pointer: PDFium's handle of the text object.
        suspect: Why the text may be hidden: `invisible`, `tiny`, `pale`; empty for ordinary text.
        upright: Whether the direction is that of the page.
    """

    size: float
    direction: tuple[float, float]
    annotation: bool = False
    suspect: str = ""
    pointer: Any = None
    upright: bool = True


@dataclass(slots=True, eq=False)
class Run:
    """Glyphs that follow one another on a baseline without a wide gap.

    Coordinates are points, turned so that the text runs to the right: `left` and `right` along
    the baseline, `base` its height.

    Attributes:
        style: Of the first glyph.
        base: Height of the baseline.
        left: Where the leftmost glyph begins.
        right: Where the rightmost glyph ends.
        broke: Whether PDFium began a line here.
        text: Characters with the spaces between words.
        lefts: Where the glyph of each character begins; of a space, where the one before it ends.
        rights: Where the glyph of each character ends.
        generated: Spaces that the file does not have, and that PDFium or this module found.
        unmapped: Glyphs without a Unicode value in the file.
    """

    style: Style
    base: float
    left: float
    right: float
    broke: bool
    text: list[str] = field(default_factory=list)
    lefts: list[float] = field(default_factory=list)
    rights: list[float] = field(default_factory=list)
    generated: int = 0
    unmapped: int = 0

    def string(self) -> str:
        """The characters as one string."""
        return "".join(self.text)

    def box(self) -> Box:
        """Where the run stands on the page, not turned."""
        cosine, sine = self.style.direction
        low, high = self.base - 0.2 * self.style.size, self.base + 0.8 * self.style.size
        corners = [(across, up) for across in (self.left, self.right) for up in (low, high)]
        sideways = [across * cosine - up * sine for across, up in corners]
        upwards = [across * sine + up * cosine for across, up in corners]
        return min(sideways), min(upwards), max(sideways), max(upwards)


class GlyphReader:
    """Reads the runs of the pages of one document.

    PDFium serves one thread at a time: the caller holds `PDFIUM_LOCK`.
    """

    def __init__(self) -> None:
        self._mapped: dict[tuple[int, int], bool] = {}

    def runs(self, text_page: Any, annotations: set[int]) -> tuple[list[Run], dict[int, int]]:
        """The runs of a page in the order in which PDFium gives its glyphs.

        The second value has the font of each text object that has glyphs, by their addresses.

        Args:
            text_page: PDFium's handle of the page's text.
            annotations: Addresses of the text objects that annotations draw.
        """
        builder = _Builder()
        styles: dict[int, tuple[Style, int]] = {}
        handle = address(text_page.raw)
        box, x, y = pdfium_c.FS_RECTF(), ctypes.c_double(), ctypes.c_double()
        box_at = ctypes.addressof(box)
        last, style, font, bottom = -1, None, 0, math.nan
        for index in range(pdfium_c.FPDFText_CountChars(text_page)):
            code = _unicode_of(handle, index)
            if code in _WHITE:
                own = code == 0x20 and pdfium_c.FPDFText_IsGenerated(text_page, index) != 1
                builder.white(code, own=own)
                continue
            _box_of(handle, index, box_at)
            here = _object_of(handle, index) or 0
            if here != last or style is None:
                last = here
                if here not in styles:
                    styles[here] = _style(text_page, index, here, box, here in annotations)
                style, font = styles[here]
                builder.object(style)
                bottom = math.nan
            if box.bottom != bottom or not style.upright:
                # One text object has one baseline, unless it is turned or written downwards.
                pdfium_c.FPDFText_GetCharOrigin(text_page, index, x, y)
                bottom = box.bottom
            key = (font, code)
            mapped = self._mapped.get(key)
            if mapped is None:
                mapped = pdfium_c.FPDFText_HasUnicodeMapError(text_page, index) != 1
                self._mapped[key] = mapped
            if code in _HYPHENS and mapped:
                code = 0x2D
            if style.upright:
                builder.glyph(code, box.left, box.right, y.value, mapped)
            else:
                builder.turned(code, (x.value, y.value), box, mapped)
        return builder.finish(), {item: font for item, (_, font) in styles.items()}


def address(pointer: Any) -> int:
    """The address that one of PDFium's handles holds; 0 for none."""
    return ctypes.cast(pointer, ctypes.c_void_p).value or 0


def _quick(function: Any, *parameters: Any) -> Any:
    """A PDFium function that is called for each glyph, with plain integers for its handles."""
    prototype = ctypes.PYFUNCTYPE(*parameters)
    return prototype(address(function))


_unicode_of = _quick(
    pdfium_c.FPDFText_GetUnicode, ctypes.c_uint, ctypes.c_void_p, ctypes.c_int
)
_object_of = _quick(
    pdfium_c.FPDFText_GetTextObject, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int
)
_box_of = _quick(
    pdfium_c.FPDFText_GetLooseCharBox, ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p
)

_matrix = pdfium_c.FS_MATRIX()
_parts = [ctypes.c_uint() for _ in range(4)]


def _style(text_page: Any, index: int, item: int, box: Any, annotation: bool) -> tuple[Style, int]:
    """What the glyphs of a text object share, from its first glyph, and its font's address."""
    pdfium_c.FPDFText_GetMatrix(text_page, index, _matrix)
    size = pdfium_c.FPDFText_GetFontSize(text_page, index)
    across = math.hypot(_matrix.a, _matrix.b)
    up = math.hypot(_matrix.c, _matrix.d)
    forward = across if size >= 0 else -across  # A negative size turns the glyphs round.
    direction = (_matrix.a / forward, _matrix.b / forward) if across > 0 else _UPRIGHT
    if abs(direction[0]) > 0.999 or abs(direction[1]) > 0.999:
        direction = (float(round(direction[0])), float(round(direction[1])))
    size = abs(size) * max(up, 1e-6) or 1.0
    height = box.top - box.bottom if direction[1] == 0.0 else box.right - box.left
    if 0.0 in direction and size < 0.4 * height:
        size = 0.8 * height  # The glyphs of a Type 3 font may be any size in their own space.
    pointer = ctypes.cast(item, pdfium_c.FPDF_PAGEOBJECT) if item else None
    style = Style(
        size=size,
        direction=direction,
        annotation=annotation,
        suspect=_suspect(pointer, size),
        pointer=pointer,
        upright=direction == _UPRIGHT,
    )
    return style, address(pdfium_c.FPDFTextObj_GetFont(pointer)) if pointer else 0


def _suspect(pointer: Any, size: float) -> str:
    """Why the text of an object may be hidden, by its render mode, size and color."""
    mode = pdfium_c.FPDFTextObj_GetTextRenderMode(pointer) if pointer else -1
    if mode == pdfium_c.FPDF_TEXTRENDERMODE_INVISIBLE:
        return "invisible"
    if size < TINY_POINTS:
        return "tiny"
    if mode in _FILLED and pdfium_c.FPDFPageObj_GetFillColor(pointer, *_parts):
        red, green, blue, alpha = (part.value for part in _parts)
        if alpha < _FAINT_ALPHA:
            return "invisible"
        if min(red, green, blue) >= _PALE:
            return "pale"
    return ""


class _Builder:
    """Puts glyphs together to runs."""

    def __init__(self) -> None:
        self._runs: list[Run] = []
        self._run: Run | None = None
        self._style = Style(1.0, _UPRIGHT)
        self._space = self._own_space = False
        self._break = True
        self._new_object = True

    def object(self, style: Style) -> None:
        """Begin a text object."""
        self._style = style
        self._new_object = True

    def white(self, code: int, *, own: bool) -> None:
        """Take a space, which the file has or PDFium found, or a line break."""
        if code in (0x20, 0xA0):
            self._space = True
            self._own_space |= own or code == 0xA0
        else:
            self._break = True

    def turned(self, code: int, origin: tuple[float, float], box: Any, mapped: bool) -> None:
        """Take a glyph of a text object that is not upright."""
        cosine, sine = self._style.direction
        x, y = origin
        base = y * cosine - x * sine
        if sine == 0.0:
            left, right = -box.right, -box.left
        elif cosine == 0.0:
            left, right = (box.bottom, box.top) if sine > 0 else (-box.top, -box.bottom)
        else:
            left = x * cosine + y * sine
            right = left + 0.55 * self._style.size
        self.glyph(code, left, right, base, mapped)

    def glyph(self, code: int, left: float, right: float, base: float, mapped: bool) -> None:
        """Take a glyph with its extent along the baseline and the height of that."""
        run = self._run
        char = chr(code) if _CONTROLS <= code <= sys.maxunicode else "\ufffd"
        if run is not None and not (self._new_object or self._space or self._break):
            size = self._style.size
            # Most glyphs follow the one before in the same text object.
            if code < 0x590 and base == run.base and -0.3 * size < left - run.rights[-1] < (
                _WORD_GAP * size
            ):
                run.text.append(char)
                run.lefts.append(left)
                run.rights.append(right)
                if right > run.right:
                    run.right = right
                if not mapped or char == "\ufffd":
                    run.unmapped += 1
                return
        if run is not None and self._repeats(run, char, left, base):
            return
        if run is None or not self._follows(run, left, right, base, code):
            run = Run(self._style, base, left, right, self._break)
            self._runs.append(run)
            self._run = run
        else:
            gap = left - run.rights[-1]
            if self._own_space or self._apart(gap, code):
                run.text.append(" ")
                run.lefts.append(run.rights[-1])
                run.rights.append(left)
                run.generated += not self._own_space
            run.left, run.right = min(run.left, left), max(run.right, right)
        run.text.append(char)
        run.unmapped += not mapped or char == "\ufffd"
        run.lefts.append(left)
        run.rights.append(right)
        self._space = self._own_space = self._break = self._new_object = False

    def _apart(self, gap: float, code: int) -> bool:
        """Whether the gap before a glyph parts two words, where the file has no space."""
        size = self._style.size
        if 0.0 not in self._style.direction:  # The extent of a slanted glyph is a guess.
            return self._space
        if self._space:
            return gap > _LEAST_GAP * size
        overlaps = self._new_object and gap < -_OVERLAP * size and chr(code).isalnum()
        return gap > _WORD_GAP * size or overlaps

    def _repeats(self, run: Run, char: str, left: float, base: float) -> bool:
        """Whether the glyph was drawn already, as the shadow or the bold of this one."""
        if not self._new_object or abs(base - run.base) > 2 * _REPEAT * run.style.size:
            return False
        near = _REPEAT * run.style.size
        return any(
            run.text[at] == char and abs(run.lefts[at] - left) < near
            for at in range(max(0, len(run.text) - 2), len(run.text))
        )

    def _follows(self, run: Run, left: float, right: float, base: float, code: int) -> bool:
        """Whether a glyph continues a run."""
        style = self._style
        before = run.style
        if style is not before and (
            style.direction != before.direction
            or style.annotation != before.annotation
            or style.suspect != before.suspect
        ):
            return False
        size = max(style.size, before.size)
        gap = left - run.rights[-1]
        if _is_right_to_left(code):
            gap = min(gap, run.lefts[-1] - right) if gap > 0 else run.lefts[-1] - right
        return (
            abs(base - run.base) < _SAME_BASELINE * size
            and gap < _CELL_GAP * size
            and (gap > -0.3 * size or left > run.lefts[-1] - 0.3 * size)
        )

    def finish(self) -> list[Run]:
        """The runs."""
        return self._runs


def _is_right_to_left(code: int) -> bool:
    return 0x590 <= code < 0x900 or 0xFB1D <= code < 0xFE00 or 0xFE70 <= code < 0xFF00


def text_objects(form: Any, *, depth: int = 0) -> Iterator[int]:
    """Addresses of the text objects in a form object, its inner forms included."""
    for index in range(max(0, pdfium_c.FPDFFormObj_CountObjects(form))):
        inner = pdfium_c.FPDFFormObj_GetObject(form, index)
        kind = pdfium_c.FPDFPageObj_GetType(inner)
        if kind == pdfium_c.FPDF_PAGEOBJ_TEXT:
            yield address(inner)
        elif kind == pdfium_c.FPDF_PAGEOBJ_FORM and depth < 10:
            yield from text_objects(inner, depth=depth + 1)

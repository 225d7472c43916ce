"""Glyphs that follow one another on a baseline become runs of text."""

from __future__ import annotations

import sys
import unicodedata
from dataclasses import dataclass, field
from typing import Any

from nsa_cli.documents.pdf.marks import COMBINING, joined, letter_under
from nsa_cli.documents.pdf.spacing import LEAST_GAP, as_before, is_under_ligature, jumps

Box = tuple[float, float, float, float]
"""Left, bottom, right, top in points."""

UPRIGHT = (1.0, 0.0)
"""The direction of text that is not turned."""

_SAME_BASELINE = 0.4
"""Glyphs whose baselines differ by less than this share of the font size are on one line."""

_CELL_GAP = 1.0
"""A gap wider than this share of the font size begins another run (a column or a cell)."""

_WORD_GAP = 0.25
"""A gap wider than this share of the font size is a space, even where PDFium sees none."""

_UNSEEN_GAP = 0.15
"""The same where PDFium begins a line within one, and thus looks for no space."""

_OVERLAP = 0.18
"""Text objects that overlap by more than this share of the font size are not one word."""

_REPEAT = 0.12
"""A glyph drawn again within this share of the font size is a repeated draw (fake bold)."""

_SMALLER = 0.85
"""The font size of the number of a footnote and of other raised characters, as a share of that of
the text."""

_OPENING = "“„‘«\"'(["
"""Signs that begin the text of a footnote."""

_RAISED = 0.15
"""Least height of the baseline of a raised figure above the text, as a share of the font size."""

_LOWER, _HIGHER = 0.1, 0.45
"""How far the baseline of an accent is from that of its letter, as a share of the font size."""

_LAST = 5
"""Runs of a line in which the letter of an accent is looked for, and one more."""

_FIRST_RIGHT_TO_LEFT = 0x590
"""Characters below are not written from right to left."""

_FIRST_MARK = 0x300
_MARKS = frozenset({"Mn", "Mc"})
"""Categories of characters that belong to the letter before them."""

CONTROLS = 0x20
NUMBERS = 0x10FF00
NUMBER = chr(NUMBERS)
"""The glyph numbers below `CONTROLS` are no characters; they are kept from here on until it is
known whether they mean some."""


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
        bytes: Whether the font says nothing about which characters its bytes are.
        across: Font size along the baseline, from which the widths of glyphs follow.
    """

    size: float
    direction: tuple[float, float]
    annotation: bool = False
    suspect: str = ""
    pointer: Any = None
    upright: bool = True
    bytes: bool = False
    across: float = 0.0


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
        vertical: Whether the glyphs stand below one another, as in vertical writing.
        overlaps: Whether the extents of its glyphs overlap, although the glyphs do not.
        ends_raised: Whether its last characters have another size or baseline than its first.
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
    vertical: bool = False
    overlaps: bool = False
    ends_raised: bool = False

    def string(self) -> str:
        """The characters as one string."""
        return "".join(self.text)

    def box(self) -> Box:
        """Place of the run on the page, not turned."""
        cosine, sine = self.style.direction
        low, high = self.base - 0.2 * self.style.size, self.base + 0.8 * self.style.size
        corners = [(across, up) for across in (self.left, self.right) for up in (low, high)]
        sideways = [across * cosine - up * sine for across, up in corners]
        upwards = [across * sine + up * cosine for across, up in corners]
        return min(sideways), min(upwards), max(sideways), max(upwards)


Line = list[Run]
"""Runs on one baseline, in reading order."""


class RunBuilder:
    """Puts glyphs together to runs."""

    def __init__(self) -> None:
        self._runs: list[Run] = []
        self._run: Run | None = None
        self._open: Run | None = None
        self._nearest, self._farthest, self._cell = -0.3, _WORD_GAP, _CELL_GAP
        self._least = LEAST_GAP
        self._style = Style(1.0, UPRIGHT)
        self._space = self._own_space = False
        self._break = True
        self._new_object = True
        self._guessed = False
        self._object_base = 0.0
        self._object_start = 0

    def object(self, style: Style) -> None:
        """Begin a text object."""
        self._style = style
        size = style.size
        self._nearest, self._farthest, self._cell = -0.3 * size, _WORD_GAP * size, _CELL_GAP * size
        self._least = LEAST_GAP * size
        self._new_object = True
        self._open = None

    def white(self, code: int, *, own: bool) -> None:
        """Take a space, which the file has or PDFium found, or a line break."""
        if code in (0x20, 0xA0):
            self._space = True
            self._own_space |= own or code == 0xA0
        else:
            self._break = True
        if self._break or not self._own_space:
            self._open = None

    def turned(
        self, code: int, origin: tuple[float, float], box: Any, mapped: bool, width: float = 0.0
    ) -> None:
        """Take a glyph of a text object that is not upright.

        Args:
            code: Its character.
            origin: Where it begins on the page, in points.
            box: Its extent on the page.
            mapped: Whether the file says which character it is.
            width: Along a slanted baseline, in points; 0 if unknown.
        """
        cosine, sine = self._style.direction
        x, y = origin
        base = y * cosine - x * sine
        if sine == 0.0:
            left, right = -box.right, -box.left
        elif cosine == 0.0:
            left, right = (box.bottom, box.top) if sine > 0 else (-box.top, -box.bottom)
        else:
            left = x * cosine + y * sine
            right = left + (width or 0.55 * self._style.size)
            self._guessed = not width
        self.glyph(code, left, right, base, mapped)
        self._guessed = False

    def glyph(self, code: int, left: float, right: float, base: float, mapped: bool) -> None:
        """Take a glyph with its extent along the baseline and the height of that."""
        run = self._run
        char = chr(code) if CONTROLS <= code <= sys.maxunicode else chr(NUMBERS + code % CONTROLS)
        open_run = self._open
        if (
            open_run is not None
            and code < _FIRST_RIGHT_TO_LEFT
            and base == open_run.base
            and self.plain(char, left, right)
        ):
            open_run.unmapped += not mapped or char >= NUMBER
            return
        self._open = None
        if run is not None and self._repeats(run, char, left, base):
            return
        if run is not None and self._is_mark_of(run, code, left, base):
            _put_mark(run, char, left, right)
            self._space = self._own_space = self._break = self._new_object = False
            self._open = run if base == run.base else None
            return
        if self._new_object and char in COMBINING:
            line = self._runs[:-_LAST:-1]
            if any(_put_accent(each, char, left, right, base) for each in line):
                return
        if self._new_object:
            self._object_base = base
        elif run is not None and self._object_base - base > 0.5 * self._style.size:
            run.vertical = True  # Only vertical writing moves down within a text object.
        if run is None or not self._follows(run, left, right, base, code):
            run = Run(self._style, base, left, right, self._break)
            self._runs.append(run)
            self._run = run
        else:
            own = self._own_space and not is_under_ligature(run, left, run.style.size)
            if own or (not self._own_space and self._apart(run, left, right, base, code)):
                run.text.append(" ")
                run.lefts.append(run.rights[-1])
                run.rights.append(left)
                run.generated += not self._own_space
            run.left, run.right = min(run.left, left), max(run.right, right)
            if self._new_object and is_exponent(run, base, self._style.size, char):
                put_exponent_mark(run)
            elif self._new_object and abs(base - run.base) < _LOWER * run.style.size:
                run.ends_raised = False
        if self._new_object:
            self._object_start = len(run.text)
        run.text.append(char)
        run.unmapped += not mapped or char >= NUMBER
        run.lefts.append(left)
        run.rights.append(right)
        self._space = self._own_space = self._break = self._new_object = False
        self._open = run if base == run.base else None

    def plain(self, char: str, left: float, right: float) -> bool:
        """Take a glyph that follows the one before in the same text object, as most glyphs do.

        Args:
            char: Of a script that is written from left to right.
            left: Where the glyph begins, on the baseline of the one before.
            right: Where it ends.

        Returns:
            Whether it was taken; `glyph` takes the others.
        """
        run = self._open
        if run is None:
            return False
        rights = run.rights
        end = rights[-1]
        if self._own_space:
            if not self._least < left - end < self._cell:
                return False
            run.text.append(" ")
            run.lefts.append(end)
            rights.append(left)
            self._space = self._own_space = False
        elif not self._nearest < left - end < self._farthest:
            return False
        run.text.append(char)
        run.lefts.append(left)
        rights.append(right)
        if right > run.right:
            run.right = right
        return True

    def _apart(self, run: Run, left: float, right: float, base: float, code: int) -> bool:
        """Whether the gap before a glyph parts two words, where the file has no space."""
        size = self._style.size
        if run.vertical:
            return False
        if self._guessed:
            return self._space
        gap = left - run.rights[-1]
        if _is_right_to_left(code) and left < run.lefts[-1]:
            gap = run.lefts[-1] - right
        if gap > LEAST_GAP * size and as_before(run, left, gap, run.style.size):
            return False
        if self._space:
            return gap > LEAST_GAP * size or _overlap_always(run)
        if self._new_object and (
            jumps(run, left, run.style.size) or is_footnote_number(run, base, size, chr(code))
        ):
            return True
        if self._new_object and gap < -_OVERLAP * size and chr(code).isalnum():
            run.overlaps |= self._is_kerned(run, gap, base, code)
            return not _overlap_always(run)
        return gap > (_UNSEEN_GAP if self._break else _WORD_GAP) * size

    def _is_kerned(self, run: Run, gap: float, base: float, code: int) -> bool:
        """Whether a glyph begins over the edge of a letter that is drawn by itself, or is raised.

        So the pieces of `T|aylor` and `W|ashington` are drawn, the A of LaTeX, and glyphs that are
        drawn one by one from a font in place of a narrower one.
        """
        raised = base > run.base and self._style.size < _SMALLER * run.style.size
        return (
            (raised or len(run.text) - self._object_start == 1)
            and not _is_right_to_left(code)
            and -gap < (1.0 if raised else 0.5) * (run.rights[-1] - run.lefts[-1])
        )

    def _repeats(self, run: Run, char: str, left: float, base: float) -> bool:
        """Whether the glyph was drawn already, as the shadow or the bold of this one."""
        if not self._new_object or abs(base - run.base) > 2 * _REPEAT * run.style.size:
            return False
        near = _REPEAT * run.style.size
        return any(
            run.text[at] == char and abs(run.lefts[at] - left) < near
            for at in range(max(0, len(run.text) - 2), len(run.text))
        )

    def _is_mark_of(self, run: Run, code: int, left: float, base: float) -> bool:
        """Whether the glyph is a combining mark, drawn by itself over a letter before the last."""
        return (
            self._new_object
            and code >= _FIRST_MARK
            and not _is_right_to_left(code)
            and unicodedata.category(chr(min(code, sys.maxunicode))) in _MARKS
            and abs(base - run.base) < _SAME_BASELINE * run.style.size
            and run.left <= left < run.lefts[-1]
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
        if run.vertical:
            return not self._new_object
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


def is_footnote_number(run: Run, base: float, size: float, char: str) -> bool:
    """Whether a run is the raised number before a footnote.

    Args:
        run: Begins a line.
        base: The height of the baseline of the character after it.
        size: The font size of that.
        char: That character.
    """
    return (
        run.broke
        and run.style.size < _SMALLER * size
        and run.base > base
        and (char.isalnum() or char in _OPENING)
        and all(map(str.isdigit, run.text))
    )


def is_exponent(run: Run, base: float, size: float, char: str) -> bool:
    """Whether a character is raised after a figure: an exponent, or the mark of a footnote.

    Args:
        run: The run up to the character.
        base: The height of its baseline.
        size: Its font size.
        char: The character.
    """
    return (
        size < _SMALLER * run.style.size
        and base > run.base + _RAISED * run.style.size
        and run.text[-1].isdigit()
        and (char.isdigit() or char in "-−–")
        and not run.ends_raised
    )


def put_exponent_mark(run: Run) -> None:
    """Part a raised figure from the one before it, so that 10³ is not read as 103."""
    run.text.append("^")
    run.lefts.append(run.rights[-1])
    run.rights.append(run.rights[-1])
    run.ends_raised = True


def _put_accent(run: Run, char: str, left: float, right: float, base: float) -> bool:
    """Join an accent that comes after its word to the letter of a run that is under it.

    Args:
        run: Changed in place.
        char: The accent.
        left: Where it begins.
        right: Where it ends.
        base: The height of its baseline, higher over a capital letter.

    Returns:
        Whether it is over a letter of the run.
    """
    if not -_LOWER < (base - run.base) / run.style.size < _HIGHER:
        return False
    at = letter_under(run.text, run.lefts, run.rights, left, right)
    one = joined(run.text[at], COMBINING[char]) if at is not None else ""
    if at is not None and one:
        run.text[at] = one
    return bool(one)


def _put_mark(run: Run, char: str, left: float, right: float) -> None:
    """Put a combining mark after the letter of a run over which it begins."""
    letters = [at for at, start in enumerate(run.lefts) if start <= left and run.text[at] != " "]
    place = max(letters, key=lambda at: (run.lefts[at], at)) + 1
    run.text.insert(place, char)
    run.lefts.insert(place, left)
    run.rights.insert(place, right)


def _overlap_always(run: Run) -> bool:
    """Whether the glyph before overlapped the one before it, too: so are those of this font.

    The space that was put between the two is taken back.
    """
    inserted = len(run.text) > 2 and run.text[-2] == " " and run.rights[-2] < run.lefts[-2]
    if inserted and not run.overlaps:
        run.overlaps = True
        del run.text[-2], run.lefts[-2], run.rights[-2]
        run.generated -= 1
    return run.overlaps


def _is_right_to_left(code: int) -> bool:
    return 0x590 <= code < 0x900 or 0xFB1D <= code < 0xFE00 or 0xFE70 <= code < 0xFF00

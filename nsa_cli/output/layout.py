"""Text laid out for a terminal: word wrap with hanging indents, shortened paths, tables."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from typing import TextIO

from rich.cells import cell_len, set_cell_size

_WIDE = re.compile(
    "[\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6"
    "\U00020000-\U0003fffd]"
)
"""Characters between which a line may break without a space."""

_BULLET = re.compile(r"[-*•–]|\(?\w{1,3}[.)]|\[\d{1,3}\]")
_GAP = "  "
_NARROWEST = 12
"""Cells that a shortened column keeps."""

_EASE = 4
"""Cells by which a column of paths is narrower than one of words."""


def columns(stream: TextIO) -> int | None:
    """Return the width of the terminal that a stream writes to, in cells; None without one."""
    try:
        return (os.get_terminal_size(stream.fileno()).columns or None) if stream.isatty() else None
    except (OSError, ValueError, AttributeError):
        return None


def tell(text: str) -> None:
    """Print a line of the program on standard error, broken at words at a terminal."""
    sys.stderr.write(wrap(f"nsa: {text}", columns(sys.stderr), 5) + "\n")


class WordWrap:
    """Breaks a text at words as it arrives; no word that fits a line is divided.

    Lines that continue an item of a list, or an indented line, begin below its text.

    Args:
        width: Cells of a line.
        hanging: Cells before the continued lines of a plain paragraph.
    """

    def __init__(self, width: int, hanging: int = 0) -> None:
        self._width = width
        self._hanging = hanging
        self._word, self._space = "", ""
        self._column, self._indent = 0, hanging
        self._fresh = True

    def feed(self, text: str) -> str:
        """Take the next characters; returns what can be shown already."""
        out = []
        for char in text:
            if char == "\n":
                out += [self._place(), "\n"]
                self._space = ""
                self._column, self._indent, self._fresh = 0, self._hanging, True
            elif char.isspace() and char != "\xa0":
                out.append(self._place())
                self._space += char
            elif _WIDE.match(char):
                out.append(self._place())
                self._word = char
            else:
                if _WIDE.match(self._word):
                    out.append(self._place())
                self._word += char
        return "".join(out)

    def end(self) -> str:
        """Return the last word."""
        return self._place()

    def _place(self) -> str:
        word, space = self._word, self._space
        if not word:
            return ""
        self._word = self._space = ""
        size = cell_len(word)
        if self._fresh:
            first = cell_len(space.expandtabs())
            bullet = size + 1 if _BULLET.fullmatch(word) else 0
            indent = max(self._hanging, first + bullet)
            self._indent = indent if indent <= self._width // 2 else min(2, self._width // 4)
        elif self._column + cell_len(space) + size > self._width and self._column > self._indent:
            self._column = self._indent + size
            return "\n" + " " * self._indent + word
        self._fresh = False
        self._column += cell_len(space) + size
        return space + word


def wrap(text: str, width: int | None, hanging: int = 0) -> str:
    """Return a text broken at words.

    Args:
        text: The text; its own line breaks are kept.
        width: Cells of a line; None to return the text as it is.
        hanging: Cells before the lines that continue another.
    """
    if width is None:
        return text
    words = WordWrap(width, hanging)
    return words.feed(text) + words.end()


def documents_in_words(count: int) -> str:
    """Return a number of documents as text."""
    return "1 document" if count == 1 else f"{count:,} documents"


def shorten_path(path: str, width: int) -> str:
    """Return a path of at most some cells; the middle of a longer one is left out.

    The name of the file is kept, as far as it fits.
    """
    if cell_len(path) <= width:
        return path
    name = path.rstrip("/").rpartition("/")[2]
    tail = path[path.rfind(name) - 1 :] if len(name) < len(path) else path
    if cell_len(tail) + 2 > width:  # not even the name fits
        back = max(1, (width - 1) // 2)
        return set_cell_size(path, width - 1 - back).rstrip() + "…" + _last_cells(path, back)
    room = width - 1 - cell_len(tail)
    return set_cell_size(path, room).rstrip() + "…" + tail


def _last_cells(text: str, width: int) -> str:
    while cell_len(text) > width:
        text = text[1:]
    return text


def table(
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    width: int | None,
    *,
    right: Sequence[int] = (),
    paths: Sequence[int] = (),
) -> list[str]:
    """Return the lines of a table with aligned columns.

    In a table wider than the terminal, paths are shortened and cells wrapped at words, the widest
    columns first; where not even that fits, each row becomes a block with a line for each cell.

    Args:
        head: The names of the columns; empty for none.
        rows: The cells of each row.
        width: Cells of a line; None for no limit.
        right: Columns to align to the right.
        paths: Columns of paths, which may be shortened.
    """
    cells = [*([head] if head else []), *rows]
    widths = [max(map(cell_len, column)) for column in zip(*cells, strict=True)]
    if width is None or _total(widths) <= width:
        return _aligned(cells, widths, right)
    least = [
        min(most, _NARROWEST) if number in paths else max(_longest_words(column))
        for number, (most, column) in enumerate(zip(widths, zip(*cells, strict=True), strict=True))
    ]
    if not head:  # names and values: a long word of a value leaves the line, not the name
        least[-1] = min(least[-1], max(_NARROWEST, width - _total([*widths[:-1], 0])))
    while _total(widths) > width:
        wider = [number for number in range(len(widths)) if widths[number] > least[number]]
        if not wider:
            return _blocks(head, rows, width, paths)
        size = {number: widths[number] + _EASE * (number in paths) for number in wider}
        widths[max(size, key=size.__getitem__)] -= 1
    lines: list[str] = []
    for row in cells:
        parts = [
            [shorten_path(cell, widths[number])]
            if number in paths
            else wrap(cell.strip(), widths[number]).split("\n")
            for number, cell in enumerate(row)
        ]
        height = max(map(len, parts))
        filled = [[*part, *[""] * (height - len(part))] for part in parts]
        lines += _aligned(list(zip(*filled, strict=True)), widths, right)
    return lines


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + len(_GAP) * (len(widths) - 1)


def _longest_words(column: Sequence[str]) -> list[int]:
    return [max(map(cell_len, cell.split()), default=0) for cell in column]


def _aligned(
    cells: Sequence[Sequence[str]], widths: Sequence[int], right: Sequence[int]
) -> list[str]:
    lines = []
    for row in cells:
        padded = []
        for number, (text, width) in enumerate(zip(row, widths, strict=True)):
            gap = " " * (width - cell_len(text))
            padded.append(gap + text if number in right else text + gap)
        lines.append(_GAP.join(padded).rstrip())
    return lines


def _blocks(
    head: Sequence[str], rows: Sequence[Sequence[str]], width: int, paths: Sequence[int]
) -> list[str]:
    """Return a block for each row: its first cell, then the others with their names."""
    lines: list[str] = []
    capitals = all(name == name.upper() for name in head)
    names = [f"{name.lower() if capitals else name}{_GAP}" for name in head[1:]]
    indent = len(_GAP) + max(map(cell_len, names), default=0)
    for first, *others in rows:
        lines += wrap(first, width, len(_GAP)).split("\n")
        for number, cell in enumerate(map(str.strip, others)):
            if cell:
                label = f"{_GAP}{names[number] if names else ''}".ljust(indent)
                text = shorten_path(cell, max(1, width - indent)) if number + 1 in paths else cell
                lines += wrap(label + text, width, indent).split("\n")
    return lines

"""Tables whose columns are drawn one by one, and columns of prose drawn across one another."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from nsa_cli.documents.pdf.runs import Line

_FEWEST_ROWS = 3
"""Rows that two columns of prose drawn across one another have at least."""

_MOST_PAIRS = 1_000_000
_LONGEST_BLOCK = 500

_WRAPPED = 0.4
"""Share of lines that begin with a small letter, from which a column is prose and no table."""


def in_rows(lines: list[Line]) -> list[Line]:
    """Put columns of figures beside the column before them, row by row."""
    stacks: list[list[Line]] = []
    for line in lines:
        last = stacks[-1][-1][0] if stacks else None
        below = last is not None and (
            last.style.direction == line[0].style.direction and line[0].base < last.base
        )
        if below:
            stacks[-1].append(line)
        else:
            stacks.append([line])
    ordered: list[list[Line]] = []
    for stack in stacks:
        rows = _rows_beside(ordered[-1], stack) if ordered and _are_figures(stack) else None
        if rows is None:
            ordered.append(stack)
            continue
        for line, row in zip(stack, rows, strict=True):
            row += line
            row.sort(key=lambda run: run.left)
    return [line for stack in ordered for line in stack]


def _rows_beside(stack: Sequence[Line], column: Sequence[Line]) -> list[Line] | None:
    """The line of a stack beside each line of a column; None if one has none."""
    rows = []
    if len(stack) * len(column) > _MOST_PAIRS:
        return None
    for line in column:
        run = line[0]
        beside = [
            other
            for other in stack
            if other[0].style.direction == run.style.direction
            and abs(other[0].base - run.base) < 0.2 * run.style.size
            and all(each.right <= run.left or line[-1].right <= each.left for each in other)
        ]
        if len(beside) != 1:
            return None
        rows.append(beside[0])
    return rows


def _are_figures(lines: Sequence[Line]) -> bool:
    """Whether lines are the cells of a column of numbers, its heading aside."""
    texts = [" ".join(run.string() for run in line) for line in lines]
    figures = sum(len(text.split()) <= 3 and any(map(str.isdigit, text)) for text in texts)
    return len(texts) >= _FEWEST_ROWS and figures >= len(texts) - 1


def in_columns(lines: list[Line]) -> list[Line]:
    """Read columns of prose, drawn line by line across one another, one after the other."""
    ordered: list[Line] = []
    at = 0
    while at < len(lines):
        stop, gutter = _block(lines, at)
        if gutter is None:
            ordered.append(lines[at])
            at += 1
            continue
        halves: tuple[list[Line], list[Line]] = ([], [])
        for line in lines[at:stop]:
            for half, part in zip(halves, _parted(line, gutter), strict=True):
                if part:
                    half.append(part)
        if all(_is_prose(half) for half in halves):
            for half in halves:
                ordered += in_columns(half)
        else:
            ordered += lines[at:stop]
        at = stop
    return ordered


def _parted(line: Line, gutter: float) -> tuple[Line, Line]:
    left = [run for run in line if run.left < gutter]
    return left, [run for run in line if run.left >= gutter]


def _block(lines: Sequence[Line], start: int) -> tuple[int, float | None]:
    """The end of the rows from `start` on that leave the same gap free, and a place in it."""
    gaps = _gaps(lines[start])
    stop, rows = start, 0
    while stop < min(len(lines), start + _LONGEST_BLOCK) and gaps:
        line = lines[stop]
        if line[0].style.direction != lines[start][0].style.direction:
            break
        own = _gaps(line)
        size = line[0].style.size
        left, right = line[0].left, max(run.right for run in line)
        if own:
            cut = _cut(gaps, own)
            rows += bool(cut)
        else:  # One of the columns is longer.
            cut = [gap for gap in gaps if right <= gap[0] + size or left >= gap[1] - size]
        if not cut:
            break
        gaps = cut
        stop += 1
    if rows < _FEWEST_ROWS or not gaps:
        return start + 1, None
    widest = max(gaps, key=lambda gap: gap[1] - gap[0])
    return stop, widest[0]


def _gaps(line: Line) -> list[tuple[float, float]]:
    """The wide gaps of a line, from left to right."""
    size = line[0].style.size
    return [
        (one.right, other.left)
        for one, other in pairwise(line)
        if other.left - one.right > 0.8 * size
    ]


def _cut(
    gaps: Sequence[tuple[float, float]], others: Sequence[tuple[float, float]]
) -> list[tuple[float, float]]:
    """The parts that two lists of gaps have in common."""
    both = ((max(a[0], b[0]), min(a[1], b[1])) for a in gaps for b in others)
    return [(left, right) for left, right in both if right - left > 3.0]


def _is_prose(lines: Sequence[Line]) -> bool:
    """Whether lines are wrapped prose rather than the cells of a table's column."""
    texts = ["".join("".join(run.text) for run in line) for line in lines]
    if len(texts) < _FEWEST_ROWS:
        return False
    words = sum(len(text.split()) for text in texts)
    letters = sum(char.isalpha() for text in texts for char in text)
    characters = sum(not char.isspace() for text in texts for char in text)
    if letters < 0.7 * characters or words < 2 * len(texts):
        return False
    small = sum(text.lstrip()[:1].islower() for text in texts[1:])
    return small >= _WRAPPED * (len(texts) - 1)

"""The runs of a page become lines in reading order."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise
from statistics import median

from nsa_cli.documents.pdf.accents import compose_accents
from nsa_cli.documents.pdf.clean import join_surrogates
from nsa_cli.documents.pdf.columns import in_columns, in_rows
from nsa_cli.documents.pdf.language import is_language
from nsa_cli.documents.pdf.right_to_left import (
    has_right_to_left,
    is_right_to_left,
    to_logical_order,
)
from nsa_cli.documents.pdf.runs import (
    Line,
    Run,
    is_exponent,
    is_footnote_number,
    put_exponent_mark,
)

_SAME_LINE = 0.4
"""Runs whose baselines differ by less than this share of the font size are on one line."""

_RAISED = 0.6
"""The same for runs of another font size: exponents, indices, marks of footnotes."""

_NEARLY = 0.15
"""Share of the font size by which the edges of a repeated draw may differ."""

_SHORTEST_WORD = 8
"""Letters apart from one another without a wider gap: a title of one word, or a list."""

_FEWEST_IN_WORD, _APART = 3, 0.25
"""Letters of a word that is set wide, and the share of the font size by which they are apart."""

_FEW, _MOST_COMPARED = 8, 500
"""Runs and lines that one more is compared with: a page may have a hundred thousand."""

_FEWEST_APART = 5
"""Letters apart from one another that are joined to words; fewer may be a list or a formula."""


def page_text(runs: Sequence[Run]) -> str:
    """The text of a page, line by line in reading order.

    The order is that of the file, with these exceptions: runs on one baseline are one line, from
    left to right; columns of figures that are drawn one after the other are the rows of a table;
    columns of prose that are drawn line by line across one another are read one after the other;
    drawings of annotations are read at their place; repeated draws are read once.
    """
    kept = [run for run in _without_repeats(runs) if run.text]
    lines = in_columns(in_rows(_lines(run for run in kept if not run.style.annotation)))
    drawn = _lines(run for run in kept if run.style.annotation)
    for line in drawn[:_MOST_COMPARED]:
        _insert(lines, line)
    lines += drawn[_MOST_COMPARED:]
    return join_surrogates("\n".join(_line_text(line) for line in lines))


def _without_repeats(runs: Sequence[Run]) -> list[Run]:
    """Leave out runs that are drawn where their text already stands."""
    kept: list[Run] = []
    rows: dict[int, list[Run]] = defaultdict(list)
    for run in runs:
        size = run.style.size
        row = round(run.base)
        near = _NEARLY * size
        text = run.string()
        if not any(
            other.style.direction == run.style.direction
            and abs(other.base - run.base) < 2 * near
            and other.left - near <= run.left
            and run.right <= other.right + near
            and _stands_in(text, run, other, near)
            for beside in (row - 1, row, row + 1)
            for other in rows[beside][-_MOST_COMPARED:]
        ):
            rows[row].append(run)
            kept.append(run)
    return kept


def _stands_in(text: str, run: Run, other: Run, near: float) -> bool:
    """Whether another run has the text of a run at the same place."""
    whole = other.string()
    at = whole.find(text)
    while at >= 0:
        if abs(other.lefts[at] - run.left) < near:
            return True
        at = whole.find(text, at + 1)
    return False


def _lines(runs: Iterable[Run]) -> list[Line]:
    """Put runs that follow one another on a baseline on one line."""
    lines: list[Line] = []
    for run in runs:
        if lines and _join(lines[-1], run):
            continue
        lines.append([run])
    return lines


def _join(line: Line, run: Run) -> bool:
    """Add a run to its line; False if it is on another line."""
    first = max(line[-_FEW:], key=lambda each: each.style.size)
    size = max(run.style.size, first.style.size)
    if run.style.direction != first.style.direction or run.vertical or first.vertical:
        return False
    raised = min(run.style.size, first.style.size) < 0.9 * size  # An exponent or an index.
    if abs(run.base - first.base) >= (_RAISED if raised else _SAME_LINE) * size:
        return False
    slack = 0.3 * size
    last = line[-1]
    if run.left >= last.right - slack:
        number = len(line) == 1 and is_footnote_number(last, run.base, run.style.size, run.text[0])
        if _continues(last, run) and not number:
            _append(last, run)
        else:
            line.append(run)
        return True
    if not run.broke and _right_to_left(run) and _right_to_left(last):
        line.append(run)
        return True
    for at, each in enumerate(line[:_MOST_COMPARED]):
        before = line[at - 1].right if at else float("-inf")
        if run.right <= each.left + slack and run.left >= before - slack:
            line.insert(at, run)
            return True
    return False


def _continues(last: Run, run: Run) -> bool:
    """Whether two runs have no space between them: an exponent, an index, what follows these."""
    gap = run.left - last.right
    return -0.3 * last.style.size < gap < 0.12 * min(last.style.size, run.style.size) and (
        last.ends_raised or _differs(last, run)
    )


def _differs(last: Run, run: Run) -> bool:
    """Whether a run has another size or another baseline than the one before it."""
    return (
        abs(last.style.size - run.style.size) > 0.1 * last.style.size
        or abs(last.base - run.base) > 0.1 * last.style.size
    )


def _append(last: Run, run: Run) -> None:
    if is_exponent(last, run.base, run.style.size, run.text[0]):
        put_exponent_mark(last)
    last.ends_raised = _differs(last, run)
    last.text += run.text
    last.lefts += run.lefts
    last.rights += run.rights
    last.generated += run.generated
    last.unmapped += run.unmapped
    last.right = max(last.right, run.right)


def _right_to_left(run: Run) -> bool:
    return any(is_right_to_left(char) for char in run.text[:8])


def _insert(lines: list[Line], line: Line) -> None:
    """Put a line that an annotation draws at its place among the lines of the page."""
    run = line[0]
    size = run.style.size
    beside = [
        at
        for at, other in enumerate(lines)
        if other[0].style.direction == run.style.direction
        and abs(other[0].base - run.base) < 0.6 * max(size, other[0].style.size)
    ]
    for at in beside:
        other = lines[at]
        if any(run.left < each.right and each.left < line[-1].right for each in other):
            continue
        place = bisect_left([each.left for each in other], run.left)
        other[place:place] = line
        return
    above = [
        (other[0].base - run.base, -at, at)
        for at, other in enumerate(lines)
        if other[0].style.direction == run.style.direction and other[0].base > run.base
    ]
    if not above:
        insort(lines, line, key=lambda each: -each[0].base) if not lines else lines.insert(0, line)
        return
    lines.insert(min(above)[2] + 1, line)


def _line_text(line: Line) -> str:
    """The text of a line, in the order in which its script is read."""
    if has_right_to_left(line):
        letters = Counter(
            is_right_to_left(char) for run in line for char in run.text if char.isalpha()
        )
        for run in line:
            to_logical_order(run)
        if letters[True] > letters[False]:
            line = sorted(line, key=lambda run: -run.right)
    line = _as_one(line) if len(line) > 1 and _is_set_wide(line) else line
    return " ".join(text for run in line if (text := _spelled(run)))


def _is_set_wide(line: Line) -> bool:
    """Whether the runs of a line are words whose letters are all apart from one another.

    The letters are evenly apart, and the words farther. Cells that hold letters are no words: they
    are few, capital letters, or in the order of the alphabet.
    """
    words = [[char for char in run.text if not char.isspace()] for run in line]
    letters = [char for word in words for char in word]
    if (
        any(len(word) < _FEWEST_IN_WORD for word in words)
        or not all(map(str.isalpha, letters))
        or 2 * sum(map(str.islower, letters)) < len(letters)
        or letters == sorted(letters)
    ):
        return False
    gaps = [gap for run in line for gap in _gaps_between_letters(run)]
    between = [after.left - before.right for before, after in pairwise(line)]
    size = line[0].style.size
    return min(gaps) > _APART * size and max(gaps) + 0.25 * size < min(min(between), 3 * min(gaps))


def _gaps_between_letters(run: Run) -> list[float]:
    glyphs = [at for at, char in enumerate(run.text) if not char.isspace()]
    return [run.lefts[after] - run.rights[at] for at, after in pairwise(glyphs)]


def _as_one(line: Line) -> Line:
    """The runs of a line as one."""
    one = replace(line[0], text=[*line[0].text], lefts=[*line[0].lefts], rights=[*line[0].rights])
    for run in line[1:]:
        one.text += [" ", *run.text]
        one.lefts += [one.rights[-1], *run.lefts]
        one.rights += [run.left, *run.rights]
        one.generated += 1 + run.generated
        one.unmapped += run.unmapped
        one.right = run.right
    return [one]


def _spelled(run: Run) -> str:
    """The text of a run; letters set apart from one another become words."""
    compose_accents(run)
    text = run.string().replace("\ufffd", "")
    words = [word for word in text.split() if any(char.isalnum() for char in word)]
    if len(words) < _FEWEST_APART or 2 * run.generated < run.text.count(" "):
        return text
    if sum(len(word) == 1 for word in words) < 0.8 * len(words):
        return text
    glyphs = [at for at, char in enumerate(run.text) if not char.isspace()]
    gaps = _gaps_between_letters(run)
    apart = median(gaps) + 0.25 * run.style.size
    joined = run.text[glyphs[0]]
    for gap, at in zip(gaps, glyphs[1:], strict=True):
        joined += (" " if gap > apart else "") + run.text[at]
    is_word = len(joined) >= _SHORTEST_WORD and list(joined) != sorted(joined)
    return joined if " " in joined or (is_word and is_language(joined)) else text

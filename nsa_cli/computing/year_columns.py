"""Both figures of a change over time, from one row of a table with a column for each year."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from nsa_cli.computing.choice import Span
from nsa_cli.computing.expression import PERCENT, POINTS
from nsa_cli.computing.figures import Figure, figures
from nsa_cli.computing.forms import Form
from nsa_cli.documents import Document
from nsa_cli.retrieval.number_words import MONTHS
from nsa_cli.retrieval.polarity import akin
from nsa_cli.retrieval.sentences import is_figure
from nsa_cli.retrieval.stems import stems

_YEAR = re.compile(r"(?<!\d)(?:19|20)\d\d(?!\d)")
_CHANGES = re.compile(
    r"\b(?:grow\w*|grew|rise|rises|rose|risen|increas\w+|decreas\w+|declin\w+|fall|falls|fell|fallen|"
    r"drop\w*|shr[aiu]nk\w*|(?:go|goes|went|gone) (?:up|down)|chang\w+|climb\w*|"
    r"stieg\w*|gestiegen|wuchs\w*|gewachsen|wächst|steigt|sank\w*|gesunken|fiel\w*|gefallen|"
    r"augment\w+|diminu\w+|baiss\w+)\b",
    re.IGNORECASE,
)
_SINCE = re.compile(
    r"\b(?:gegenüber|compared (?:to|with)|against|since|seit|from|over|par rapport à|depuis)"
    r" (?:the year |dem jahr |l['’]année )?(?=(?:19|20)\d\d)",
    re.IGNORECASE,
)
"""Words before the earlier year of a change."""

_PART_OF_YEAR = re.compile(
    rf"\b(?:months?|quarters?|half|week\w*|monat\w*|quartal\w*|halbjahr\w*|mois|trimestre|"
    rf"{'|'.join(name for name in MONTHS if len(name) > 3)})\b",
    re.IGNORECASE,
)
_COMPARES = re.compile(r"\b(?:than|exceed\w*|als|que)\b", re.IGNORECASE)
_PLAIN = {"{0} - {1}", "{1} - {0}", "({0} - {1}) / {1}", "({1} - {0}) / {0}", "{0} / {1} - 1"}
_PLAIN |= {"({0} - {1}) / {0}", "({1} - {0}) / {1}"}
_REACH = 3000
"""Characters before a row in which the header of its table is looked for."""

_MOST_WORDS = 10
"""Words of a header beside its years; a longer line is a sentence."""

_DECIMALS = re.compile(r"[.,]\d{1,2}\Z")
_LARGEST_NOTE = 99
_LEAST_SHARE = 0.5
"""Share of the words of a row's label that a question has."""

_NO_LABEL = frozenset(
    stems(
        "total net amount year figure percent increase decrease change growth gesamt summe "
        "veränderung prozent jahr"
    )
)


class YearRow(NamedTuple):
    """A row of a table, with the figure of each year.

    Attributes:
        label: The words before its figures.
        figures: Its figures by year.
    """

    label: str
    figures: dict[int, Figure]


def years_of(question: str) -> tuple[int, int] | None:
    """Return the earlier and the later year of a change that a question asks for, or None.

    Where it names one year, and something that grows or falls, the other is the year before; the
    year after, where it asks for the change since that year.

    Args:
        question: The question.
    """
    years = sorted({int(each) for each in _YEAR.findall(question)})
    if len(years) == 2:
        return years[0], years[1]
    is_change = _CHANGES.search(question) and not _COMPARES.search(question)
    if len(years) != 1 or not is_change or _PART_OF_YEAR.search(question):
        return None
    return (years[0], years[0] + 1) if _SINCE.search(question) else (years[0] - 1, years[0])


def of_one_row(
    form: Form,
    written: Sequence[Figure],
    question: str,
    document: Document,
    spans: Sequence[Span],
) -> tuple[Form, list[Figure]]:
    """Return a change over time with both figures from one row; what was given where no row tells.

    Args:
        form: The form of the expression.
        written: The figures of the expression.
        question: The question.
        document: The document.
        spans: What was read of it.
    """
    years = years_of(question) if form.name in ("growth", "difference") else None
    if years is None or len(written) != 2 or form.expression not in _PLAIN:
        return form, list(written)
    rows = _rows_of(years, document, spans)
    starts = {each.start for each in written}
    whole = [row for row in rows if starts == {row.figures[year].start for year in years}]
    row = _best(whole, question) or _best(rows, question, least=1.0 if whole else _LEAST_SHARE)
    if row is None:
        return form, list(written)
    return _change(form, row, years, percent=form.percent)


def change_of_row(
    asked: Form, question: str, document: Document, spans: Sequence[Span]
) -> tuple[Form, list[Figure]] | None:
    """Return the change over time that a row tells, where a model has written none; or None.

    Args:
        asked: The form that the question asks for.
        question: The question.
        document: The document.
        spans: What was read of it.
    """
    years = years_of(question) if asked.name in ("growth", "difference") else None
    if years is None:
        return None
    row = _best(_rows_of(years, document, spans), question)
    return None if row is None else _change(asked, row, years, percent=asked.percent)


def _change(
    form: Form, row: YearRow, years: tuple[int, int], *, percent: bool
) -> tuple[Form, list[Figure]]:
    """The later figure less the earlier one, as a part of the earlier one for a percentage."""
    expression = "({0} - {1}) / {1}" if percent else "{0} - {1}"
    earlier, later = years
    return replace(form, expression=expression), [row.figures[later], row.figures[earlier]]


def _rows_of(years: tuple[int, int], document: Document, spans: Sequence[Span]) -> list[YearRow]:
    """The rows with two figures of one kind for two years."""
    return [
        row
        for row in _rows(document, spans)
        if {*years} <= {*row.figures} and _are_alike(*(row.figures[year] for year in years))
    ]


def _are_alike(one: Figure, other: Figure) -> bool:
    """Whether two figures have as many decimals, and none is negative: neither is torn."""
    return _decimals(one) == _decimals(other) and min(one.value, other.value) >= 0


def _decimals(figure: Figure) -> int:
    found = _DECIMALS.search(figure.digits)
    return 0 if found is None else len(found.group()) - 1


def _rows(document: Document, spans: Sequence[Span]) -> Iterator[YearRow]:
    """Yield the rows of some spans that have a figure for each year of their header."""
    text = document.text
    for span in spans:
        at = span.start
        for line in text[span.start : span.end].splitlines(keepends=True):
            begin, at = at, at + len(line)
            found = list(figures(text, begin, at))
            found = [each for each in found if each.quantity.unit not in (PERCENT, POINTS)]
            if len(found) < 2:
                continue
            first = max(document.piece_at(begin).start, begin - _REACH)
            years = _header(text[first:begin])
            if len(found) == len(years) + 1 and _is_note(found[0]):
                found = found[1:]
            if len(years) == len(found):
                label = text[begin : found[0].start]
                yield YearRow(label, dict(zip(years, found, strict=True)))


def _header(before: str) -> list[int]:
    """The years of the nearest line of years, each once; none where one stands twice."""
    for line in reversed(before.splitlines()):
        years = [int(each) for each in _YEAR.findall(line)]
        if len(years) < 2 or len(line.split()) - len(years) > _MOST_WORDS:
            continue
        return years if len({*years}) == len(years) else []
    return []


def _is_note(figure: Figure) -> bool:
    """Whether a figure may be the number of a note, or of the row."""
    return figure.digits.isdigit() and int(figure.digits) <= _LARGEST_NOTE


def _best(rows: Sequence[YearRow], question: str, least: float = _LEAST_SHARE) -> YearRow | None:
    """The row whose label shares most with a question, by rare words; None if two are equal."""
    asked = stems(question) - _NO_LABEL
    labels = [{word for word in stems(row.label) if not is_figure(word)} for row in rows]
    times = Counter(word for label in labels for word in label)

    def shared(label: set[str]) -> set[str]:
        return {word for word in label if any(akin(word, other) for other in asked)}

    def worth(label: set[str]) -> float:
        here, told = shared(label) - _NO_LABEL, label - _NO_LABEL
        if not here or len(here) < least * len(told):
            return 0.0
        return sum(math.log(1 + len(rows) / times[word]) for word in here) - 0.01 * len(label)

    values = [worth(label) for label in labels]
    best = max(values, default=0.0)
    if best <= 0:
        return None
    found = [row for row, value in zip(rows, values, strict=True) if value > best - 0.005]
    distinct = {tuple(each.start for each in row.figures.values()) for row in found}
    return found[0] if len(distinct) == 1 else None

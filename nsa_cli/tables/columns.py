"""Typed columns of a table: numbers, dates, yes or no, and texts."""

from __future__ import annotations

import datetime
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from nsa_cli.documents.table import Row, Table
from nsa_cli.tables.dates import day_first, is_ambiguous, parse_date
from nsa_cli.tables.numbers import Number, decimal_mark, parse_number, unit_named
from nsa_cli.tables.words import folded, header_words, word_set

Kind = Literal["number", "date", "boolean", "text"]

_NOTHING = frozenset(
    ["", "-", "–", "—", "--", "n/a", "na", "n.a.", "#n/a", "null", "none", "nil", "nan", "k.a."]
)
"""Cells of a column of numbers or dates that say that there is no value."""

_BLANK_TEXTS = frozenset(["", "-", "–", "—", "--", "n/a", "#n/a", "null"])
_YES_NO = {
    **dict.fromkeys(["yes", "true", "y", "ja", "wahr", "x"], True),
    **dict.fromkeys(["no", "false", "n", "nein", "falsch"], False),
}
_SAMPLED = 400
_MOSTLY = 0.75
"""Share of the cells that tell the kind of a column."""

_MOST_UNITS = 4
_TOTALS = re.compile(
    r"(?:(?:grand|sub)[ -]?)?totals?|sum|(?:gesamt|zwischen|end)?summen?|gesamt|insgesamt",
    re.IGNORECASE,
)
_KEY_WORDS = frozenset(["id", "no", "nr", "nummer", "number", "code", "key", "sku", "ref", "#"])
_UNITS = word_set("mm cm m km g kg mg s ms h hr hrs l ml eur usd gbp chf pct % kw kwh ha")
_LEADING_ZERO = re.compile(r"0\d+")


@dataclass(frozen=True, slots=True)
class Misfit:
    """A cell that does not fit its column.

    Attributes:
        row: Index of the row in the table.
        text: The cell.
    """

    row: int
    text: str


@dataclass(eq=False)
class Column:
    """A column of a table.

    Attributes:
        index: From 0.
        name: From the header.
        cells: Its cells, one for each row.
        decimal: The decimal mark of the table's numbers; None if they do not show it.
        written: Whether people wrote the numbers, rather than a format.
    """

    index: int
    name: str
    cells: Sequence[str]
    decimal: str | None
    written: bool
    _numbers: dict[str, Number | None] = field(default_factory=dict, repr=False)

    @cached_property
    def words(self) -> tuple[str, ...]:
        """The words of its name, stemmed."""
        return header_words(self.name)

    @cached_property
    def bare_words(self) -> tuple[str, ...]:
        """The words of its name without a unit at the end, as in `body_mass_g`."""
        words = self.words
        return words[:-1] if len(words) > 1 and words[-1] in _UNITS else words

    @property
    def head(self) -> str:
        """The noun of its name: `price` of `Unit Price`."""
        return self.bare_words[-1] if self.bare_words else ""

    @cached_property
    def kind(self) -> Kind:
        """What most of its cells are."""
        filled = [cell for cell in self.cells if cell.casefold() not in _NOTHING]
        sample = filled[:: max(1, len(filled) // _SAMPLED)]
        if not sample:
            return "text"
        if all(cell.casefold() in _YES_NO for cell in sample) and not self._is_lettered(sample):
            return "boolean"
        numbers = [found for cell in sample if (found := parse_number(cell, self.decimal))]
        units = {number.unit for number in numbers} - {""}
        if (
            len(numbers) >= _MOSTLY * len(sample)
            and len(units) <= _MOST_UNITS
            and not any(_LEADING_ZERO.fullmatch(cell) for cell in sample)
        ):
            return "number"
        dates = sum(_is_date(cell) for cell in sample)
        return "date" if dates >= _MOSTLY * len(sample) else "text"

    @staticmethod
    def _is_lettered(sample: Sequence[str]) -> bool:
        """Whether single letters such as `x` or `n` are the only letters."""
        return {cell.casefold() for cell in sample} in ({"n"}, {"y"})

    def marks(self, most: int | None = None) -> set[str]:
        """Decimal marks that its numbers show; of at most some of them, if that is given."""
        if not self.written:
            return set()
        cells = list(dict.fromkeys(self.cells))
        step = 1 if most is None else max(1, len(cells) // most)
        return {
            mark
            for cell in cells[::step]
            if ("." in cell or "," in cell)
            and (mark := decimal_mark(cell))
            and parse_number(cell, mark)
            and not _is_date(cell)
        }

    @cached_property
    def is_key(self) -> bool:
        """Whether no two rows have the same value, as with identifiers."""
        filled = [cell for cell in self.cells if cell]
        unique = len(filled) == len(self.cells) > 1 and len(set(filled)) == len(filled)
        if not unique or self.kind in ("date", "boolean"):
            return False
        if self.kind == "number":
            whole = all(cell.isdecimal() for cell in filled)
            return whole and (self.index == 0 or bool(_KEY_WORDS & set(self.raw_words)))
        return True

    @cached_property
    def raw_words(self) -> tuple[str, ...]:
        """The words of its name, folded."""
        return tuple(folded(self.name).split()) + (("#",) if "#" in self.name else ())

    @cached_property
    def is_year(self) -> bool:
        """Whether it holds years."""
        named = bool({"year", "jahr"} & set(self.raw_words))
        return self.kind == "number" and named

    @cached_property
    def is_measure(self) -> bool:
        """Whether its numbers can be added, unlike identifiers and years."""
        named = bool(_KEY_WORDS & set(self.raw_words))
        return self.kind == "number" and not self.is_key and not self.is_year and not named

    @cached_property
    def days_first(self) -> bool | None:
        """Whether the day comes first in its dates; None if they do not say it."""
        return day_first(self.cells)

    def number(self, row: int) -> Number | None:
        """The number in a row; None for a blank cell or a text."""
        cell = self.cells[row]
        if cell not in self._numbers:
            self._numbers[cell] = parse_number(cell, self.decimal)
        return self._numbers[cell]

    def date(self, row: int) -> datetime.date | None:
        """The date in a row; None for a blank cell or a text."""
        return parse_date(self.cells[row], day_first=self.days_first)

    @staticmethod
    def says(cell: str) -> bool | None:
        """Whether a cell says yes; None if it says neither yes nor no."""
        return _YES_NO.get(cell.casefold())

    def is_blank(self, row: int) -> bool:
        """Whether a row has no value."""
        cell = self.cells[row].casefold()
        return cell in (_BLANK_TEXTS if self.kind == "text" else _NOTHING)

    def misfits(self, rows: Sequence[int]) -> list[Misfit]:
        """Cells of some rows that are neither blank nor of the column's kind."""
        if self.kind not in ("number", "date"):
            return []
        read = self.number if self.kind == "number" else self.date
        return [
            Misfit(row, self.cells[row])
            for row in rows
            if read(row) is None and not self.is_blank(row)
        ]

    def units(self, rows: Sequence[int]) -> Counter[str]:
        """How many cells of some rows have each unit."""
        found = (self.number(row) for row in rows)
        return Counter(number.unit for number in found if number is not None)

    def decimals(self) -> int:
        """Most digits after the decimal mark in its numbers."""
        found = [number for number in map(self.number, range(len(self.cells))) if number]
        exponents = (number.value.as_tuple().exponent for number in found)
        return min(6, max((-each for each in exponents if isinstance(each, int)), default=0))


class TypedTable:
    """A table, or several with the same header, with typed columns.

    Args:
        tables: At least one.

    Attributes:
        rows: Each row with the table that it is from.
        totals: Rows with totals, which are none of the others' kind.
        ragged: Rows with more cells than the header has names.
    """

    def __init__(self, tables: Sequence[Table]) -> None:
        self.tables = tables
        width = len(tables[0].header)
        self.rows: list[tuple[Table, Row]] = []
        self.totals: list[tuple[Table, Row]] = []
        self.ragged: list[tuple[Table, Row]] = []
        for table in tables:
            last = len(table.rows) - 1
            for index, row in enumerate(table.rows):
                if _is_total(row) and (index >= last - 1 or "total" in row.plain.casefold()):
                    self.totals.append((table, row))
                    continue
                if len(row.cells) > width and any(row.cells[width:]):
                    self.ragged.append((table, row))
                self.rows.append((table, row))

    @cached_property
    def columns(self) -> list[Column]:
        """The columns, each with its name."""
        first = self.tables[0]
        bodies = [row.cells for _, row in self.rows]
        written = first.decimal is None
        columns = [
            Column(
                index,
                name or f"column {index + 1}",
                [cells[index] if index < len(cells) else "" for cells in bodies],
                first.decimal,
                written,
            )
            for index, name in enumerate(first.header)
        ]
        if written:
            marks = [column.marks(_SAMPLED) for column in columns]
            shown = set().union(*marks)
            fallback = "," if first.delimiter == ";" and not shown else None
            usual = shown.pop() if len(shown) == 1 else fallback
            for column, own in zip(columns, marks, strict=True):
                column.decimal = next(iter(own)) if len(own) == 1 else usual
        return columns

    @property
    def name(self) -> str:
        """Where it is, such as `orders.csv` or `book.xlsx, sheet 2 (Orders)`."""
        return ", ".join(_place(table) for table in self.tables)

    @property
    def noun(self) -> str:
        """What its rows are: `row` of a sheet or `line` of a file."""
        return "line" if self.tables[0].page is None else "row"

    @cached_property
    def is_prose(self) -> bool:
        """Whether its cells are sentences rather than values."""
        texts = [cell for column in self.columns if column.kind == "text" for cell in column.cells]
        filled = [cell for cell in texts if cell]
        return bool(filled) and sum(map(len, filled)) / len(filled) > 60

    @cached_property
    def index(self) -> dict[str, dict[int, set[str]]]:
        """Folded values of all texts and identifiers, with their columns and spellings."""
        found: dict[str, dict[int, set[str]]] = {}
        for column in self.columns:
            if column.kind in ("number", "date") and not column.is_key:
                continue
            for cell in set(column.cells):
                key = folded(cell)
                if key:
                    found.setdefault(key, {}).setdefault(column.index, set()).add(cell)
        return found

    @cached_property
    def sized(self) -> dict[str, dict[int, set[str]]]:
        """Folded cells of numbers with an unusual unit (`30 cm`), as in `index`."""
        found: dict[str, dict[int, set[str]]] = {}
        for column in self.columns:
            if column.kind != "number" or column.is_key:
                continue
            for row, cell in enumerate(column.cells):
                number = column.number(row)
                if number is not None and number.unit and unit_named(number.unit) is None:
                    found.setdefault(folded(cell), {}).setdefault(column.index, set()).add(cell)
        return found


def is_ambiguous_date(column: Column, row: int) -> bool:
    """Whether a date may be read in two ways."""
    return column.days_first is None and is_ambiguous(column.cells[row])


def _is_date(cell: str) -> bool:
    return parse_date(cell) is not None or is_ambiguous(cell)


def _is_total(row: Row) -> bool:
    first = next((cell for cell in row.cells if cell), "")
    return bool(_TOTALS.fullmatch(first.rstrip(":")))


def _place(table: Table) -> str:
    if table.page is None:
        return table.source
    title = f" ({table.title})" if table.title else ""
    return f"{table.source}, sheet {table.page}{title}"

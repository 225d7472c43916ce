"""Answers about the tables of a document that are computed, not generated."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Any

from nsa_cli.documents import Document
from nsa_cli.documents.table import Row, Table
from nsa_cli.results import CellCitation, Computation
from nsa_cli.tables.columns import Column, TypedTable
from nsa_cli.tables.evaluate import NotComputableError, Result, evaluate, rounded
from nsa_cli.tables.numbers import number_text
from nsa_cli.tables.query import Query, conditions_in_words
from nsa_cli.tables.question import Understood, understand
from nsa_cli.tables.words import folded

RULES = 2
"""Version of the rules; bump when the same question about the same table gets another answer."""

_MOST_CITED = 3
_MOST_VALUES = 10
_MOST_GROUPS = 20
_MOST_SHOWN_NAMES = 12


@dataclass(frozen=True, slots=True)
class Computed:
    """A computed answer.

    Attributes:
        text: The answer.
        citations: The rows that hold the result, or the first and the last of many.
        computation: What was computed.
    """

    text: str
    citations: tuple[CellCitation, ...]
    computation: Computation


def compute(document: Document, question: str) -> Computed | None:
    """Answer a question by computing over the tables of a document.

    Args:
        document: The document.
        question: The question.

    Returns:
        The answer, or the reason for none; None if the question does not ask to compute or look up,
        or is not about the tables.
    """
    if not document.tables:
        return None
    understood = [
        found
        for table in _typed_once(document.tables)
        if (found := understand(question, table)) is not None
    ]
    ready = [each for each in understood if each.query is not None]
    if not ready:
        return _refused(document, understood)
    best = max(each.anchored for each in ready)
    ready = [each for each in ready if each.anchored == best]
    if len(ready) > 1:
        ready = _named_in(question, ready)
    if len(ready) > 1:
        names = " and ".join(each.table.name for each in ready)
        return _refusal(f"the question may be about {names}; name one of them", names)
    return _answered(document, ready[0])


_last: list[tuple[Sequence[Table], list[TypedTable]]] = []
"""The tables that were last asked about, so that the next question finds them typed."""


def _typed_once(tables: Sequence[Table]) -> list[TypedTable]:
    """The tables with typed columns, kept for the next question about the same document."""
    for kept, typed in _last:
        if kept is tables:
            return typed
    typed = _typed(tables)
    _last[:] = [(tables, typed)]
    return typed


def _typed(tables: Sequence[Table]) -> list[TypedTable]:
    """The tables with typed columns; those with the same header as one."""
    same: dict[tuple[str, ...], list[Table]] = {}
    for table in tables:
        same.setdefault(tuple(folded(name) for name in table.header), []).append(table)
    return [TypedTable(group) for group in same.values()]


def _named_in(question: str, found: Sequence[Understood]) -> list[Understood]:
    """The tables whose file or sheet the question names; all if it names none."""
    asked = folded(question)
    named = [
        each
        for each in found
        if any(
            name and folded(name) in asked
            for table in each.table.tables
            for name in (
                table.title,
                table.source,
                table.source.rpartition("/")[2].partition(".")[0],
            )
        )
    ]
    return named or list(found)


def _refused(document: Document, understood: Sequence[Understood]) -> Computed | None:
    """Why a question that asks to compute has no answer; None to leave it to the model."""
    whole = {table.source for table in document.tables} >= {p.source for p in document.pieces}
    failed = [each for each in understood if each.strong and not each.table.is_prose]
    if not failed or not whole:
        return None
    best = max(failed, key=lambda each: each.anchored)
    columns = ", ".join(column.name for column in best.table.columns[:_MOST_SHOWN_NAMES])
    more = ", …" if len(best.table.columns) > _MOST_SHOWN_NAMES else ""
    return _refusal(
        f"{best.problem} (columns of {best.table.name}: {columns}{more})", best.table.name
    )


def _refusal(why: str, name: str) -> Computed:
    computation = Computation(
        table=name, operation="", description="", value=None, rows=0, refused=why
    )
    return Computed(f"Not computed: {why}.", (), computation)


def _answered(document: Document, understood: Understood) -> Computed:
    """Evaluate a query and put its result in words."""
    table, query = understood.table, understood.query
    assert query is not None
    try:
        result = evaluate(query, table)
    except NotComputableError as error:
        return _refusal(f"{error} (in {table.name})", table.name)
    words = _Words(query, table, result)
    text = words.sentence()
    if understood.instead is not None:
        text += _instead(understood.instead, table, text)
    computation = Computation(
        table=table.name,
        operation=query.operation,
        description=words.description(),
        value=words.value(),
        rows=result.used,
        refused=None,
        unit=result.unit,
    )
    return Computed(text, _citations(document, query, table, result), computation)


def _instead(query: Query, table: TypedTable, text: str) -> str:
    """The result of the other reading, in words; empty where it names the same."""
    try:
        result = evaluate(query, table)
    except NotComputableError:
        return ""
    words = _Words(query, table, result)
    if all(f"{each.name}:" in text for each in result.groups):
        return ""
    return f". Added up: {words.figure()} ({words.description()})"


class _Words:
    """A query and its result in words."""

    def __init__(self, query: Query, table: TypedTable, result: Result) -> None:
        self._query = query
        self._table = table
        self._result = result
        self._column: Column | None = None
        if query.column is not None:
            self._column = table.columns[query.column]

    def sentence(self) -> str:
        """The answer: the figure, and its description."""
        notes = [self.description() + f" in {self._table.name}", *self._notes()]
        return f"{self.figure()} ({'; '.join(notes)})"

    def description(self) -> str:
        """What was computed, such as `sum of Amount over 37 rows where Region is West`."""
        query, result = self._query, self._result
        where = conditions_in_words(query.conditions, self._table)
        over = f" over {_rows(result.used)}{where}"
        of = f" of {self._column.name}" if self._column is not None else ""
        if query.operation == "values":
            return f"{self._column.name if self._column else 'cells'}{where}"
        if query.operation == "share":
            return f"share of {result.used:,} of {len(self._table.rows):,} rows{where}"
        if query.group is not None:
            what = f"{query.operation}{of}" if of else "count of rows"
            by = f" by {query.group.words(self._table)}{over}"
            ends = {"desc": "greatest ", "asc": "least "}
            return f"{ends.get(query.order or '', '')}{what}{by}"
        if query.operation == "count":
            return f"count of rows{where}"
        if query.operation in ("top", "bottom"):
            end = "greatest" if query.operation == "top" else "least"
            return f"{query.limit} {end}{of}{over}"
        named = {"distinct": "distinct values"}.get(query.operation, query.operation)
        return f"{named}{of}{over}"

    def _notes(self) -> list[str]:
        notes = []
        held, query = self._result.held, self._query
        if query.operation in ("min", "max") and query.group is None and not query.asked:
            alone = len(held) == 1 and query.shown
            if alone or len(held) > 1:
                notes.append(self._holder(held[0]) if alone else f"held by {_rows(len(held))}")
        key = next((column for column in self._table.columns if column.is_key), None)
        holding = query.operation in ("min", "max") and query.asked and query.group is None
        if holding and len(held) == 1 and key is not None and key.index not in query.shown:
            notes.append(f"{key.name} {key.cells[held[0]]}")
        if self._result.blanks:
            notes.append(f"{_counted(self._result.blanks, 'blank cell', 'blank cells')} left out")
        if self._table.totals:
            lines = ", ".join(str(row.number) for _, row in self._table.totals[:_MOST_CITED])
            notes.append(f"totals left out: {self._table.noun} {lines}")
        return notes

    def figure(self) -> str:
        """The result alone."""
        query, result = self._query, self._result
        if query.group is not None:
            shown = [f"{each.name}: {self._number(each.value)}" for each in result.groups]
            more = f"; {len(shown) - _MOST_GROUPS:,} more" if len(shown) > _MOST_GROUPS else ""
            return "; ".join(shown[:_MOST_GROUPS]) + more
        if query.operation == "values":
            return self._values()
        if query.operation == "distinct":
            if query.loose and result.used != result.value:
                return f"{result.value} different, in {_rows(result.used)}"
            many = len(result.held) > _MOST_VALUES and not query.asked
            names = "" if many else self._cells(result.held)
            if query.asked and result.value == 1:
                return names
            return f"{result.value}: {names}" if names else f"{result.value}"
        if query.operation in ("min", "max", "top", "bottom"):
            return self._rows_held()
        assert isinstance(result.value, Decimal)
        return self._number(result.value)

    def _values(self) -> str:
        rows = self._result.rows
        if not rows:
            return "No row"
        if self._query.shown:
            indexes = [self._query.column or 0, *self._query.shown]
            parts = [
                ", ".join(
                    f"{self._table.columns[index].name} {self._table.columns[index].cells[row]}"
                    for index in indexes
                )
                for row in rows[:_MOST_VALUES]
            ]
            return "; ".join(parts)
        cells = self._cells(rows)
        return cells if len(rows) == 1 else f"{_rows(len(rows))}: {cells}"

    def _cells(self, rows: Sequence[int]) -> str:
        assert self._column is not None
        cells = [self._column.cells[row] or "(blank)" for row in rows[:_MOST_VALUES]]
        more = f"; {len(rows) - _MOST_VALUES:,} more" if len(rows) > _MOST_VALUES else ""
        return "; ".join(cells) + more

    def _rows_held(self) -> str:
        """The cells with the extremes, after what they are of if that was asked."""
        assert self._column is not None
        query, held = self._query, self._result.held
        if query.operation in ("min", "max") and not query.asked:
            return self._column.cells[held[0]]
        named = [f"{self._holder(row)}: {self._column.cells[row]}".lstrip(": ") for row in held]
        parts = list(dict.fromkeys(named))
        more = f"; {len(parts) - _MOST_VALUES:,} more" if len(parts) > _MOST_VALUES else ""
        return "; ".join(parts[:_MOST_VALUES]) + more

    def _holder(self, row: int) -> str:
        columns = self._table.columns
        named = [(columns[index].name, columns[index].cells[row]) for index in self._query.shown]
        return ", ".join(f"{name} {cell}" for name, cell in named)

    def _number(self, value: Decimal) -> str:
        """A number with as many decimals as its column has, a mean with two at least."""
        query = self._query
        if query.operation in ("count", "distinct") or self._column is None:
            share = query.operation == "share"
            return number_text(rounded(value, 2), None, "%") if share else number_text(value)
        decimals = self._column.decimals()
        if query.operation in ("mean", "median") and value != rounded(value, decimals):
            decimals = max(2, decimals)
        return number_text(rounded(value, decimals), decimals, self._result.unit)

    def value(self) -> Any:
        """The result as JSON."""
        query, result = self._query, self._result
        if query.group is not None:
            return [
                {"group": each.name, "value": _plain(each.value), "rows": len(each.rows)}
                for each in result.groups
            ]
        listed = query.operation in ("values", "top", "bottom") or (
            query.operation == "distinct" and query.asked
        )
        if self._column is not None and listed:
            return [self._column.cells[row] for row in result.held]
        return _plain(result.value)


def _citations(
    document: Document, query: Query, table: TypedTable, result: Result
) -> tuple[CellCitation, ...]:
    """The rows that hold the result; of many the first and the last."""
    rows = list(result.held or result.rows)
    if (query.operation == "distinct" and query.group is None) or (
        query.group is not None and query.limit is None
    ):
        rows = list(result.rows)
    if query.operation not in ("min", "max", "top", "bottom", "values") or query.group is not None:
        rows = [
            row for row in rows if query.column is None or table.columns[query.column].cells[row]
        ]
    if len(rows) > _MOST_CITED:
        extreme = query.operation in ("min", "max", "top", "bottom", "values") and not query.group
        rows = rows[:_MOST_CITED] if extreme else [min(rows), max(rows)]
    elif query.operation not in ("top", "bottom"):
        rows.sort()
    column = query.column
    if column is None and query.conditions:
        column = query.conditions[0].column
    found = [_citation(document, *table.rows[row], column) for row in rows]
    return tuple(each for each in found if each is not None)


def _citation(
    document: Document, table: Table, row: Row, column: int | None
) -> CellCitation | None:
    """A row as a citation, with the cell that counts."""
    span = document.line_span(table.source, table.page, row.number)
    if span is None:
        return None
    name = table.header[column] if column is not None and column < len(table.header) else ""
    address = None
    if column is not None and table.page is not None:
        address = f"{letters(column + 1)}{row.number}"
    return CellCitation(
        **asdict(document.locate(*span)),
        quote=document.text[slice(*span)],
        score=1.0,
        verified=True,
        column=name or None,
        cell=address,
    )


def letters(column: int) -> str:
    """The letters of a spreadsheet's column, counted from 1."""
    text = ""
    while column:
        column, rest = divmod(column - 1, 26)
        text = chr(ord("A") + rest) + text
    return text


def _plain(value: Decimal | datetime.date | None) -> int | float | str | None:
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return None if value is None else value.isoformat()


def _rows(count: int) -> str:
    return _counted(count, "row", "rows")


def _counted(count: int, one: str, more: str) -> str:
    return f"1 {one}" if count == 1 else f"{count:,} {more}"

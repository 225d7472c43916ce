"""Evaluate a query over a table, in exact decimal arithmetic."""

from __future__ import annotations

import datetime
import operator
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

from nsa_cli.tables.columns import Column, Misfit, TypedTable, is_ambiguous_date
from nsa_cli.tables.dates import MONTH_NAMES
from nsa_cli.tables.query import Condition, Group, Query
from nsa_cli.tables.vocabulary import MONEY
from nsa_cli.tables.words import folded

_SHOWN = 3
_CURRENCY = frozenset(["currency", "wahrung", "waehrung"])


class NotComputableError(Exception):
    """A query that the table has no answer to; the message says what is missing."""


@dataclass(frozen=True, slots=True)
class GroupResult:
    """The result of one group.

    Attributes:
        name: The value that its rows share.
        value: The result.
        rows: Indexes of its rows.
    """

    name: str
    value: Decimal
    rows: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a query finds.

    Attributes:
        value: The number or date; None where the cells of `held` are the answer.
        rows: Indexes of the rows that meet the conditions.
        used: How many of them have a value.
        held: Indexes of the rows that hold the result: those of an extreme, or of the top.
        groups: The groups in order; empty without grouping.
        unit: The unit of the numbers, or empty.
        blanks: Blank cells that were left out.
    """

    value: Decimal | datetime.date | None
    rows: tuple[int, ...]
    used: int
    held: tuple[int, ...] = ()
    groups: tuple[GroupResult, ...] = ()
    unit: str = ""
    blanks: int = 0


def evaluate(query: Query, table: TypedTable) -> Result:
    """Evaluate a query.

    Raises:
        NotComputableError: If cells do not fit the operation, or no cell has a value.
    """
    if table.ragged:
        raise NotComputableError(
            f"{_counted(len(table.ragged), 'row has', 'rows have')} more cells than the header "
            f"({_lines([row.number for _, row in table.ragged], table.noun)})"
        )
    rows = selected(query.conditions, table)
    if query.group is not None:
        return _grouped(query, rows, table)
    if query.operation == "count":
        return Result(value=Decimal(len(rows)), rows=rows, used=len(rows))
    if query.operation == "share":
        if not table.rows:
            raise NotComputableError("the table has no rows")
        value = Decimal(100 * len(rows)) / len(table.rows)
        return Result(value=value, rows=rows, used=len(rows), unit="%")
    assert query.column is not None
    column = table.columns[query.column]
    filled = [row for row in rows if not column.is_blank(row)]
    blanks = len(rows) - len(filled)
    if query.operation == "values":
        return Result(value=None, rows=rows, used=len(filled), held=rows, blanks=blanks)
    if query.operation == "distinct":
        names = {folded(column.cells[row]): row for row in reversed(filled)}
        held = tuple(sorted(names.values()))
        return Result(
            value=Decimal(len(names)), rows=rows, used=len(filled), held=held, blanks=blanks
        )
    unit = _check(column, filled, query.operation, table)
    if not filled:
        what = "no row meets the conditions" if not rows else f"{column.name} is blank in all rows"
        raise NotComputableError(what)
    if query.operation in ("min", "max", "top", "bottom"):
        return _extreme(query, column, rows, filled, unit)
    numbers = [number.value for row in filled if (number := column.number(row))]
    value = aggregate(query.operation, numbers)
    return Result(value=value, rows=rows, used=len(filled), unit=unit, blanks=blanks)


def aggregate(operation: str, numbers: Sequence[Decimal]) -> Decimal:
    """The sum, mean or median of at least one number."""
    total = sum(numbers, Decimal(0))
    if operation == "sum":
        return total
    if operation == "mean":
        return total / len(numbers)
    ordered, half = sorted(numbers), len(numbers) // 2
    return ordered[half] if len(numbers) % 2 else (ordered[half - 1] + ordered[half]) / 2


def rounded(value: Decimal, decimals: int) -> Decimal:
    """A number rounded half to even."""
    return value.quantize(Decimal(1).scaleb(-decimals), rounding=ROUND_HALF_EVEN)


def selected(conditions: Sequence[Condition], table: TypedTable) -> tuple[int, ...]:
    """Indexes of the rows that meet all conditions.

    Raises:
        NotComputableError: If cells cannot be compared.
    """
    rows = tuple(range(len(table.rows)))
    for condition in conditions:
        column = table.columns[condition.column]
        if column.kind == "number" and isinstance(next(iter(condition.values), ""), Decimal):
            _check_texts(column, column.misfits(rows), table)
        if column.kind == "date" and condition.test not in ("blank", "filled"):
            _check_dates(column, rows, table)
        test = _test(condition, column)
        rows = tuple(row for row in rows if test(row))
    return rows


def _test(condition: Condition, column: Column) -> Callable[[int], bool]:
    """The test of a condition, for the index of a row."""
    values = condition.values
    if condition.test in ("blank", "filled"):
        return lambda row: column.is_blank(row) == (condition.test == "blank")
    if condition.test == "yes":
        return lambda row: column.says(column.cells[row]) == bool(values[0])
    if condition.test == "months":
        return lambda row: (date := column.date(row)) is not None and date.month in values
    if isinstance(values[0], str):
        wanted = {folded(str(value)) for value in values}
        same = condition.test == "eq"
        return lambda row: (folded(column.cells[row]) in wanted) == same

    def compared(row: int) -> bool:
        if isinstance(values[0], Decimal):
            number = column.number(row)
            return number is not None and _holds(condition.test, number.value, values)
        date = column.date(row)
        return date is not None and _holds(condition.test, date, values)

    return compared


def _holds(test: str, found: Any, values: Sequence[Any]) -> bool:
    if test in ("eq", "ne"):
        return (found in values) == (test == "eq")
    if test == "between":
        return bool(values[0] <= found <= values[1])
    compare = {"lt": operator.lt, "le": operator.le, "gt": operator.gt, "ge": operator.ge}[test]
    return bool(compare(found, values[0]))


def _grouped(query: Query, rows: tuple[int, ...], table: TypedTable) -> Result:
    """The result of each group."""
    group = query.group
    assert group is not None
    by = table.columns[group.column]
    if group.part:
        _check_dates(by, rows, table)
    named = [row for row in rows if not by.is_blank(row)]
    blanks, unit = len(rows) - len(named), ""
    column = None if query.column is None else table.columns[query.column]
    if column is not None and query.operation != "distinct":
        filled = [row for row in named if not column.is_blank(row)]
        blanks, named = blanks + len(named) - len(filled), filled
        unit = _check(column, named, query.operation, table)
    members: dict[Hashable, list[int]] = {}
    for row in named:
        members.setdefault(_key(by, row, group), []).append(row)
    if not members:
        raise NotComputableError("no row meets the conditions")
    results = [
        GroupResult(_name(by, own, group), _of_group(query.operation, column, own), tuple(own))
        for _, own in (sorted(members.items()) if group.part else members.items())
    ]
    if query.order is not None:
        results.sort(key=lambda each: each.value, reverse=query.order == "desc")
        if query.limit is not None and len(results) > query.limit:
            last = results[query.limit - 1].value  # of equals none is left out
            results = [
                each
                for place, each in enumerate(results)
                if place < query.limit or each.value == last
            ]
    return Result(
        value=None,
        rows=rows,
        used=len(named),
        held=tuple(row for each in results for row in each.rows),
        groups=tuple(results),
        unit=unit,
        blanks=blanks,
    )


def _of_group(operation: str, column: Column | None, rows: Sequence[int]) -> Decimal:
    if column is None or operation == "count":
        return Decimal(len(rows))
    if operation == "distinct":
        return Decimal(len({folded(column.cells[row]) for row in rows if not column.is_blank(row)}))
    numbers = [number.value for row in rows if (number := column.number(row))]
    if operation in ("min", "max"):
        return max(numbers) if operation == "max" else min(numbers)
    return aggregate(operation, numbers)


def _key(column: Column, row: int, group: Group) -> Hashable:
    date = column.date(row) if group.part else None
    if date is None:
        return folded(column.cells[row])
    month = {"year": 0, "quarter": (date.month + 2) // 3, "month": date.month}[str(group.part)]
    return (date.year, month)


def _name(column: Column, rows: Sequence[int], group: Group) -> str:
    date = column.date(rows[0]) if group.part else None
    if date is None:
        return column.cells[rows[0]]
    if group.part == "month":
        return f"{MONTH_NAMES[date.month - 1]} {date.year}"
    quarter = f"Q{(date.month + 2) // 3} " if group.part == "quarter" else ""
    return f"{quarter}{date.year}"


def _extreme(
    query: Query, column: Column, rows: tuple[int, ...], filled: list[int], unit: str
) -> Result:
    """The greatest or least values, with all rows that hold them."""

    def value(row: int) -> Any:
        number = column.number(row) if column.kind == "number" else None
        return number.value if number is not None else column.date(row)

    down = query.operation in ("max", "top")
    ordered = sorted(filled, key=value, reverse=down)
    count = query.limit or 1
    last = value(ordered[min(count, len(ordered)) - 1])
    held = [row for place, row in enumerate(ordered) if place < count or value(row) == last]
    return Result(
        value=value(ordered[0]) if query.operation in ("min", "max") else None,
        rows=rows,
        used=len(filled),
        held=tuple(held),
        unit=unit,
        blanks=len(rows) - len(filled),
    )


def _check(column: Column, rows: Sequence[int], operation: str, table: TypedTable) -> str:
    """Check that cells can be computed with; returns their unit.

    Raises:
        NotComputableError: If they hold texts, or several units.
    """
    if column.kind == "date" and operation in ("min", "max", "top", "bottom"):
        _check_dates(column, rows, table)
        return ""
    if column.kind != "number":
        raise NotComputableError(f"{column.name} has {_kind(column)}, not numbers")
    _check_texts(column, column.misfits(rows), table)
    units = column.units(rows)
    plain = units.get("", 0)
    if len(units) > 1 and not (plain and len(units) == 2 and "%" not in units):
        raise NotComputableError(f"{column.name} mixes units: {_units(units)}")
    if len(units) > 1:
        raise NotComputableError(f"{column.name} has a unit in some cells only: {_units(units)}")
    beside = _unit_column(table, column)
    if beside is not None:
        found = Counter(beside.cells[row] for row in rows)
        if len(found) > 1:
            raise NotComputableError(
                f"{column.name} mixes units: {beside.name} is {_units(found)}; name one of these"
            )
        if found and not next(iter(units), ""):
            return next(iter(found))
    return next(iter(units), "")


def _unit_column(table: TypedTable, column: Column) -> Column | None:
    """The column that gives the currency of a column's amounts, or None."""
    for each in table.columns:
        if each.kind == "text" and _CURRENCY & set(each.raw_words):
            money = bool(MONEY & set(column.words)) or abs(each.index - column.index) == 1
            return each if money else None
    return None


def _check_texts(column: Column, misfits: Sequence[Misfit], table: TypedTable) -> None:
    if misfits:
        shown = "; ".join(f"{each.text!r}" for each in misfits[:_SHOWN])
        lines = _lines([table.rows[each.row][1].number for each in misfits], table.noun)
        raise NotComputableError(
            f"{_counted(len(misfits), 'cell', 'cells')} of {column.name} "
            f"{'is' if len(misfits) == 1 else 'are'} no number ({shown}; {lines})"
        )
    if len(column.marks()) > 1:
        raise NotComputableError(
            f"{column.name} has decimal points in some cells and decimal commas in others"
        )


def _check_dates(column: Column, rows: Sequence[int], table: TypedTable) -> None:
    if any(is_ambiguous_date(column, row) for row in rows):
        raise NotComputableError(
            f"the dates of {column.name} do not say whether the day or the month comes first"
        )
    misfits = column.misfits(rows)
    if misfits:
        lines = _lines([table.rows[each.row][1].number for each in misfits], table.noun)
        raise NotComputableError(
            f"{_counted(len(misfits), 'cell', 'cells')} of {column.name} "
            f"{'is' if len(misfits) == 1 else 'are'} no date ({misfits[0].text!r}; {lines})"
        )


def _kind(column: Column) -> str:
    return {"text": "text", "date": "dates", "boolean": "yes or no"}.get(column.kind, column.kind)


def _units(units: Counter[str]) -> str:
    return ", ".join(
        f"{unit or 'none'} in {_counted(count, 'cell', 'cells')}"
        for unit, count in units.most_common(5)
    )


def _lines(numbers: Sequence[int], noun: str) -> str:
    shown = ", ".join(map(str, numbers[:_SHOWN]))
    return f"{noun if len(numbers) == 1 else noun + 's'} {shown}" + (
        ", …" if len(numbers) > _SHOWN else ""
    )


def _counted(count: int, one: str, more: str) -> str:
    return f"1 {one}" if count == 1 else f"{count:,} {more}"

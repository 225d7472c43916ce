"""Dates and periods of a question as conditions on columns of dates."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from decimal import Decimal

from nsa_cli.tables.columns import Column, TypedTable
from nsa_cli.tables.marking import Mark
from nsa_cli.tables.query import Condition, Test

DATING: dict[str, Test] = {"after": "gt", "since": "ge", "before": "lt", "until": "le"}
"""Roles that compare dates."""


class ProblemError(Exception):
    """A question that names something the table does not have; the message says what.

    Attributes:
        sure: Whether the question is about the table, so that the model has no answer either.
    """

    def __init__(self, message: str, *, sure: bool = False) -> None:
        super().__init__(message)
        self.sure = sure


class PeriodReader:
    """Takes dates and periods from the marks of a question.

    Args:
        table: The table.
        marks: The marks.
    """

    def __init__(self, table: TypedTable, marks: Sequence[Mark]) -> None:
        self._table = table
        self._every = marks
        self._marks = [mark for mark in marks if mark.kind != "neutral"]
        self.conditions: list[Condition] = []
        self.limit: int | None = None
        self.keyed = False

    def _near(self, at: int) -> Mark | None:
        return self._marks[at] if 0 <= at < len(self._marks) else None

    def _is_denied(self, first: int) -> bool:
        before = self._near(first - 1)
        if before is not None and before.kind == "role" and before.has("not"):
            before.used = True
            return True
        return False

    @staticmethod
    def _names(mark: Mark, column: Column) -> bool:
        return mark.kind in ("column", "rows") and column.index in mark.columns

    def _period(self, at: int, mark: Mark) -> None:
        """Take a date or a period."""
        before = self._near(at - 1)
        if mark.period is not None and self._year_column(mark):
            return
        column = self._dated(mark)
        roles = before.roles if before is not None and before.kind == "role" else ()
        second = self._near(at + 2)
        joint = self._near(at + 1)
        spanned = (
            {"between", "since"}.intersection(roles)
            and joint is not None
            and joint.has("and", "until")
            and second is not None
            and second.kind == "period"
        )
        mark.used = True
        if spanned and mark.period is None and second is not None and second.period is not None:
            first = second.period[0].replace(month=mark.months[0], day=1)
            mark.period = (first, first)
        if mark.period is None:
            self._months(column, mark, before)
            return
        if spanned and second is not None and second.period is not None:
            assert before is not None
            assert joint is not None
            for each in (before, joint, second):
                each.used = True
            self.conditions.append(
                Condition(column.index, "between", (mark.period[0], second.period[1]))
            )
            return
        for role, test in DATING.items():
            if role in roles and before is not None:
                before.used = True
                edge = mark.period[0] if test in ("lt", "ge") else mark.period[1]
                self.conditions.append(Condition(column.index, test, (edge,)))
                return
        self._within(column, mark.period, at)

    def _within(self, column: Column, period: tuple[datetime.date, datetime.date], at: int) -> None:
        if self._is_denied(at):
            raise ProblemError("nsa does not leave periods out")
        last = self.conditions[-1] if self.conditions else None
        if last is not None and last.column == column.index and last.test in ("between", "eq"):
            raise ProblemError("several periods are named; ask about one at a time")
        if period[0] == period[1]:
            self.conditions.append(Condition(column.index, "eq", (period[0],)))
        else:
            self.conditions.append(Condition(column.index, "between", period))

    def _months(self, column: Column, mark: Mark, before: Mark | None) -> None:
        if before is not None and before.kind == "role" and before.has("not", *DATING, "between"):
            raise ProblemError(f"“{before.text} {mark.text}” does not say which year")
        last = self.conditions[-1] if self.conditions else None
        if last is not None and last.column == column.index and last.test == "months":
            self.conditions[-1] = Condition(column.index, "months", (*last.values, *mark.months))
        else:
            self.conditions.append(Condition(column.index, "months", mark.months))

    def _year_column(self, mark: Mark) -> bool:
        """Take a year that a column of years has."""
        assert mark.period is not None
        years = [c for c in self._table.columns if c.is_year]
        dates = [c for c in self._table.columns if c.kind == "date"]
        first, last = mark.period
        if len(years) != 1 or dates or (first.month, first.day, last.month) != (1, 1, 12):
            return False
        mark.number = None
        at = self._marks.index(mark)
        before = self._near(at - 1)
        test: Test = "eq"
        for role, found in DATING.items():
            if before is not None and before.kind == "role" and before.has(role):
                before.used, test = True, found
                break
        if before is not None and self._names(before, years[0]):
            before.used = True
        mark.used = True
        year = Decimal(first.year)
        previous = self.conditions[-1] if self.conditions else None
        if previous is not None and previous.column == years[0].index and previous.test == test:
            self.conditions[-1] = Condition(years[0].index, test, (*previous.values, year))
        else:
            self.conditions.append(Condition(years[0].index, test, (year,)))
        return True

    def _dated(self, mark: Mark) -> Column:
        """The column of dates that a period is about."""
        columns = self._table.columns
        dates = {column.index for column in columns if column.kind == "date"}
        if not dates:
            raise ProblemError(f"no column holds dates to compare with “{mark.text}”")
        order = sorted(
            (each for each in self._marks if each.kind in ("column", "rows", "unknown")),
            key=lambda each: (each.kind == "rows", abs(each.start - mark.start)),
        )
        for each in order:
            named = dates.intersection(each.columns)
            if len(named) == 1:
                only = set(each.columns) <= dates
                each.used = each.used or (each.kind == "column" and only)
                return columns[named.pop()]
        if len(dates) == 1:
            return columns[dates.pop()]
        names = either([columns[index].name for index in sorted(dates)])
        raise ProblemError(f"“{mark.text}” may mean {names}; name one of them")


def either(names: Sequence[str]) -> str:
    """Names in words, such as `A, B and C`."""
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last

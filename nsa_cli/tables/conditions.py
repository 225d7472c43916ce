"""Conditions of a question: which rows it is about."""

from __future__ import annotations

from decimal import Decimal

from nsa_cli.tables.columns import Column
from nsa_cli.tables.marking import Mark
from nsa_cli.tables.periods import DATING, PeriodReader, ProblemError, either
from nsa_cli.tables.query import Condition, Test, Value
from nsa_cli.tables.vocabulary import AGES, AMOUNTS
from nsa_cli.tables.words import folded

_COMPARING: dict[str, Test] = {"gt": "gt", "ge": "ge", "lt": "lt", "le": "le"}
SUPERLATIVES = (
    *("max", "min", "dearest", "cheapest", "latest", "earliest", "most", "fewest"),
    *("oldest", "youngest"),
)
_COUNTING = frozenset(
    [
        "between",
        "zwischen",
        "from",
        "more than",
        "less than",
        "fewer than",
        "at least",
        "at most",
        "mehr als",
        "weniger als",
    ]
)
"""Comparisons that say nothing about whether a size or a number is compared."""

_MOST_TOP = 100


class ConditionReader(PeriodReader):
    """Takes the conditions from the marks of a question, and marks them as used.

    Args:
        table: The table.
        marks: The marks.
    """

    def read(self) -> list[Condition]:
        """The conditions, each row must meet all of them.

        Raises:
            ProblemError: If a value or a comparison belongs to no column, or to several.
        """
        self._values()
        for at, mark in enumerate(self._marks):
            if not mark.used and mark.kind == "number":
                self._number(at, mark)
            elif not mark.used and mark.kind == "period":
                self._period(at, mark)
        for at, mark in enumerate(self._marks):
            if mark.kind == "role" and not mark.used and mark.has("without", "blank", "with"):
                self._blank(at, mark)
        self._booleans()
        return self.conditions

    def _values(self) -> None:
        at = 0
        while at < len(self._marks):
            mark = self._marks[at]
            if mark.kind == "value" and not mark.used:
                at = self._value(at, mark)
            at += 1

    def _value(self, at: int, mark: Mark) -> int:
        """Take a value, with others of its column that follow; returns the last one's index."""
        before, after = self._near(at - 1), self._near(at + 1)
        column = self._column_of(mark, before, after)
        first = at
        if before is not None and not before.used and self._names(before, column):
            before.used, first = True, at - 1
        elif (
            after is not None
            and not after.used
            and self._names(after, column)
            and after.start == mark.end
        ):
            after.used = True
        taken, last = [mark], at
        while self._follows(last, column):
            last = last + 1 if self._marks[last + 1].kind == "value" else last + 2
            if self._marks[last - 1] is not taken[-1]:
                self._marks[last - 1].used = True
            taken.append(self._marks[last])
        for each in taken:
            each.used = True
        test: Test = "ne" if self._is_denied(first) else "eq"
        spelled = [min(each.values[column.index]) for each in taken]
        if any(each.column == column.index and each.test == "eq" for each in self.conditions):
            raise ProblemError(
                f"several values of {column.name} are named; ask about one at a time"
            )
        self.conditions.append(Condition(column.index, test, tuple(dict.fromkeys(spelled))))
        self.keyed = self.keyed or (column.is_key and test == "eq")
        return last

    def _column_of(self, mark: Mark, before: Mark | None, after: Mark | None) -> Column:
        columns = self._table.columns
        candidates = set(mark.values)
        if before is not None and self._is_target(before, mark) and len(candidates) > 1:
            candidates -= set(before.columns)
            before = None
        if len(candidates) == 1:
            return columns[candidates.pop()]
        near = [before] + ([after] if after is not None and after.start == mark.end else [])
        for beside in (*near, *self._marks):
            if beside is not None and beside.kind in ("column", "rows"):
                named = candidates.intersection(beside.columns)
                if len(named) == 1:
                    return columns[named.pop()]
        keys = [index for index in candidates if columns[index].is_key]
        if len(keys) == 1:
            return columns[keys[0]]
        names = either([columns[index].name for index in sorted(candidates)])
        raise ProblemError(f"“{mark.text}” is in the columns {names}; name one of them")

    def _is_target(self, before: Mark, mark: Mark) -> bool:
        """Whether `of` comes between a column and a value, as in `the manager of Ann`."""
        between = [each for each in self._every if before.end <= each.start < mark.start]
        return before.kind == "column" and any(
            each.text.casefold() in ("of", "for", "von", "der", "des") for each in between
        )

    def _follows(self, at: int, column: Column) -> bool:
        """Whether another value of a column follows, as in `West or East`."""
        following = self._near(at + 1)
        if following is not None and following.kind == "role" and following.has("and"):
            following = self._near(at + 2)
        return (
            following is not None
            and following.kind == "value"
            and not following.used
            and column.index in following.values
        )

    def _number(self, at: int, mark: Mark) -> None:
        """Take a comparison, an equality, or how many to show."""
        before, after = self._near(at - 1), self._near(at + 1)
        if before is not None and before.kind == "role" and before.has("between"):
            self._between(at, mark)
            return
        test = self._comparison(before, after)
        if test is None:
            self._equal(at, mark, before, after)
            return
        if mark.number is None:
            raise ProblemError(f"“{mark.text}” cannot be compared as a number")
        assert before is not None
        counted = after if after is not None and after.kind == "rows" else None
        if counted is not None and counted.start == mark.end and not mark.number.unit:
            raise ProblemError(
                f"“{before.text} {mark.text} {counted.text}” compares a count of rows, which nsa "
                "does not do"
            )
        column = self._compared(at, mark)
        if before.kind == "role" and before.has(*_COMPARING, *DATING):
            before.used = True
        mark.used = True
        self.conditions.append(Condition(column.index, test, (mark.number.value,)))

    def _comparison(self, before: Mark | None, after: Mark | None) -> Test | None:
        if before is not None and before.kind == "role":
            for role, test in _COMPARING.items():
                if before.has(role):
                    return test
            if before.has(*DATING) and not before.has("by"):
                years = any(column.is_year for column in self._table.columns)
                for role, test in DATING.items():
                    if years and before.has(role):
                        return test
        for role, found in (("or more", "ge"), ("or less", "le")):
            if after is not None and after.kind == "role" and after.has(role):
                after.used = True
                return found  # type: ignore[return-value]
        return None

    def _between(self, at: int, mark: Mark) -> None:
        joint, second = self._near(at + 1), self._near(at + 2)
        if (
            joint is None
            or second is None
            or second.kind != "number"
            or second.number is None
            or mark.number is None
        ):
            raise ProblemError(f"“between {mark.text}” needs two numbers")
        column = self._compared(at, mark, second)
        for each in (self._marks[at - 1], mark, joint, second):
            each.used = True
        low, high = sorted((mark.number.value, second.number.value))
        self.conditions.append(Condition(column.index, "between", (low, high)))

    def _compared(self, at: int, mark: Mark, last: Mark | None = None) -> Column:
        """The column whose numbers are compared with one."""
        columns = self._table.columns
        last = last or mark
        after = next((each for each in self._marks if each.start == last.end), None)
        before = self._near(at - 1)
        if before is not None and before.has("age"):
            ages = [c for c in columns if c.is_measure and c.head in AGES]
            if len(ages) != 1:
                raise ProblemError(f"no column says what “{before.text} {mark.text}” compares")
            return ages[0]
        near = [after, self._near(at - 2), before]
        for beside in near:
            if beside is None or beside.kind not in ("column", "part"):
                continue
            named = [i for i in beside.columns if columns[i].kind == "number"]
            addable = [i for i in named if columns[i].is_measure or columns[i].is_year]
            named = addable or (named if beside.exact else [])
            if len(named) == 1:
                beside.used = beside.used or beside.kind == "column"
                return self._same_unit(columns[named[0]], mark)
        measures = [c for c in columns if c.is_measure]
        unit = (last.number.unit if last.number else "") or (
            mark.number.unit if mark.number else ""
        )
        if unit:
            own = [c for c in measures if unit in c.units(range(len(c.cells)))]
            named_unit = [c for c in measures if unit.casefold() in c.name.casefold()]
            for some in (own, named_unit):
                if len(some) == 1:
                    return self._same_unit(some[0], mark)
        sized = before is not None and folded(before.text) not in _COUNTING
        counted = sized and any(each is not None and each.kind == "rows" for each in near)
        amounts = [c for c in measures if c.head in AMOUNTS] if counted or unit != "%" else []
        for some in (measures, amounts if counted or unit else []):
            if len(some) == 1:
                return self._same_unit(some[0], mark)
        if not measures:
            raise ProblemError(f"no column of numbers can be compared with {mark.text}")
        names = either([c.name for c in measures])
        raise ProblemError(f"“{mark.text}” may compare {names}; name one of them")

    @staticmethod
    def _same_unit(column: Column, mark: Mark) -> Column:
        wanted = mark.number.unit if mark.number else ""
        units = {unit for unit in column.units(range(len(column.cells))) if unit}
        if wanted and units and wanted not in units:
            raise ProblemError(f"{column.name} is in {either(sorted(units))}, not in {wanted}")
        return column

    def _equal(self, at: int, mark: Mark, before: Mark | None, after: Mark | None) -> None:
        """Take a number without a comparison: an identifier, a value, or how many to show."""
        columns = self._table.columns
        after = after if after is not None and after.start == mark.end else None
        beside = before if before is not None and before.kind in ("column", "rows") else None
        named = [] if beside is None else list(beside.columns)
        if beside is not None and beside.kind == "rows":
            named += [c.index for c in columns if c.is_key and c.index not in named]
        holding = [i for i in named if i in mark.values] or (
            list(mark.values) if not self._is_count(at, mark) else []
        )
        if len(holding) > 1:
            holding = [i for i in holding if columns[i].is_key] or holding
        if len(holding) == 1:
            column = columns[holding[0]]
            if beside is not None and column.index in beside.columns:
                beside.used = True
            self._add_equal(column, min(mark.values[column.index]), mark, at)
            return
        if self._is_count(at, mark):
            assert mark.number is not None
            self.limit, mark.used = int(mark.number.value), True
            return
        numeric = [i for i in named if columns[i].kind == "number" and not columns[i].is_key]
        numeric = [i for i in numeric if i not in mark.values]
        if not numeric and after is not None and after.kind == "column":
            beside, numeric = after, [i for i in after.columns if columns[i].is_measure]
        if len(numeric) == 1 and mark.number is not None and beside is not None:
            beside.used = True
            self._add_equal(columns[numeric[0]], mark.number.value, mark, at)
            return
        keys = [i for i in named if columns[i].is_key]
        if keys:
            raise ProblemError(f"no row has {mark.text} as its {columns[keys[0]].name}", sure=True)

    def _add_equal(self, column: Column, value: Value, mark: Mark, at: int) -> None:
        test: Test = "ne" if self._is_denied(at - 1) or self._is_denied(at) else "eq"
        mark.used = True
        last = self.conditions[-1] if self.conditions else None
        if last is not None and last.column == column.index and last.test == test == "eq":
            self._use_joint(at)
            self.conditions[-1] = Condition(column.index, "eq", (*last.values, value))
        else:
            self.conditions.append(Condition(column.index, test, (value,)))
        self.keyed = self.keyed or (column.is_key and test == "eq")

    def _is_count(self, at: int, mark: Mark) -> bool:
        """Whether a number says how many rows or groups to show, as in `top 3`."""
        number = mark.number
        if number is None or number.unit or not 1 <= number.value <= _MOST_TOP:
            return False
        if number.value != int(number.value):
            return False
        for place in (at - 1, at + 1):
            near = self._near(place)
            if near is not None and near.kind == "role" and near.has(*SUPERLATIVES):
                return True
        before, after = self._near(at - 1), self._near(at + 1)
        superlative = any(each.kind == "role" and each.has(*SUPERLATIVES) for each in self._marks)
        follows = after is not None and after.kind in ("column", "rows", "part")
        leads = before is None or (before.kind == "role" and before.has("which"))
        return superlative and follows and leads

    def _blank(self, at: int, mark: Mark) -> None:
        """Take a condition on blank cells."""
        before, after = self._near(at - 1), self._near(at + 1)
        known = after if after is not None and after.kind == "column" and not after.used else None
        if known is None and mark.has("blank"):
            known = before if before is not None and before.kind == "column" else None
            denied = before is not None and before.kind == "role" and before.has("not")
            if denied:
                known, two = self._near(at - 2), before
                known = known if known is not None and known.kind == "column" else None
                if known is not None and two is not None:
                    two.used = True
                    self._add_blank(known, mark, blank=False)
                    return
        if known is None:
            return
        if mark.has("with") and not mark.has("without"):
            following = self._near(self._marks.index(known) + 1)
            compared = following is not None and (
                following.kind in ("number", "value") or following.has(*_COMPARING, "between")
            )
            superlative = any(each.has(*SUPERLATIVES) for each in self._marks)
            if not compared and not superlative and len(known.columns) == 1:
                self._add_blank(known, mark, blank=False)
            return
        self._add_blank(known, mark, blank=not self._is_denied(at))

    def _add_blank(self, known: Mark, mark: Mark, *, blank: bool) -> None:
        if len(known.columns) != 1:
            names = either([self._table.columns[i].name for i in known.columns])
            raise ProblemError(f"“{known.text}” may mean {names}; name one of them")
        known.used = mark.used = True
        column = self._table.columns[known.columns[0]]
        if column.kind == "boolean" and not mark.has("blank"):
            self.conditions.append(Condition(column.index, "yes", (int(not blank),)))
        elif column.is_measure and not mark.has("blank") and _has_zero(column):
            zero = (Decimal(0),)
            self.conditions.append(Condition(column.index, "eq" if blank else "ne", zero))
        else:
            self.conditions.append(Condition(column.index, "blank" if blank else "filled"))

    def _booleans(self) -> None:
        """Take columns of yes and no that are named as adjectives."""
        for at, mark in enumerate(self._marks):
            if mark.used or mark.kind != "column" or len(mark.columns) != 1:
                continue
            column = self._table.columns[mark.columns[0]]
            before = self._near(at - 1)
            asked = before is not None and before.kind == "role" and before.has("by", "which")
            if column.kind != "boolean" or asked:
                continue
            mark.used = True
            yes = not (mark.negated or self._is_denied(at))
            following = self._near(at + 1)
            said = folded(following.text) if following is not None else ""
            if following is not None and said in ("yes", "true", "no", "false", "ja", "nein"):
                following.used = True
                yes = yes == (said in ("yes", "true", "ja"))
            self.conditions.append(Condition(column.index, "yes", (int(yes),)))


def _has_zero(column: Column) -> bool:
    """Whether a column writes zero where a row has none of what it counts."""
    numbers = (column.number(row) for row in range(len(column.cells)))
    return any(number is not None and not number.value for number in numbers)

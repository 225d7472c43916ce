"""A question about a table becomes a query, by rules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from nsa_cli.tables.columns import Column, TypedTable
from nsa_cli.tables.conditions import SUPERLATIVES, ConditionReader, ProblemError
from nsa_cli.tables.marking import Mark, Marker
from nsa_cli.tables.query import Condition, Group, Operation, Part, Query
from nsa_cli.tables.vocabulary import MONEY, PERSONS, PLACES

_UPWARDS = ("max", "dearest", "latest", "most")
_COMPUTING = ("sum", "mean", "median", "share", "count", "distinct", "amount")
_STRONG = frozenset(["sum", "mean", "median", "share"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Understood:
    """How a question is understood of one table.

    Attributes:
        table: The table.
        query: What to compute; None with a problem.
        instead: Another reading of the question, or None.
        problem: Why nothing can be computed, or None.
        anchored: How many parts of the question are the table's own columns, values or rows.
        strong: Whether the question asks for a figure that only computing gives.
    """

    table: TypedTable
    query: Query | None
    instead: Query | None = None
    problem: str | None = None
    anchored: int = 0
    strong: bool = False


def understand(question: str, table: TypedTable) -> Understood | None:
    """Understand a question about a table; None if it does not ask to compute or look up."""
    marks = Marker(table).marks(question)
    roles = [role for mark in marks for role in mark.roles if mark.kind == "role"]
    anchored = sum(_is_anchor(mark) for mark in marks)
    asking = any(role in (*_COMPUTING, *SUPERLATIVES) for role in roles) or any(
        mark.kind == "column" and mark.roles for mark in marks
    )
    strong = bool(_STRONG.intersection(roles)) or (asking and anchored > 0)
    try:
        reading = _Reading(table, marks)
        query, instead = reading.query()
    except ProblemError as problem:
        return Understood(
            table=table, query=None, problem=str(problem), anchored=anchored, strong=strong
        )
    if query is None:
        return None
    return Understood(table=table, query=query, instead=instead, anchored=anchored, strong=strong)


def _is_anchor(mark: Mark) -> bool:
    return mark.kind in ("value", "rows") or (mark.kind == "column" and bool(mark.columns))


class _Reading:
    """Builds the query from the marks of a question."""

    def __init__(self, table: TypedTable, marks: Sequence[Mark]) -> None:
        self._table = table
        self._all = marks
        self._marks = [mark for mark in marks if mark.kind != "neutral"]
        self._reader = ConditionReader(table, marks)
        self._group: Group | None = None
        self._asked: Mark | None = None

    def query(self) -> tuple[Query | None, Query | None]:
        """The query, and another reading of the question.

        Raises:
            ProblemError: If a part of the question is not the table's.
        """
        for mark in self._marks:
            if mark.kind == "role" and mark.has("unknown"):
                raise ProblemError(
                    f"nsa computes counts, sums, means, medians, extremes, shares of rows, and "
                    f"these by group, not “{mark.text}”"
                )
        self._take_groups()
        conditions = tuple(self._reader.read())
        roles = self._roles()
        query, instead = self._build(roles, conditions)
        if query is not None:
            self._check_rest(query)
        elif any(role in roles for role in (*_STRONG, "count")):
            self._check_rest(None)
        return query, instead

    def _roles(self) -> set[str]:
        """What is to be computed."""
        roles = {role for mark in self._marks if mark.kind == "role" for role in mark.roles}
        targets = self._targets()
        for mark in self._marks:  # a column named like an operation, such as Total
            if mark.kind == "column" and mark.roles and not mark.used:
                others = [each for each in targets if each is not mark]
                numeric = any(self._pick(each, self._measures()) for each in others)
                if numeric:
                    mark.used = True
                    roles.update(mark.roles)
                elif not roles.intersection((*_COMPUTING, *SUPERLATIVES)):
                    roles.update(mark.roles if not self._reader.keyed else ())
        return roles

    def _take_groups(self) -> None:
        """Find what is grouped by, and what is asked for."""
        for mark, following in zip(self._marks, self._marks[1:], strict=False):
            if mark.kind != "role" or following.kind not in ("column", "part"):
                continue
            if mark.has("by", "by_german"):
                group = self._as_group(following)
                if group is not None:
                    mark.used = following.used = True
                    self._group = group
            elif mark.has("which", "most", "fewest", "when", "where") and self._asked is None:
                beyond = self._after(following)
                taken = beyond is not None and beyond.kind == "value" and set(
                    beyond.values
                ).intersection(following.columns)
                if not taken and not (mark.has("most", "fewest") and self._is_measure(following)):
                    self._asked = following

    def _after(self, mark: Mark) -> Mark | None:
        at = self._marks.index(mark) + 1
        return self._marks[at] if at < len(self._marks) else None

    def _is_measure(self, mark: Mark) -> bool:
        return any(self._table.columns[index].is_measure for index in mark.columns)

    def _as_group(self, mark: Mark) -> Group | None:
        """What a mark groups rows by; None for numbers and columns that may be several."""
        columns = self._table.columns
        if mark.kind == "part" and not (mark.columns and mark.exact):
            named = [index for index in mark.columns if columns[index].kind in ("text", "number")]
            if len(named) == 1 and not columns[named[0]].is_measure:
                return Group(named[0])
            dates = [column.index for column in columns if column.kind == "date"]
            if len(dates) == 1:
                part: Part = mark.part  # type: ignore[assignment]
                return Group(dates[0], part)
            return None
        named = [index for index in mark.columns if not columns[index].is_measure]
        if len(named) > 1:
            named = [index for index in named if not columns[index].is_key] or named
        return Group(named[0]) if len(named) == 1 else None

    def _targets(self) -> list[Mark]:
        """Columns that are neither conditions nor groups nor asked for."""
        return [
            mark
            for mark in self._marks
            if mark.kind == "column" and not mark.used and mark is not self._asked
        ]

    def _measures(self) -> list[int]:
        return [column.index for column in self._table.columns if column.is_measure]

    def _pick(self, mark: Mark, allowed: Sequence[int]) -> int | None:
        """The one column of a mark among some; None for none or several."""
        named = [index for index in mark.columns if index in allowed]
        return named[0] if len(named) == 1 else None

    def _target(self, allowed: Sequence[int], preferred: Sequence[int] = ()) -> int | None:
        """The column that is computed of, and mark it as used.

        Raises:
            ProblemError: If the question may mean several columns.
        """
        names = self._table.columns
        unclear: list[int] = []
        for mark in sorted(self._targets(), key=lambda each: not each.exact):
            found = self._pick(mark, allowed)
            if found is not None:
                mark.used = True
                return found
            unclear = unclear or [index for index in mark.columns if index in allowed]
        if unclear:
            joined = ", ".join(names[index].name for index in unclear)
            raise ProblemError(f"the question may mean the columns {joined}; name one of them")
        if self._asked is not None and (found := self._pick(self._asked, allowed)) is not None:
            self._asked.used = True
            return found
        for some in (preferred, allowed):
            if len(some) == 1:
                return some[0]
        return None

    def _money(self) -> list[int]:
        return [i for i in self._measures() if MONEY & set(self._table.columns[i].words)]

    def _needed(self, found: int | None, what: str) -> int:
        """A column that must be there.

        Raises:
            ProblemError: If it is not.
        """
        if found is not None:
            return found
        unknown = [mark.text for mark in self._marks if mark.kind == "unknown"]
        if unknown:
            raise ProblemError(f"there is no column or value for “{', '.join(unknown)}”")
        texts = [mark for mark in self._targets() if mark.columns]
        if texts:
            column = self._table.columns[texts[0].columns[0]]
            raise ProblemError(f"{column.name} holds no numbers")
        raise ProblemError(f"the question does not name the column to {what}")

    def _build(
        self, roles: set[str], conditions: tuple[Condition, ...]
    ) -> tuple[Query | None, Query | None]:
        """Build the query for what is to be computed."""
        if roles.intersection(SUPERLATIVES):
            return self._superlative(roles, conditions)
        if "share" in roles:
            return self._share(conditions), None
        if roles.intersection(("sum", "mean", "median")) and not self._counts_rows(roles):
            operation = next(each for each in ("median", "mean", "sum") if each in roles)
            column = self._target(self._measures(), self._money())
            return self._aggregate(operation, self._needed(column, "compute of"), conditions), None
        if "count" in roles:
            if roles.intersection(("mean", "median")):
                raise ProblemError("nsa does not compute means of counts")
            return self._count(roles, conditions), None
        if "distinct" in roles:
            return self._distinct(conditions), None
        if "amount" in roles:
            column = self._target(self._measures(), self._money())
            if column is None or not conditions:
                return None, None
            if self._reader.keyed:
                return Query(operation="values", column=column, conditions=conditions), None
            return self._aggregate("sum", column, conditions), None
        if self._group is not None:
            column = self._target(self._measures())
            operation = "count" if column is None else "sum"
            named = any(mark.kind == "rows" for mark in self._marks)
            return (None, None) if column is None and not named else (
                self._aggregate(operation, column, conditions),
                None,
            )
        return self._look_up(conditions), None

    def _counts_rows(self, roles: set[str]) -> bool:
        """Whether `total number of orders` counts rows, rather than adds a column."""
        if "count" not in roles:
            return False
        return not any(self._pick(mark, self._measures()) is not None for mark in self._targets())

    def _aggregate(
        self, operation: str, column: int | None, conditions: tuple[Condition, ...]
    ) -> Query:
        named: Operation = operation  # type: ignore[assignment]
        group = self._group
        if group is None and self._asked is not None and not self._asked.used:
            group = self._as_group(self._asked)
            if group is not None:
                self._asked.used = True
        return Query(operation=named, column=column, conditions=conditions, group=group)

    def _count(self, roles: set[str], conditions: tuple[Condition, ...]) -> Query:
        for mark in self._targets():
            measure = self._pick(mark, self._measures())
            if measure is not None:
                mark.used = True
                return self._aggregate("sum", measure, conditions)
        texts = [c.index for c in self._table.columns if not c.is_measure]
        for mark in self._targets():
            found = self._pick(mark, texts) if mark.exact or len(mark.columns) == 1 else None
            if found is None:
                keys = [i for i in mark.columns if self._table.columns[i].is_key]
                found = keys[0] if len(keys) == 1 else None
            if found is not None:
                mark.used = True
                if self._table.columns[found].is_key and "distinct" not in roles:
                    return self._aggregate("count", None, conditions)
                return self._aggregate("distinct", found, conditions)
        return self._aggregate("count", None, conditions)

    def _share(self, conditions: tuple[Condition, ...]) -> Query:
        if not conditions:
            raise ProblemError("the question does not say which rows the share is of")
        if any(self._pick(mark, self._measures()) is not None for mark in self._targets()):
            raise ProblemError("nsa computes shares of rows, not of a column")
        if self._group is not None:
            raise ProblemError("nsa computes shares of all rows, not by group")
        return Query(operation="share", conditions=conditions)

    def _distinct(self, conditions: tuple[Condition, ...]) -> Query | None:
        texts = [c.index for c in self._table.columns if not c.is_measure]
        column = self._target(texts)
        if column is None:
            return None
        return Query(operation="distinct", column=column, conditions=conditions)

    def _superlative(
        self, roles: set[str], conditions: tuple[Condition, ...]
    ) -> tuple[Query | None, Query | None]:
        """The rows or groups with the greatest or least results."""
        upwards = bool(roles.intersection(_UPWARDS))
        if upwards and roles.intersection(("min", "cheapest", "earliest", "fewest")):
            raise ProblemError("the question asks for the greatest and the least; ask for one")
        limit = self._reader.limit
        entity = None if self._asked is None else self._as_group(self._asked)
        entity = entity if entity is not None else self._entity()
        column = self._ranked(roles)
        if self._group is not None and self._asked is None and limit is None:
            if column is None:
                raise ProblemError("the question does not name the column to compare")
            return self._aggregate("max" if upwards else "min", column, conditions), None
        grouped = entity is not None and (
            entity.part is not None or not self._table.columns[entity.column].is_key
        )
        order = "desc" if upwards else "asc"
        if grouped and entity is not None:
            operation = self._group_operation(roles, column)
            if operation is not None:
                self._use_entity(entity)
                return (
                    Query(
                        operation=operation,
                        column=None if operation == "count" else column,
                        conditions=conditions,
                        group=entity,
                        order=order,  # type: ignore[arg-type]
                        limit=limit or 1,
                    ),
                    None,
                )
        if column is None:
            if not any(_is_anchor(mark) for mark in self._marks):
                return None, None
            raise ProblemError("the question does not name the column to compare")
        return self._extreme(column, entity, conditions, upwards=upwards)

    def _extreme(
        self,
        column: int,
        entity: Group | None,
        conditions: tuple[Condition, ...],
        *,
        upwards: bool,
    ) -> tuple[Query, Query | None]:
        """The rows with the greatest or least cells; by groups as the other reading."""
        limit = self._reader.limit
        ends: tuple[Operation, Operation] = ("max", "min") if limit is None else ("top", "bottom")
        shown = self._shown(entity, column)
        query = Query(
            operation=ends[0] if upwards else ends[1],
            column=column,
            conditions=conditions,
            limit=limit,
            shown=shown,
        )
        if entity is None:
            return query, None
        self._use_entity(entity)
        typed = self._table.columns
        if typed[entity.column].is_key or not typed[column].is_measure:
            return query, None
        if entity.part is None and len(set(typed[entity.column].cells)) == len(self._table.rows):
            return query, None
        order = "desc" if upwards else "asc"
        by_group = replace(
            query,
            operation="sum",
            group=entity,
            order=order,  # type: ignore[arg-type]
            limit=limit or 1,
            shown=(),
        )
        return query, by_group

    def _use_entity(self, entity: Group) -> None:
        if self._asked is not None:
            self._asked.used = True
        for mark in self._targets():
            if entity.column in mark.columns:
                mark.used = True

    def _entity(self) -> Group | None:
        """What the extreme is of, where it is named as in `top 3 customers` or `who`."""
        columns = self._table.columns
        for mark in self._targets():
            if not self._is_measure(mark) and all(
                columns[index].kind != "date" for index in mark.columns
            ):
                return self._as_group(mark)
        found = self._meant()
        if found is not None:
            return Group(found)
        return self._group if self._reader.limit is not None else None

    def _meant(self) -> int | None:
        """The column that `who` or `where` means, if one can be meant."""
        words = {mark.text.casefold() for mark in self._all if mark.has("which", "where")}
        kinds = PERSONS if words & {"who", "wer", "whose", "wessen"} else frozenset()
        kinds = PLACES if words & {"where", "wo"} else kinds
        found = [
            column.index
            for column in self._table.columns
            if kinds.intersection(column.words) and column.kind == "text"
        ]
        return found[0] if len(found) == 1 else None

    def _ranked(self, roles: set[str]) -> int | None:
        """The column whose cells are compared."""
        columns = self._table.columns
        dates = [column.index for column in columns if column.kind == "date"]
        if roles.intersection(("latest", "earliest")):
            years = [column.index for column in columns if column.is_year]
            return self._target(dates, []) if dates else self._target(years, [])
        measures = self._measures()
        named = self._target_named([*measures, *dates])
        if named is not None:
            return named
        if roles.intersection(("most", "fewest")):
            verb = {mark.text.casefold() for mark in self._marks if mark.kind == "unknown"}
            return None if not verb else None
        money = self._money()
        return self._target(measures, money)

    def _target_named(self, allowed: Sequence[int]) -> int | None:
        for mark in sorted(self._targets(), key=lambda each: not each.exact):
            found = self._pick(mark, allowed)
            if found is None and mark.columns and mark.exact:
                continue
            if found is not None:
                mark.used = True
                return found
        if self._asked is not None:
            found = self._pick(self._asked, allowed)
            if found is not None and self._asked.kind == "column":
                self._asked.used = True
                return found
        return None

    def _group_operation(self, roles: set[str], column: int | None) -> Operation | None:
        """What is compared between groups; None to compare rows."""
        for operation in ("mean", "median", "sum"):
            if operation in roles:
                self._needed(column, "compute of")
                return operation  # type: ignore[return-value]
        counted = any(mark.kind == "rows" and not mark.used for mark in self._marks)
        if roles.intersection(("most", "fewest")):
            return "count" if column is None else "sum"
        if "count" in roles:
            return "sum" if column is not None and not counted else "count"
        if self._reader.limit is not None:
            return "sum" if column is not None else None
        return None

    def _shown(self, entity: Group | None, column: int) -> tuple[int, ...]:
        """The columns that say which rows hold an extreme."""
        if entity is not None:
            return (entity.column,)
        if self._asked is not None and self._asked.columns:
            found = [index for index in self._asked.columns if index != column]
            if len(found) == 1:
                self._asked.used = True
                return (found[0],)
        keys = [each.index for each in self._table.columns if each.is_key and each.index != column]
        return (keys[0],) if keys else ()

    def _look_up(self, conditions: tuple[Condition, ...]) -> Query | None:
        """The cells of the rows that conditions name."""
        known = [each for each in conditions if each.test in ("eq", "months", "between")]
        column = self._looked_up()
        if column is None:
            return None
        if not conditions:
            listing = self._asked is not None and self._is_listing()
            return Query(operation="distinct", column=column) if listing else None
        if not known and not self._is_listing():
            return None
        return Query(operation="values", column=column, conditions=conditions)

    def _is_listing(self) -> bool:
        words = {mark.text.casefold() for mark in self._all}
        return bool(words & {"which", "list", "all", "there", "welche", "alle", "liste", "show"})

    def _looked_up(self) -> int | None:
        """The column whose cells are asked for."""
        columns = self._table.columns
        every = [column.index for column in columns]
        marks = [self._asked] if self._asked is not None else []
        candidates = [*marks, *self._targets()]
        for mark in candidates:
            found = self._pick(mark, every)
            if found is None:
                named = [i for i in mark.columns if not columns[i].is_key]
                found = named[0] if len(named) == 1 else None
            if found is not None:
                mark.used = True
                return found
        if candidates:
            return None
        found = self._meant()
        if found is not None:
            return found
        if any(mark.has("when") for mark in self._marks):
            dates = [column.index for column in columns if column.kind == "date"]
            return dates[0] if len(dates) == 1 else None
        rows = [mark for mark in self._marks if mark.kind == "rows"]
        keys = [column.index for column in columns if column.is_key]
        if rows and keys and any(mark.has("which") for mark in self._marks):
            return keys[0]
        return None

    def _check_rest(self, query: Query | None) -> None:
        """Check that the query accounts for all parts of the question.

        Raises:
            ProblemError: If it does not.
        """
        unknown = [mark.text for mark in self._marks if mark.kind in ("unknown", "number") and not mark.used]
        unknown += [mark.text for mark in self._marks if mark.kind == "period" and not mark.used]
        if unknown:
            raise ProblemError(f"there is no column or value for “{', '.join(unknown)}”")
        rest = [mark for mark in self._targets() if mark.exact or len(mark.columns) == 1]
        if self._asked is not None and not self._asked.used and self._asked.kind == "column":
            rest.append(self._asked)
        rest = [mark for mark in rest if not self._is_harmless(mark, query)]
        if rest:
            raise ProblemError(f"it is unclear what “{rest[0].text}” asks for; name one column")
        loose = [
            mark.text
            for mark in self._marks
            if mark.kind == "role" and not mark.used and mark.has("not", "gt", "lt", "le", "between", "without")
        ]
        if loose:
            raise ProblemError(f"it is unclear what “{loose[0]}” is about")

    def _is_harmless(self, mark: Mark, query: Query | None) -> bool:
        """Whether a column's name adds nothing: that of a condition, a group or the target."""
        if query is None:
            return False
        group = () if query.group is None else (query.group.column,)
        own = {query.column, *group, *query.shown, *(each.column for each in query.conditions)}
        if own.intersection(mark.columns):
            return True
        before = next((each for each in self._all if each.end == mark.start), None)
        words = before.text.casefold() if before is not None else ""
        return words in ("of", "all", "für", "aller", "der") and query.operation != "values"


def column_of(query: Query, table: TypedTable) -> Column | None:
    """The column that a query computes of; None if it counts rows."""
    return None if query.column is None else table.columns[query.column]

"""A question about a table becomes a query, by rules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from nsa_cli.tables.columns import TypedTable
from nsa_cli.tables.conditions import SUPERLATIVES
from nsa_cli.tables.marking import Mark, Marker
from nsa_cli.tables.periods import ProblemError
from nsa_cli.tables.query import Condition, Group, Operation, Query
from nsa_cli.tables.reading import Reading
from nsa_cli.tables.vocabulary import AGES, AMOUNTS, BIRTH, MONEY, PERSONS, PRICES, SIZES

_UPWARDS = ("max", "dearest", "latest", "most")
_COMPUTING = ("sum", "mean", "median", "share", "count", "distinct", "amount")
_STRONG = frozenset(["sum", "mean", "median", "share", "count"])


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
    asking = any(role in (*_COMPUTING, *SUPERLATIVES, "unknown") for role in roles) or any(
        mark.kind == "column" and mark.has(*_COMPUTING, *SUPERLATIVES) for mark in marks
    )
    strong = bool(_STRONG.intersection(roles)) or (asking and anchored > 0)
    try:
        reading = _Builder(table, marks)
        query, instead = reading.query()
    except ProblemError as problem:
        strong = strong or problem.sure
        return Understood(
            table=table, query=None, problem=str(problem), anchored=anchored, strong=strong
        )
    if query is None:
        return None
    return Understood(table=table, query=query, instead=instead, anchored=anchored, strong=strong)


def _is_anchor(mark: Mark) -> bool:
    return mark.kind in ("value", "rows") or (mark.kind == "column" and bool(mark.columns))


class _Builder(Reading):
    """Builds the query from the marks of a question."""

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
        elif any(role in roles for role in _STRONG):
            self._check_rest(None)
        return query, instead

    def _roles(self) -> set[str]:
        """What is to be computed."""
        roles = {role for mark in self._marks if mark.kind == "role" for role in mark.roles}
        targets = self._targets()
        for mark in self._marks:  # a column named like an operation, such as Total
            if mark.has(*_COMPUTING, *SUPERLATIVES) and mark.kind == "column" and not mark.used:
                others = [each for each in targets if each is not mark]
                numeric = any(self._pick(each, self._measures()) for each in others)
                if numeric:
                    mark.used = True
                    roles.update(mark.roles)
                elif not roles.intersection((*_COMPUTING, *SUPERLATIVES)):
                    roles.update(mark.roles if not self._reader.keyed else ())
        return roles

    def _build(
        self, roles: set[str], conditions: tuple[Condition, ...]
    ) -> tuple[Query | None, Query | None]:
        """Build the query for what is to be computed."""
        if roles.intersection(SUPERLATIVES):
            return self._superlative(roles, conditions)
        if "share" in roles:
            return self._share(conditions), None
        if roles.intersection(("sum", "mean", "median")) and not self._counts_rows(roles):
            chosen = next(each for each in ("median", "mean", "sum") if each in roles)
            column = self._target(self._measures(), self._money())
            return self._aggregate(chosen, self._needed(column, "compute of"), conditions), None
        if "count" in roles:
            if roles.intersection(("mean", "median")):
                raise ProblemError("nsa does not compute means of counts")
            return self._count(roles, conditions), None
        if "distinct" in roles:
            return self._distinct(conditions), None
        if "amount" in roles:
            column = self._target(self._measures(), self._money() or self._money(PRICES))
            if column is None or not conditions:
                return None, None
            if self._reader.keyed or self._table.columns[column].head in PRICES:
                return Query(operation="values", column=column, conditions=conditions), None
            return self._aggregate("sum", column, conditions), None
        if self._group is not None:
            column = self._target(self._measures())
            operation = "count" if column is None else "sum"
            named = any(mark.kind == "rows" for mark in self._marks)
            return (
                (None, None)
                if column is None and not named
                else (
                    self._aggregate(operation, column, conditions),
                    None,
                )
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
        """Count rows or distinct values, or add quantities, by the noun that is counted."""
        columns = self._table.columns
        noun = self._counted()
        if noun is None or noun.kind == "rows":
            if "distinct" in roles and noun is None:
                raise ProblemError("the question does not name the column to count")
            return self._aggregate("count", None, conditions)
        if noun.kind == "value":
            amount = self._quantity()
            return self._aggregate("count" if amount is None else "sum", amount, conditions)
        measure = self._pick(noun, self._measures())
        compared = {condition.column for condition in conditions}
        if measure is not None and (measure in compared or columns[measure].head in MONEY):
            noun.used = True
            return self._aggregate("count", None, conditions)
        if measure is not None:
            noun.used = True
            return self._aggregate("sum", measure, conditions)
        keys = [index for index in noun.columns if columns[index].is_key]
        found = noun.columns[0] if len(noun.columns) == 1 else keys[0] if len(keys) == 1 else None
        if found is None:
            names = ", ".join(columns[index].name for index in noun.columns)
            raise ProblemError(f"“{noun.text}” may mean the columns {names}; name one of them")
        noun.used = True
        if columns[found].is_key and "distinct" not in roles:
            return self._aggregate("count", None, conditions)
        query = self._aggregate("distinct", found, conditions)
        return replace(query, loose="distinct" not in roles)

    def _share(self, conditions: tuple[Condition, ...]) -> Query:
        if not conditions:
            raise ProblemError("the question does not say which rows the share is of")
        if len(conditions) > 1:
            raise ProblemError("the question does not say of which rows the others are a share")
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
        return Query(operation="distinct", column=column, conditions=conditions, asked=True)

    def _superlative(
        self, roles: set[str], conditions: tuple[Condition, ...]
    ) -> tuple[Query | None, Query | None]:
        """The rows or groups with the greatest or least results."""
        ages = [c.index for c in self._table.columns if c.is_measure and c.head in AGES]
        upwards = bool(roles.intersection((*_UPWARDS, "oldest" if ages else "youngest")))
        if upwards and roles.intersection(("min", "cheapest", "earliest", "fewest")):
            raise ProblemError("the question asks for the greatest and the least; ask for one")
        limit = self._reader.limit
        entity = None if self._asked is None else self._as_group(self._asked)
        entity = entity if entity is not None else self._entity()
        column = self._ranked(roles)
        alone = self._asked is None or (self._asked.used or self._is_measure(self._asked))
        if self._group is not None and alone and limit is None:
            if column is None:
                raise ProblemError("the question does not name the column to compare")
            return self._aggregate("max" if upwards else "min", column, conditions), None
        grouped = entity is not None and (
            entity.part is not None or not self._table.columns[entity.column].is_key
        )
        order = "desc" if upwards else "asc"
        if grouped and entity is not None:
            column = self._most_of(roles) if column is None else column
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
            asked=entity is not None or self._asks_when() or self._asks_for_rows(),
        )
        if entity is None:
            return query, None
        self._use_entity(entity)
        typed = self._table.columns
        addable = typed[column].is_measure and typed[column].head not in PRICES
        if typed[entity.column].is_key or not addable or self._asks_for_rows_by_name():
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

    def _ranked(self, roles: set[str]) -> int | None:
        """The column whose cells are compared."""
        columns = self._table.columns
        dates = [column.index for column in columns if column.kind == "date"]
        if roles.intersection(("oldest", "youngest")):
            return self._aged(dates)
        if roles.intersection(("latest", "earliest")):
            years = [column.index for column in columns if column.is_year]
            return self._target(dates, []) if dates else self._target(years, [])
        measures = self._measures()
        named = self._target_named([*measures, *dates])
        if named is not None:
            return named
        if roles.intersection(("most", "fewest")):
            return self._quantity() if self._is_of_value() else None
        for role, heads in SIZES.items():
            if role in roles:
                found = self._money(heads)
                return found[0] if len(found) == 1 else None
        dear = roles.intersection(("dearest", "cheapest"))
        return self._target(measures, self._money(PRICES if dear else AMOUNTS))

    def _aged(self, dates: Sequence[int]) -> int | None:
        """The column that says how old rows are: an age, a date of birth, the date of a thing."""
        columns = self._table.columns
        ages = [c.index for c in columns if c.is_measure and c.head in AGES]
        if len(ages) == 1:
            return ages[0]
        born = [index for index in dates if BIRTH.intersection(columns[index].words)]
        persons = any(PERSONS.intersection(column.words) and column.is_key for column in columns)
        return self._target(born if born or persons else dates)

    def _most_of(self, roles: set[str]) -> int | None:
        """The column of names whose number is compared, as in `the most customers`."""
        for mark in self._marks if roles.intersection(("most", "fewest")) else ():
            following = self._after(mark)
            if mark.has("most", "fewest") and following in self._targets():
                assert following is not None
                texts = [c.index for c in self._table.columns if not c.is_measure]
                found = self._pick(following, texts)
                following.used = found is not None
                return found
        return None

    def _group_operation(self, roles: set[str], column: int | None) -> Operation | None:
        """What is compared between groups; None to compare rows."""
        for operation in ("mean", "median", "sum"):
            if operation in roles:
                self._needed(column, "compute of")
                return operation
        counted = any(mark.kind == "rows" and not mark.used for mark in self._marks)
        if roles.intersection(("most", "fewest")):
            if column is not None and not self._table.columns[column].is_measure:
                return "count" if self._table.columns[column].is_key else "distinct"
            if column is None and not self._is_ranking_rows(counted=counted):
                raise ProblemError("the question does not name what is compared")
            return "count" if column is None else "sum"
        if "count" in roles:
            return "sum" if column is not None and not counted else "count"
        if self._reader.limit is not None:
            return "sum" if column is not None else None
        return None

    def _is_ranking_rows(self, *, counted: bool) -> bool:
        """Whether `most` ranks by rows, as in `the most orders` and `most often`."""
        most = next(mark for mark in self._marks if mark.has("most", "fewest"))
        return (
            counted
            or len(most.text.split()) > 1
            or most.text.casefold().startswith("häufig")
            or (self._after(most) is self._asked and self._asked is not None)
            or self._is_of_value()
        )

    def _asks_when(self) -> bool:
        return any(mark.has("when") for mark in self._marks)

    def _shown(self, entity: Group | None, column: int) -> tuple[int, ...]:
        """The columns that say which rows hold an extreme."""
        if entity is not None:
            return (entity.column,)
        dates = [each.index for each in self._table.columns if each.kind == "date"]
        if self._asks_when() and len(dates) == 1 and column not in dates:
            return (dates[0],)
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
        found = self._looked_up()
        columns = self._table.columns
        if not found or {each.column for each in known}.intersection(found):
            return None
        if not conditions:
            listing = self._asked is not None and self._is_listing() and len(found) == 1
            return Query(operation="distinct", column=found[0], asked=True) if listing else None
        if not known and not self._is_listing():
            return None
        column = columns[found[0]]
        listed = not self._reader.keyed and not column.is_key and not column.is_measure
        if listed and len(found) == 1 and self._is_listing() and column.kind == "text":
            return Query(operation="distinct", column=found[0], conditions=conditions, asked=True)
        return Query(
            operation="values", column=found[0], conditions=conditions, shown=tuple(found[1:])
        )

    def _looked_up(self) -> list[int]:
        """The columns whose cells are asked for; none if they are unclear."""
        columns = self._table.columns
        marks = [self._asked] if self._asked is not None else []
        candidates = [*marks, *self._targets()]
        found: list[int] = []
        for mark in candidates:
            named = list(mark.columns)
            if len(named) > 1:
                named = [index for index in named if not columns[index].is_key]
            if len(named) > 1:
                return []
            mark.used = True
            found += [index for index in named if index not in found]
        if candidates:
            return found
        words = {mark.text.casefold() for mark in self._all}
        if words & {"who", "wer", "whose", "wessen", "where", "wo"}:
            meant = self._meant()
            return [] if meant is None else [meant]
        if any(mark.has("when") for mark in self._marks):
            dates = [column.index for column in columns if column.kind == "date"]
            return dates if len(dates) == 1 else []
        rows = [mark for mark in self._marks if mark.kind == "rows"]
        keys = [column.index for column in columns if column.is_key]
        asked = any(mark.has("which") for mark in self._marks)
        return keys[:1] if rows and keys and asked else []

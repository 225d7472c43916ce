"""The parts of a question about a table, by what they ask for."""

from __future__ import annotations

from collections.abc import Sequence

from nsa_cli.tables.columns import TypedTable
from nsa_cli.tables.conditions import SUPERLATIVES, ConditionReader
from nsa_cli.tables.marking import Mark
from nsa_cli.tables.periods import ProblemError
from nsa_cli.tables.query import Group, Part, Query
from nsa_cli.tables.vocabulary import AMOUNTS, PERSONS, PLACES, QUANTITY

_LISTING = frozenset(
    ["which", "list", "all", "there", "welche", "alle", "liste", "show", "who", "wer"]
)
_PRONOUNS = frozenset(["who", "wer", "whose", "wessen"])


class Reading:
    """Finds columns, groups and nouns among the marks of a question.

    Args:
        table: The table.
        marks: The marks.
    """

    def __init__(self, table: TypedTable, marks: Sequence[Mark]) -> None:
        self._table = table
        self._all = marks
        self._marks = [mark for mark in marks if mark.kind != "neutral"]
        self._reader = ConditionReader(table, marks)
        self._group: Group | None = None
        self._asked: Mark | None = None

    def _take_groups(self) -> None:
        """Find the grouping and the target of a question."""
        for mark, following in zip(self._marks, self._marks[1:], strict=False):
            if mark.kind != "role" or following.kind not in ("column", "part"):
                continue
            if mark.has("by", "by_german"):
                group = self._as_group(following)
                if group is not None:
                    mark.used = following.used = True
                    self._group = group
            elif mark.has("which", "most", "fewest") and self._asked is None:
                if mark.text.casefold() in _PRONOUNS:
                    continue
                beyond = self._after(following)
                taken = (
                    beyond is not None
                    and beyond.kind == "value"
                    and set(beyond.values).intersection(following.columns)
                )
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
        """Return the column to compute over, and mark it as used.

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

    def _money(self, heads: frozenset[str] = AMOUNTS) -> list[int]:
        """Columns that rows are large or small by, unless the question names one."""
        typed = self._table.columns
        return [index for index in self._measures() if typed[index].head in heads]

    def _quantity(self) -> int | None:
        """The column of quantities, or None."""
        columns = self._table.columns
        found = [index for index in self._measures() if columns[index].head in QUANTITY]
        return found[0] if len(found) == 1 else None

    def _is_of_value(self) -> bool:
        """Whether `most` is followed by a value, as in `the most chairs`."""
        most = next(mark for mark in self._marks if mark.has("most", "fewest"))
        following = self._after(most)
        return following is not None and following.kind == "value"

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
            raise ProblemError(f"{column.name} has no numbers")
        raise ProblemError(f"the question does not name the column to {what}")

    def _meant(self) -> int | None:
        """The column that `who` or `where` means, if one can be meant."""
        words = {mark.text.casefold() for mark in self._all if mark.has("which", "where")}
        kinds = PERSONS if words & {"who", "wer", "whose", "wessen"} else frozenset()
        kinds = PLACES if words & {"where", "wo"} else kinds
        found = [
            column
            for column in self._table.columns
            if kinds.intersection(column.words) and column.kind == "text"
        ]
        if len(found) > 1:
            found = [column for column in found if column.head in kinds] or found
        if len(found) > 1:
            found = [column for column in found if column.is_key] or found
        return found[0].index if len(found) == 1 else None

    def _counted(self) -> Mark | None:
        """The noun after `how many`: a noun for rows, a column, or a value; None without one."""
        at = next((i for i, mark in enumerate(self._marks) if mark.has("count")), None)
        first: Mark | None = None
        for mark in self._marks[at + 1 :] if at is not None else ():
            if mark.kind == "rows":
                return mark
            if mark.kind == "column" and self._table.columns[mark.columns[0]].kind == "boolean":
                continue
            if mark.kind == "column":
                if mark.used and first is None and not self._is_condition(mark):
                    return None
                return first if first is not None and mark.used else mark
            if mark.kind == "value":
                first = first or mark
            elif not mark.has("distinct", "by", "not") or mark.kind != "role":
                break
        return first

    def _is_condition(self, mark: Mark) -> bool:
        """Whether a column is the noun of a condition, as in `West regions`."""
        after = self._after(mark)
        return after is not None and after.kind in ("value", "number")

    def _use_entity(self, entity: Group) -> None:
        if self._asked is not None:
            self._asked.used = True
        for mark in self._targets():
            if entity.column in mark.columns:
                mark.used = True

    def _asks_for_rows(self) -> bool:
        """Whether it asks for rows, as in `which order` and `the largest order`."""
        if self._asked is not None and self._asked.used and not self._asked.has("count"):
            return True
        return self._asks_for_rows_by_name()

    def _asks_for_rows_by_name(self) -> bool:
        for mark in self._marks:
            following = self._after(mark)
            words = mark.text.casefold()
            leads = mark.has(*SUPERLATIVES) or words in ("which", "welche", "welcher", "welches")
            if leads and mark.kind == "role" and following is not None and following.kind == "rows":
                return True
        return False

    def _is_listing(self) -> bool:
        words = {mark.text.casefold() for mark in self._all}
        return bool(
            words
            & {"which", "list", "all", "there", "welche", "alle", "liste", "show", "who", "wer"}
        )

    def _check_rest(self, query: Query | None) -> None:
        """Check that the query accounts for all parts of the question.

        Raises:
            ProblemError: If it does not.
        """
        unknown = [
            mark.text
            for mark in self._marks
            if mark.kind in ("unknown", "number") and not mark.used
        ]
        unknown += [mark.text for mark in self._marks if mark.kind == "period" and not mark.used]
        if unknown:
            raise ProblemError(f"there is no column or value for “{', '.join(unknown)}”")
        rest = [mark for mark in self._targets() if mark.exact or len(mark.columns) == 1]
        if self._asked is not None and not self._asked.used and self._asked.kind == "column":
            rest.append(self._asked)
        rest = [mark for mark in rest if not self._is_harmless(mark, query)]
        if rest:
            raise ProblemError(f"it is unclear what “{rest[0].text}” asks for; name one column")
        if any(m.text.casefold() in ("or", "oder") and not m.used for m in self._marks):
            raise ProblemError("nsa combines values of one column with “or”, not conditions")
        loose = [
            mark.text
            for mark in self._marks
            if mark.kind == "role"
            and not mark.used
            and mark.has("not", "gt", "lt", "le", "between", "without")
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
        if self._names_rows(mark) and query.operation != "values":
            return True
        before = next((each for each in self._all if each.end == mark.start), None)
        words = before.text.casefold() if before is not None else ""
        joined = words in (
            "of",
            "all",
            "for",
            "to",
            "from",
            "an",
            "für",
            "aller",
            "der",
            "bei",
            "von",
        )
        return joined and query.operation != "values"

    def _names_rows(self, mark: Mark) -> bool:
        """Whether a column's name stands for the rows: `lost shipments`, if it identifies them."""
        plural = mark.text.casefold().endswith("s")
        return plural and all(self._table.columns[index].is_key for index in mark.columns)

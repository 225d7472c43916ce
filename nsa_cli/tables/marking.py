"""Mark the words of a question: columns, values, numbers, dates, and what is to be computed."""

from __future__ import annotations

import calendar
import datetime
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal

from nsa_cli.tables.columns import Column, TypedTable
from nsa_cli.tables.dates import MONTHS, parse_date
from nsa_cli.tables.numbers import Number, parse_number, unit_named
from nsa_cli.tables.vocabulary import (
    FUNCTION_WORDS,
    LONGEST,
    NEUTRAL,
    NEUTRAL_STEMS,
    NUMBERS,
    PERSONS,
    PHRASES,
    QUARTERS,
    ROW_NOUNS,
    SYNONYMS,
)
from nsa_cli.tables.words import LINKING, Token, folded, stem, stem_set, tokens_of, word_set

Kind = Literal["column", "value", "number", "period", "role", "rows", "part", "neutral", "unknown"]

_MOST_WORDS_OF_VALUE = 8
_PARTS = {
    "month": "month",
    "months": "month",
    "monat": "month",
    "monate": "month",
    "monthly": "month",
    "monaten": "month",
    "quarterly": "quarter",
    "yearly": "year",
    "quarter": "quarter",
    "quarters": "quarter",
    "quartal": "quarter",
    "quartale": "quarter",
    "year": "year",
    "years": "year",
    "jahr": "year",
    "jahre": "year",
    "annual": "year",
}
_BEFORE_YEAR = word_set(
    "in of year during since before after until from to between and or for jahr im seit vor nach "
    "bis von zwischen und oder calendar"
)
_WORDS_TOO = frozenset(["may", "march", "mar", "sep", "dec", "jan", "mai"])
_WORTH = frozenset(["value", "worth", "wert"])
_SHORT = 3


_COMPARING_WORDS = """
than over under above below least most between and from to until up exceeds exceed
als über unter ab bis zwischen und mindestens höchstens
"""
_COMPARED = frozenset(_COMPARING_WORDS.split())
"""Words before a number that is compared, or a bound."""


@dataclass(slots=True, eq=False)
class Mark:
    """A part of a question and what it may mean.

    Attributes:
        start: Index of its first word.
        end: One past its last word.
        kind: What it is.
        text: As typed.
        roles: What is to be computed, for a `role`, or for a column with such a name.
        columns: Columns that it may name.
        exact: Whether it is the whole name of a column.
        values: Columns that have it as a value, with the spellings there.
        number: The number.
        period: The first and the last day.
        months: Months of any year.
        part: Part of dates: `month`, `quarter` or `year`.
        negated: Whether it has a negative prefix, as in `unpaid`.
        used: Whether the query accounts for it.
    """

    start: int
    end: int
    kind: Kind
    text: str
    roles: tuple[str, ...] = ()
    columns: tuple[int, ...] = ()
    exact: bool = False
    values: Mapping[int, set[str]] = field(default_factory=dict)
    number: Number | None = None
    period: tuple[datetime.date, datetime.date] | None = None
    months: tuple[int, ...] = ()
    part: str | None = None
    negated: bool = False
    used: bool = False

    def has(self, *roles: str) -> bool:
        """Whether it has one of some roles."""
        return any(role in self.roles for role in roles)


class Marker:
    """Marks questions about one table.

    Args:
        table: The table.
    """

    def __init__(self, table: TypedTable) -> None:
        self._table = table
        self._names: dict[tuple[str, ...], list[int]] = {}
        for column in table.columns:
            for words in {column.words, column.bare_words} - {()}:
                self._names.setdefault(words, []).append(column.index)
        self.row_nouns = ROW_NOUNS | _nouns_of(table)
        self._places = _places_of(table)
        self._has_dates = any(column.kind == "date" for column in table.columns)
        self._years = [column.index for column in table.columns if column.is_year]

    def marks(self, question: str) -> list[Mark]:
        """The parts of a question, in order."""
        tokens = tokens_of(question)
        marks: list[Mark] = []
        at = 0
        while at < len(tokens):
            mark = self._at(tokens, at)
            counted = marks and marks[-1].kind == "role" and marks[-1].has("count", "distinct")
            if counted and mark.kind == "neutral" and tokens[at].norm not in FUNCTION_WORDS:
                mark.kind = "unknown"  # a noun such as `books`, and not a verb
            mark = self._after_column(marks, mark, tokens)
            marks.append(mark)
            at = mark.end
        _narrow(marks)
        return marks

    def _after_column(self, marks: Sequence[Mark], mark: Mark, tokens: Sequence[Token]) -> Mark:
        """A part that is a value of the column before it, as in `condition is rain`."""
        last = next((each for each in reversed(marks) if each.kind != "neutral"), None)
        if mark.kind != "column" or last is None or last.kind != "column":
            return mark
        for value in self._values(tokens, mark.start):
            if set(value.values).intersection(last.columns) and value.end >= mark.end:
                return value
        return mark

    def _at(self, tokens: Sequence[Token], at: int) -> Mark:
        """The longest part that begins at a word; of equals the first kind below."""
        if tokens[at].quoted:
            values = self._table.index.get(tokens[at].norm, {})
            kind: Kind = "value" if values else "unknown"
            return Mark(at, at + 1, kind, tokens[at].text, values=values)
        found = [
            *self._exact(tokens, at),
            *self._values(tokens, at),
            *self._sized(tokens, at),
            *self._dates(tokens, at),
            *self._numbers(tokens, at),
            *self._phrases(tokens, at),
            *self._name_parts(tokens, at),
            *self._others(tokens, at),
        ]
        mark = max(found, key=lambda each: each.end)
        if mark.kind == "column" and mark.exact:
            same = [each for each in found if each.kind == "role" and each.end == mark.end]
            mark.roles = tuple(role for each in same for role in each.roles)
        return mark

    def _exact(self, tokens: Sequence[Token], at: int) -> Iterator[Mark]:
        """Whole names of columns, also as `date of order`."""
        for words, columns in self._names.items():
            end = _end_of_name(tokens, at, words)
            if end:
                yield _mark(tokens, at, end, "column", columns=tuple(columns), exact=True)
            elif len(words) == 2 and len(tokens) >= at + 3 and tokens[at + 1].norm in ("of", "der"):
                skip = (
                    1 if tokens[at + 2].norm in ("the", "an", "a") and len(tokens) > at + 3 else 0
                )
                if (tokens[at + 2 + skip].stem, tokens[at].stem) == words:
                    end = at + 3 + skip
                    yield _mark(tokens, at, end, "column", columns=tuple(columns), exact=True)

    def _name_parts(self, tokens: Sequence[Token], at: int) -> Iterator[Mark]:
        """Several words of a longer name, such as `order date` for `Order Date (UTC)`."""
        for end in range(min(len(tokens), at + 4), at + 1, -1):
            part = tuple(token.stem for token in tokens[at:end])
            columns = tuple(
                column.index
                for column in self._table.columns
                if any(
                    column.words[start : start + len(part)] == part
                    for start in range(len(column.words) - len(part) + 1)
                )
            )
            if columns:
                yield _mark(tokens, at, end, "column", columns=columns, exact=len(columns) == 1)
                return

    def _values(self, tokens: Sequence[Token], at: int) -> Iterator[Mark]:
        """Values of texts and identifiers."""
        for end in range(at + 1, min(len(tokens), at + _MOST_WORDS_OF_VALUE) + 1):
            part = tokens[at:end]
            if end == at + 1 and (part[0].text[0].isdigit() and parse_number(part[0].text)):
                continue
            if any(token.quoted for token in part):
                return
            joined = " ".join(token.norm for token in part)
            spelled = " ".join(token.text for token in part)
            for form in _forms(joined):
                values = self._table.index.get(form)
                if values and (end > at + 1 or self._is_meant(part[0], at, values)):
                    yield Mark(at, end, "value", spelled, values=values)
                    break

    def _sized(self, tokens: Sequence[Token], at: int) -> Iterator[Mark]:
        """Sizes that are the values of cells (`the 30 cm fender`), unless they are compared."""
        compared = at > 0 and bool(_COMPARED.intersection(tokens[at - 1].norm.split()))
        if compared or not tokens[at].text[0].isdigit():
            return
        for end in (at + 1, at + 2):
            spelled = " ".join(token.text for token in tokens[at:end])
            if end <= len(tokens) and (values := self._table.sized.get(folded(spelled))):
                yield Mark(at, end, "value", spelled, values=values)

    def _is_meant(self, token: Token, at: int, values: Mapping[int, set[str]]) -> bool:
        """Whether a single word means a value, rather than a word of the language."""
        spellings = {cell for cells in values.values() for cell in cells}
        exact = token.text in spellings
        if len(token.norm) <= _SHORT and token.norm not in FUNCTION_WORDS:
            return exact
        if token.norm in FUNCTION_WORDS or (token.norm,) in PHRASES:
            return exact and ((at > 0 and not token.text.islower()) or token.norm in ("yes", "no"))
        return True

    def _phrases(self, tokens: Sequence[Token], at: int) -> Iterator[Mark]:
        """Phrases with a role."""
        for end in range(min(len(tokens), at + LONGEST), at, -1):
            words = tuple(word for token in tokens[at:end] for word in token.norm.split())
            if words in PHRASES and not (words == ("was",) and at):  # English, except the first
                yield _mark(tokens, at, end, "role", roles=PHRASES[words])
                return

    def _numbers(self, tokens: Sequence[Token], at: int) -> Iterator[Mark]:
        """Numbers with their units, number words, and identifiers made of digits."""
        token = tokens[at]
        before = unit_named(token.text) if at + 1 < len(tokens) else None
        if before and tokens[at + 1].text[0].isdigit():
            number = parse_number(tokens[at + 1].text)
            if number is not None:
                number = Number(number.value, before)
                yield _mark(tokens, at, at + 2, "number", number=number)
        if token.norm in NUMBERS and token.norm not in ("ein", "eine", "einen", "one"):
            number = Number(Decimal(NUMBERS[token.norm]), "")
            yield _mark(tokens, at, at + 1, "number", number=number)
        if not token.text[0].isdigit():
            return
        values = self._table.index.get(token.norm, {})
        number = parse_number(token.text.rstrip(".,:"), self._decimal(token.text))
        if number is not None and number.unit in ("k", "K"):
            number = Number(number.value * 1000, "")
        if number is None and not values:
            return
        yield _mark(tokens, at, at + 1, "number", number=number, values=values)
        if number is not None and at + 1 < len(tokens):
            unit = unit_named(tokens[at + 1].text)
            if unit:
                number = Number(number.value, unit)
                yield _mark(tokens, at, at + 2, "number", number=number, values=values)

    def _decimal(self, text: str) -> str | None:
        """The decimal mark of a number in a question: the one that it shows itself."""
        marks = {column.decimal for column in self._table.columns}
        return "," if marks == {","} and "," in text and "." not in text else None

    def _dates(self, tokens: Sequence[Token], at: int) -> Iterator[Mark]:
        """Dates, months, quarters and years."""
        if not self._has_dates and not self._years:
            return
        for end in range(min(len(tokens), at + 4), at, -1):
            period = self._period(tokens, at, end)
            if period is not None:
                yield _mark(tokens, at, end, "period", period=period)
                return
        month = _month(tokens, at)
        if month:
            yield _mark(tokens, at, at + 1, "period", months=(month,))

    def _period(
        self, tokens: Sequence[Token], at: int, end: int
    ) -> tuple[datetime.date, datetime.date] | None:
        """The first and the last day of a period in words."""
        part = tokens[at:end]
        text = " ".join(token.text for token in part)
        orders = {c.days_first for c in self._table.columns if c.kind == "date"} - {None}
        date = parse_date(text.rstrip("."), day_first=orders.pop() if len(orders) == 1 else None)
        if date is not None:
            return date, date
        words = [token.norm for token in part if token.norm not in ("of", "the", "im", "des")]
        if not words or len(words) < len(part) - 1:
            return None
        year = int(words[-1]) if _is_year(words[-1]) else 0
        if len(words) == 1 and year:
            follows = at > 0 and tokens[at - 1].norm in _BEFORE_YEAR
            return _whole_year(year) if follows else None
        if not year and len(words) == 1 and len(words[0].split()) == 2:  # 2025-03, Q1/2025
            words = words[0].split()
            if _is_year(words[0]):
                words.reverse()
            year = int(words[-1]) if _is_year(words[-1]) else 0
        if not year:
            return None
        if len(words) == 2 and (month := MONTHS.get(words[0]) or _digits(words[0])):
            return _months(year, month, month)
        quarter = _quarter(words[:-1])
        return _months(year, 3 * quarter - 2, 3 * quarter) if quarter else None

    def _others(self, tokens: Sequence[Token], at: int) -> Iterator[Mark]:
        """Nouns for rows, parts of names of columns, and all other words."""
        token, end = tokens[at], at + 1
        columns = self._partly(token)
        if token.stem in self.row_nouns:
            yield _mark(tokens, at, end, "rows", columns=columns)
        elif token.norm in _PARTS:
            yield _mark(tokens, at, end, "part", part=_PARTS[token.norm], columns=columns)
        elif columns and (token.norm not in NEUTRAL or token.norm in _WORTH):
            yield _mark(tokens, at, end, "column", columns=columns)
        elif positive := self._positive(token):
            yield _mark(tokens, at, end, "column", columns=positive, exact=True, negated=True)
        elif (
            token.norm in NEUTRAL
            or token.stem in NEUTRAL_STEMS
            or not any(char.isalnum() for char in token.norm)
        ):
            yield _mark(tokens, at, end, "neutral")
        elif unit := unit_named(token.text):
            columns = tuple(self._with_unit(unit))
            yield _mark(tokens, at, end, "column" if columns else "unknown", columns=columns)
        else:
            yield _mark(tokens, at, end, "neutral" if token.norm in self._places else "unknown")

    def _partly(self, token: Token) -> tuple[int, ...]:
        """Columns whose name has a word, a compound with it, or a synonym of it."""
        word = token.stem
        if not word[0].isalpha():
            return ()
        columns = self._table.columns
        others = {other for group in SYNONYMS if word in group for other in group}
        tests: tuple[Callable[[Column], bool], ...] = (
            lambda column: column.head == word,
            lambda column: column.head in others,
            lambda column: word in column.words,
            lambda column: len(word) >= 4 and any(_is_related(word, own) for own in column.words),
            lambda column: any(_begins(own, others) for own in column.words),
        )
        for test in tests:
            found = tuple(column.index for column in columns if test(column))
            if found:
                return found
        return ()

    def _positive(self, token: Token) -> tuple[int, ...]:
        """Columns of yes and no that a word such as `unpaid` denies."""
        for prefix in ("un", "in", "non", "nicht"):
            rest = token.norm.removeprefix(prefix).strip()
            if rest != token.norm:
                return tuple(
                    c.index
                    for c in self._table.columns
                    if c.kind == "boolean" and stem(rest) in c.words
                )
        return ()

    def _with_unit(self, unit: str) -> Iterator[int]:
        for column in self._table.columns:
            if column.kind == "number" and unit in column.units(range(min(50, len(column.cells)))):
                yield column.index


def _narrow(marks: Sequence[Mark]) -> None:
    """Take of several columns that a word may name the one that another word names."""
    named = {each.columns[0] for each in marks if each.kind == "column" and len(each.columns) == 1}
    for mark in marks:
        both = named.intersection(mark.columns)
        if mark.kind == "column" and len(mark.columns) > 1 and len(both) == 1:
            mark.columns = tuple(both)


def _mark(tokens: Sequence[Token], start: int, end: int, kind: Kind, **more: object) -> Mark:
    text = " ".join(token.text for token in tokens[start:end])
    return Mark(start, end, kind, text, **more)  # type: ignore[arg-type]


def _nouns_of(table: TypedTable) -> frozenset[str]:
    """Stems of words that name a row: from the names of the file and of its key column."""
    first = table.tables[0]
    stems: set[str] = set()
    if len(table.tables) == 1:
        file = first.source.replace("\\", "/").rpartition("/")[2].partition(".")[0]
        stems |= {stem(word) for word in folded(f"{file} {first.title or ''}").split()}
    for column in table.columns:
        if column.is_key and len(column.words) > 1:
            stems.add(column.words[0])
    names = {word for column in table.columns if not column.is_key for word in column.words}
    names |= {column.words[0] for column in table.columns if len(column.words) == 1}
    names -= {column.words[0] for column in table.columns if column.is_key and column.words[1:]}
    if PERSONS.intersection(word for column in table.columns for word in column.words):
        stems |= stem_set("people persons")
    if any(column.is_key and PERSONS.intersection(column.words) for column in table.columns):
        stems |= PERSONS - stem_set("name contact")  # employees, where each row is a person
    return frozenset(word for word in stems - names if len(word) > 2 and not word.isdecimal())


def _end_of_name(tokens: Sequence[Token], at: int, words: Sequence[str]) -> int:
    """One past the last word of a name that begins here; linking words may stand in it."""
    place = at
    for number, word in enumerate(words):
        while number and place < len(tokens) and tokens[place].norm in LINKING - {word}:
            place += 1
        if place >= len(tokens) or tokens[place].stem != word:
            return 0
        place += 1
    return place


def _places_of(table: TypedTable) -> frozenset[str]:
    """Names of the files and sheets, folded."""
    names: set[str] = set()
    for each in table.tables:
        file = each.source.replace("\\", "/").rpartition("/")[2]
        names |= {folded(name) for name in (each.source, file, file.partition(".")[0])}
        names.add(folded(each.title or ""))
    return frozenset(names - {""})


def _forms(joined: str) -> Iterator[str]:
    """A value as typed, and without the endings of declension."""
    yield joined
    for ending in ("s", "es", "n", "en"):
        if joined.endswith(ending) and len(joined) > len(ending) + 3:
            yield joined[: -len(ending)]


def _is_related(word: str, own: str) -> bool:
    """Whether a word is a part of a compound in a name, or begins with the name."""
    if len(own) < 4:
        return False
    if own.startswith(word) or (own.endswith(word) and len(own) > len(word) + 2):
        return True
    return word.startswith(own) and len(word) <= len(own) + 5


def _begins(own: str, others: Iterable[str]) -> bool:
    """Whether a word of a name is one of some words, or a compound that begins with one."""
    return any(own == other or (len(other) >= 5 and own.startswith(other)) for other in others)


def _is_year(word: str) -> bool:
    return len(word) == 4 and word.isdecimal() and 1800 <= int(word) <= 2199


def _digits(word: str) -> int:
    return int(word) if word.isdecimal() and 1 <= int(word) <= 12 and len(word) == 2 else 0


def _month(tokens: Sequence[Token], at: int) -> int:
    """The month that a word names; verbs such as `may` count only with a capital."""
    token = tokens[at]
    month = MONTHS.get(token.norm, 0)
    return month if token.norm not in _WORDS_TOO or (token.text[0].isupper() and at > 0) else 0


def _quarter(words: Sequence[str]) -> int:
    joined = list(words)
    if len(joined) == 1 and joined[0][:1] == "q" and joined[0][1:] in ("1", "2", "3", "4"):
        return int(joined[0][1:])
    if len(joined) == 2 and joined[1] in ("quarter", "quartal"):
        return QUARTERS.get(joined[0], 0) or (int(joined[0]) if joined[0] in "1234" else 0)
    return 0


def _whole_year(year: int) -> tuple[datetime.date, datetime.date]:
    return datetime.date(year, 1, 1), datetime.date(year, 12, 31)


def _months(year: int, first: int, last: int) -> tuple[datetime.date, datetime.date]:
    days = calendar.monthrange(year, last)[1]
    return datetime.date(year, first, 1), datetime.date(year, last, days)

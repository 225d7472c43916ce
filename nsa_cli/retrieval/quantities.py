"""Words and numbers of a text; numbers have values, scales and units.

The same number in another notation is equal: 12.4 million, 12,400 thousand and 12.4m; 1,234.5 and
1.234,5; 41.2 and 41.20. A number is never part of another, and neither is a word.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal

from nsa_cli.retrieval.number_words import (
    CURRENCIES,
    LABELS,
    MONTHS,
    NUMBERS,
    SCALES,
    TENS,
    UNITS,
)
from nsa_cli.retrieval.sentences import UNSPACED

_RAW = re.compile(
    rf"(?P<number>(?<![a-z0-9_.])\d+(?:[.,']\d+)*)|(?P<unspaced>[{UNSPACED}])"
    rf"|(?P<word>[^\W\d{UNSPACED}][^\W{UNSPACED}]*|\d+)|(?P<sign>[-()%$€£¥])"
)
_ACCENTS = re.compile(r"[\u0300-\u036f]")
_ARTICLES = re.compile(r"\b(?:the|The|THE|an|An|a)\b|^\s*A(?=\s+[a-z])")
_ABBREVIATED = re.compile(r"(?<=\d )(mio|mrd|tsd)\.(?= )")
"""A scale whose full stop would part it from the unit after it."""

_NAMES = "|".join(MONTHS)
_DATES = (
    (
        re.compile(
            rf"(?<![\w.,])(?P<d>\d{{1,2}})(?:st|nd|rd|th|er|º|\.)?(?: of| de)? (?P<m>{_NAMES})\b\.?"
            r"(?:,? (?:de |del )?(?P<y>\d{4})\b)?"
        ),
        "name",
    ),
    (
        re.compile(
            rf"\b(?P<m>{_NAMES})\.? (?P<d>\d{{1,2}})(?:st|nd|rd|th)?\b(?!\d)"
            r"(?:,? (?P<y>\d{4})\b)?"
        ),
        "name",
    ),
    (re.compile(r"\b(?P<y>\d{4})-(?P<m>\d{2})-(?P<d>\d{2})\b"), "number"),
    (re.compile(r"\b(?P<d>\d{1,2})\.(?P<m>\d{1,2})\.(?P<y>\d{4})\b"), "number"),
    (re.compile(r"(?P<y>\d{4})年(?P<m>\d{1,2})月(?P<d>\d{1,2})日"), "number"),
)
"""Patterns of dates, after `_plain`, and whether the month is a name or a number."""

_ENGLISH = (
    *("january", "february", "march", "april", "may", "june", "july"),
    *("august", "september", "october", "november", "december"),
)
_SINGLE_SPACE = 1


@dataclass(frozen=True, slots=True)
class Word:
    """A word in lower case without accents, or one character of a script without spaces."""

    text: str


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number.

    Attributes:
        values: Its possible values, scale included; several if the notation is ambiguous.
        unit: Its unit or currency; None without one.
        raw: Its digits as written.
    """

    values: frozenset[Decimal]
    unit: str | None
    raw: str


Token = Word | Quantity


def same(one: Token, other: Token) -> bool:
    """Whether two tokens are equal; a quantity without unit equals one with any unit."""
    if isinstance(one, Quantity) and isinstance(other, Quantity):
        units = {one.unit, other.unit} - {None}
        return len(units) < 2 and bool(one.values & other.values)
    texts = [each.raw if isinstance(each, Quantity) else each.text for each in (one, other)]
    return texts[0] == texts[1]


def tokens_of(text: str) -> list[Token]:
    """Return the words and quantities of a text, in order, without English articles."""
    return list(_joined(_raw_tokens(_dated(_plain(text)))))


def _plain(text: str) -> str:
    """Lower-case text without articles, accents and typographic variants."""
    text = _ARTICLES.sub(" ", unicodedata.normalize("NFKC", text))
    text = _ACCENTS.sub("", unicodedata.normalize("NFD", text.casefold()))
    text = unicodedata.normalize("NFC", text)
    for sign in "−‐‑":
        text = text.replace(sign, "-")
    text = _ABBREVIATED.sub(r"\1", text)
    return text.replace("’", "'").replace("&", " and ").replace("fr.", "fr ")


def _dated(text: str) -> str:
    """Write all dates as day, English month and year."""
    for pattern, kind in _DATES:

        def written(found: re.Match[str], kind: str = kind) -> str:
            month = MONTHS[found["m"]] if kind == "name" else int(found["m"])
            if not 1 <= month <= len(_ENGLISH):
                return found.group()
            year = f" {found['y']}" if found["y"] else ""
            return f" {int(found['d'])} {_ENGLISH[month - 1]}{year} "

        text = pattern.sub(written, text)
    return text


@dataclass(frozen=True, slots=True)
class _Raw:
    """A piece of text: `kind` is `number`, `word`, `unspaced` or `sign`."""

    kind: str
    text: str
    start: int
    end: int


def _raw_tokens(text: str) -> list[_Raw]:
    return [
        _Raw(str(found.lastgroup), found.group(), found.start(), found.end())
        for found in _RAW.finditer(text)
    ]


def _joined(raw: Sequence[_Raw]) -> Iterator[Token]:
    """Join numbers with their signs, scales and units; drop the other signs."""
    at = 0
    while at < len(raw):
        piece = raw[at]
        if piece.kind == "number" or piece.text in NUMBERS:
            token, at = _quantity(raw, at)
            yield token
        elif piece.kind == "sign" or (_currency(piece) and _before_number(raw, at)):
            at += 1
        else:
            yield Word(piece.text)
            at += 1


def _quantity(raw: Sequence[_Raw], at: int) -> tuple[Token, int]:
    """Return the quantity, or the word, that begins with a number, and where the next begins."""
    piece, stop = raw[at], at + 1
    digits = piece.text
    if piece.text in NUMBERS:
        values = {Decimal(NUMBERS[piece.text])}
        unit_part = _next(raw, stop, hyphen=True)
        if piece.text in TENS and unit_part is not None:
            ones = NUMBERS.get(raw[unit_part].text, 10)
            if 0 < ones < 10:
                values, stop = {Decimal(NUMBERS[piece.text] + ones)}, unit_part + 1
    else:
        while _is_group(raw, at, stop):
            digits, stop = f"{digits}'{raw[stop].text}", stop + 1
        values = _values(digits)
    label = at > 0 and raw[at - 1].text in LABELS and "." in digits
    if not values or label or _has_unknown_suffix(raw, stop):
        return _as_word(raw, at, stop)
    if _is_negative(raw, at):
        values = {-value for value in values}
    elif _in_parentheses(raw, at, stop):
        values = {sign * value for value in values for sign in (1, -1)}
    values, stop = _scaled(values, raw, stop)
    unit, stop = _unit(raw, stop)
    if unit is None and at > 0 and raw[at].start - raw[at - 1].end <= _SINGLE_SPACE:
        unit = _currency(raw[at - 1])
    return Quantity(frozenset(values), unit, piece.text), stop


def _as_word(raw: Sequence[_Raw], at: int, stop: int) -> tuple[Token, int]:
    """Return digits that are not a quantity, such as a version or 1990s, as a word."""
    text = raw[at].text
    if stop == at + 1 and _has_unknown_suffix(raw, stop):
        return Word(text + raw[stop].text), stop + 1
    return Word(text), at + 1


def _has_unknown_suffix(raw: Sequence[_Raw], at: int) -> bool:
    """Whether letters follow a number at once, and are neither scale, unit nor ordinal."""
    if at >= len(raw) or raw[at].kind != "word" or raw[at].start != raw[at - 1].end:
        return False
    return raw[at].text not in {*SCALES, *UNITS, *CURRENCIES, "st", "nd", "rd", "th"}


def _is_group(raw: Sequence[_Raw], at: int, stop: int) -> bool:
    """Whether the next piece continues a number that is grouped by spaces, such as 12 400."""
    if stop >= len(raw) or raw[stop].kind != "number" or not raw[at].text.isdigit():
        return False
    whole, _, _ = raw[stop].text.replace(",", ".").partition(".")
    return (
        len(raw[at].text) <= 3
        and len(whole) == 3
        and raw[stop].start - raw[stop - 1].end == _SINGLE_SPACE
        and raw[stop - 1].text.isdigit()
    )


def _values(digits: str) -> set[Decimal]:
    """Return the possible values of digits with separators; none if they are not a number."""
    kinds = sorted({char for char in digits if not char.isdigit()}, key=digits.rfind)
    if not kinds:
        return {Decimal(digits)}
    last = kinds[-1]
    whole, _, part = digits.rpartition(last)
    grouped = _ungrouped(digits)
    if len(kinds) > 1:
        head = _ungrouped(whole)
        single = digits.count(last) == 1 and head is not None
        return {Decimal(f"{head}.{part}")} if single else set()
    if digits.count(last) > 1 or last == "'":
        return set() if grouped is None else {Decimal(grouped)}
    found = set() if grouped is None else {Decimal(grouped)}
    if grouped is None or last == ".":  # 1,234 is grouped; 1.234 may be
        found.add(Decimal(f"{whole}.{part}"))
    return found


def _ungrouped(digits: str) -> str | None:
    """Return digits without separators of thousands, or None if they do not separate these."""
    first, *groups = re.split(r"[.,']", digits)
    sizes = [len(group) for group in groups]
    indian = sizes[-1:] == [3] and set(sizes[:-1]) <= {2} and len(first) <= 2 and "," in digits
    if first.startswith("0") or not 1 <= len(first) <= 3 or not (set(sizes) <= {3} or indian):
        return None if groups else digits
    return "".join([first, *groups])


def _is_negative(raw: Sequence[_Raw], at: int) -> bool:
    """Whether a minus precedes a number or its currency, and no word precedes the minus."""
    first = at
    if at and raw[at - 1].end == raw[at].start and _currency(raw[at - 1]):
        first = at - 1
    for sign in {at - 1, first - 1}:
        if sign >= 0 and raw[sign].text == "-" and raw[sign].end == raw[sign + 1].start:
            touches = sign and raw[sign - 1].end == raw[sign].start
            return not touches or raw[sign - 1].text in "($€£¥"
    return False


def _in_parentheses(raw: Sequence[_Raw], at: int, stop: int) -> bool:
    """Whether a number alone is in parentheses: bookkeepers write losses so."""
    return at > 0 and raw[at - 1].text == "(" and stop < len(raw) and raw[stop].text == ")"


def _next(raw: Sequence[_Raw], at: int, *, hyphen: bool = False) -> int | None:
    """Return the piece at a place, or after a hyphen there; None if it is further away."""
    if hyphen and at < len(raw) and raw[at].text == "-":
        at += 1
    if at >= len(raw) or raw[at].start - raw[at - 1].end > _SINGLE_SPACE:
        return None
    return at


def _scaled(values: set[Decimal], raw: Sequence[_Raw], stop: int) -> tuple[set[Decimal], int]:
    """Multiply values by the scales that follow, such as thousand million."""
    while (at := _next(raw, stop, hyphen=True)) is not None and raw[at].text in SCALES:
        letter, apart = len(raw[at].text) == 1, raw[at].start > raw[at - 1].end
        scaled = {value * SCALES[raw[at].text] for value in values}
        # A letter that is apart may be a unit: 12.4 m.
        values = values | scaled if letter and apart and raw[at].kind == "word" else scaled
        stop = at + 1
    return values, stop


def _unit(raw: Sequence[_Raw], stop: int) -> tuple[str | None, int]:
    """Return the unit that follows a number, of one or two words, and where it ends."""
    at = _next(raw, stop, hyphen=True)
    if at is None:
        return None, stop
    two = _next(raw, at + 1)
    if two is not None and (unit := UNITS.get(f"{raw[at].text} {raw[two].text}")):
        return unit, two + 1
    unit = UNITS.get(raw[at].text) or _currency(raw[at])
    return (unit, at + 1) if unit is not None else (None, stop)


def _currency(piece: _Raw) -> str | None:
    return CURRENCIES.get(piece.text)


def _before_number(raw: Sequence[_Raw], at: int) -> bool:
    following = _next(raw, at + 1)
    return following is not None and raw[following].kind == "number"

"""Numbers as people write them: `1,234.56`, `1.234,56 €`, `(123)`, `12 %`."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import NamedTuple

from nsa_cli.tables.words import word_set

_CURRENCIES = {
    "€": "EUR",
    "$": "USD",
    "us$": "USD",
    "£": "GBP",
    "¥": "JPY",
    "₹": "INR",
    "₽": "RUB",
    "₩": "KRW",
    "₺": "TRY",
    "₴": "UAH",
    "zł": "PLN",
    "kč": "CZK",
    "fr": "CHF",
    "fr.": "CHF",
    "a$": "AUD",
    "c$": "CAD",
    "kr": "kr",
    "kr.": "kr",
}
_CODES = word_set(
    "AED ARS AUD BGN BRL CAD CHF CLP CNY COP CZK DKK EGP EUR GBP HKD HUF IDR ILS INR ISK JPY KES "
    "KRW MAD MXN MYR NGN NOK NZD PEN PHP PKR PLN RON RSD RUB SAR SEK SGD THB TRY TWD UAH USD VND "
    "ZAR"
)
_NAMES = {
    "euro": "EUR",
    "euros": "EUR",
    "dollar": "USD",
    "dollars": "USD",
    "pound": "GBP",
    "pounds": "GBP",
    "yen": "JPY",
    "franken": "CHF",
    "francs": "CHF",
    "percent": "%",
    "prozent": "%",
}
_SIGN = "[-+\u2212\u2013]"
_SYMBOL = r"[A-Za-z]{0,2}[$€£¥₹₽₩₺₴]|[A-Za-z]{2,3}\.?|[zZ]ł|Kč"
_NUMBER = re.compile(
    rf"(?P<open>\()?\s*(?P<sign>{_SIGN})?\s*(?P<before>{_SYMBOL})?\s*(?P<sign2>{_SIGN})?\s*"
    r"(?P<digits>\d[\d.,'’ ]*|\.\d+)(?P<power>[eE][-+]?\d{1,3})?"
    rf"\s*(?P<after>[%‰]|[$€£¥₹₽₩₺₴]|[^\W\d_]{{1,5}}(?:/[^\W\d_]{{1,3}})?[²³]?\.?)?\s*(?P<trail>{_SIGN})?(?P<close>\))?"
)
_SPACES = re.compile(r"[\s\u00a0\u2007\u2009\u202f]+")
_MOST_DIGITS = 60


class Number(NamedTuple):
    """A number with its unit.

    Attributes:
        value: The number; 12 for `12 %`.
        unit: `%`, a currency code such as `EUR`, a unit such as `kg`, or empty.
    """

    value: Decimal
    unit: str


class _Parts(NamedTuple):
    """A number's digits with their separators, and the text around them."""

    digits: str
    power: str
    negative: bool
    unit: str


def unit_named(word: str) -> str | None:
    """The unit that a word or a symbol names: `EUR` for `€` and `euros`; None for others."""
    lower = word.casefold()
    if lower in _NAMES or lower in _CURRENCIES:
        return _NAMES.get(lower) or _CURRENCIES[lower]
    if word.upper() in _CODES and word.isupper():
        return word
    return "%" if word == "%" else None


def parse_number(text: str, decimal: str | None = None) -> Number | None:
    """Read a number; None if the text is not one.

    Args:
        text: The text, such as `€ 1.234,50`.
        decimal: The decimal mark, `.` or `,`. None to judge by the text alone: the last of two
            marks is the decimal one, a mark before three digits separates thousands.
    """
    parts = _parts(text)
    if parts is None:
        return None
    plain = _plain(parts.digits, decimal or decimal_mark(text))
    if plain is None:
        return None
    value = Decimal(f"{'-' if parts.negative else ''}{plain}{parts.power}")
    return Number(value, parts.unit)


def decimal_mark(text: str) -> str | None:
    """The decimal mark that a number shows by itself; None if it shows none."""
    parts = _parts(text)
    marks = re.sub(r"[^.,]", "", parts.digits.rstrip(" .,'’")) if parts is not None else ""
    if parts is None or not marks:
        return None
    last, digits = marks[-1], parts.digits.strip()
    other = "," if last == "." else "."
    if other in marks:
        return last if marks.count(last) == 1 else other if marks.count(other) == 1 else None
    if len(marks) > 1:  # thousands
        return other
    whole, _, rest = digits.partition(last)
    if len(rest) != 3 or len(whole) > 3 or whole in ("", "0"):
        return last
    return last if re.search(r"[ '’]", whole) else None


def _parts(text: str) -> _Parts | None:
    text = _SPACES.sub(" ", text.strip())
    found = _NUMBER.fullmatch(text) if len(text) <= _MOST_DIGITS else None
    if found is None or bool(found["open"]) != bool(found["close"]):
        return None
    signs = [each for each in (found["sign"], found["sign2"], found["trail"]) if each]
    if len(signs) > 1 or (found["open"] and signs):
        return None
    before, after = found["before"], found["after"]
    if before and (unit_named(before) in (None, "%") or after):
        return None
    unit = before or after or ""
    negative = bool(found["open"]) or any(sign != "+" for sign in signs)
    return _Parts(found["digits"], found["power"] or "", negative, unit_named(unit) or unit)


def _plain(digits: str, decimal: str | None) -> str | None:
    """Digits without thousands separators and with a point; None if these are out of place."""
    digits = digits.strip()
    whole, mark, rest = digits, "", ""
    if decimal is not None:
        whole, mark, rest = digits.partition(decimal)
        if mark and not (rest.isdecimal() or (not rest and whole.isdecimal())):
            return None
    if whole and not whole.isdecimal():
        separators = set(re.sub(r"\d", "", whole))
        groups = re.split(r"\D", whole)
        if (
            len(separators) != 1
            or not 1 <= len(groups[0]) <= 3
            or len(groups[-1]) != 3
            or any(len(group) not in (2, 3) for group in groups[1:])
        ):
            return None
        whole = "".join(groups)
    return f"{whole or 0}.{rest}" if rest else whole or None


def number_text(value: Decimal, decimals: int | None = None, unit: str = "") -> str:
    """A number in English notation: `1,234.50 EUR`.

    Args:
        value: The number.
        decimals: Digits after the point; None for those that it has.
        unit: Its unit, or empty.
    """
    if decimals is not None:
        value = value.quantize(Decimal(1).scaleb(-decimals))
    text = f"{value:,f}"
    if decimals is None and "." in text:
        text = text.rstrip("0").rstrip(".")
    return f"{text}%" if unit == "%" else f"{text} {unit}".rstrip()

"""Numbers as lists write them: `iv`, `B`, `03`, `2nd`."""

from __future__ import annotations

_ROMAN = (
    *((1000, "m"), (900, "cm"), (500, "d"), (400, "cd"), (100, "c"), (90, "xc")),
    *((50, "l"), (40, "xl"), (10, "x"), (9, "ix"), (5, "v"), (4, "iv"), (1, "i")),
)
_DIGITS = "〇一二三四五六七八九"


def formatted(number: int, kind: str) -> str:
    """A number as a format of Word writes it; formats that are not known count in digits.

    Args:
        number: From 0.
        kind: Such as `lowerRoman` or `upperLetter`.
    """
    if kind == "none":
        return ""
    if kind in ("lowerRoman", "upperRoman") and 0 < number < 4000:
        text = _roman(number)
        return text.upper() if kind == "upperRoman" else text
    if kind in ("lowerLetter", "upperLetter") and number > 0:
        text = chr(ord("a") + (number - 1) % 26) * min(1 + (number - 1) // 26, 20)
        return text.upper() if kind == "upperLetter" else text
    if kind == "decimalZero":
        return f"{number:02}"
    if kind == "ordinal":
        teen = number // 10 % 10 == 1
        return f"{number}{'th' if teen else {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th')}"
    if kind in ("chineseCounting", "chineseCountingThousand", "japaneseCounting") and number < 100:
        tens, ones = divmod(number, 10)
        before = ("" if tens == 1 else _DIGITS[tens]) + "十" if tens else ""
        return before + (_DIGITS[ones] if ones or not tens else "")
    return str(number)


def _roman(number: int) -> str:
    text = ""
    for value, letters in _ROMAN:
        text += letters * (number // value)
        number %= value
    return text

"""Values of options: parsing and refusal."""

from __future__ import annotations

import math
from collections.abc import Sequence

from nsa_cli.config.options import either
from nsa_models.errors import UsageError

_SECONDS = {"s": 1, "m": 60, "h": 3600}


def numbers(flag: str, text: str) -> list[int]:
    """Parse whole numbers of at least 1, separated by commas.

    Raises:
        UsageError: If the text is anything else.
    """
    try:
        found = [int(number) for number in text.split(",")]
    except ValueError as error:
        hint = "separate whole numbers by commas, such as 8192,30000"
        raise invalid(flag, text, hint) from error
    if min(found) < 1:
        raise invalid(flag, text, "numbers must be at least 1")
    return found


def seconds(flag: str, text: str) -> float:
    """Parse a time such as `90s`, `10m` or `2h`; returns seconds.

    Raises:
        UsageError: If the text is anything else, or no time at all.
    """
    number, unit = text.strip()[:-1], text.strip()[-1:]
    try:
        found = float(number) * _SECONDS[unit]
    except (KeyError, ValueError) as error:
        raise invalid(flag, text, "give a number with s, m or h, such as 10m") from error
    if not 0 < found < math.inf:
        raise invalid(flag, text, "the time must be more than 0")
    return found


def check_choice(flag: str, value: str | None, choices: Sequence[str]) -> None:
    """Refuse a value that is not among the choices; None is no value.

    Raises:
        UsageError: If it is not.
    """
    if value is not None and value not in choices:
        raise invalid(flag, value, f"use {either(choices)}")


def invalid(flag: str, value: object, hint: str) -> UsageError:
    """Return the error for a value that an option does not take."""
    return UsageError(f"invalid value for {flag}: {value!r}", hint=hint)

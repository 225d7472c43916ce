"""Values of options: parsing and refusal."""

from __future__ import annotations

from collections.abc import Sequence

from nsa_cli.config.options import either
from nsa_models.errors import UsageError


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

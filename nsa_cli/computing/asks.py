"""Whether a question asks for arithmetic at all."""

from __future__ import annotations

from functools import lru_cache

from nsa_cli.computing.asked_forms import asked_form
from nsa_cli.computing.date_forms import date_form_of


@lru_cache(maxsize=256)
def asks_for_expression(question: str) -> bool:
    """Whether a question asks for arithmetic, with figures or with dates."""
    return asked_form(question) is not None or date_form_of(question) is not None

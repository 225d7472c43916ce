"""Whether a sentence states the result of the arithmetic that a question asks for."""

from __future__ import annotations

import re

from nsa_cli.computing.asked_forms import named_form
from nsa_cli.computing.forms import STATED

_PERCENT = re.compile(r"%|\bper ?cent|\bprozent|\bpercentage|％", re.IGNORECASE)
_PER = re.compile(r"\b(?:per|pro|je|each|every|jede\w*|par)\b", re.IGNORECASE)


def states_result(question: str, answer: str, quote: str) -> bool:
    """Whether a quote may state what an answer says of a question for arithmetic.

    It is true of other questions. A share or a growth is a percentage, and its sentence tells of a
    share or a growth; a rate for each of something has a word such as `per`; and so on.

    Args:
        question: The question.
        answer: The answer in words.
        quote: The sentence that is cited for it.
    """
    name = named_form(question)
    if name is None:
        return True
    if name in ("share", "growth") and not _PERCENT.search(answer):
        return False
    if name == "per":
        return _PER.search(f"{quote} {answer}") is not None
    return STATED[name].search(quote) is not None

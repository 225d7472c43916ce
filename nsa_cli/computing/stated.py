"""Whether a sentence states the result of the arithmetic or comparison that a question asks for."""

from __future__ import annotations

import re

from nsa_cli.computing.asked_forms import named_form
from nsa_cli.computing.forms import STATED

_PERCENT = re.compile(r"%|\bper ?cent|\bprozent|\bpercentage|％", re.IGNORECASE)
_PER = re.compile(r"\b(?:per|pro|je|each|every|jede\w*|par)\b", re.IGNORECASE)

_DEGREES = (
    r"largest|biggest|greatest|smallest|highest|lowest|longest|shortest|oldest|youngest|newest|"
    r"earliest|fastest|slowest|heaviest|lightest|cheapest|strongest|weakest|best|worst|fewest|"
    r"(?:größt|kleinst|höchst|niedrigst|längst|kürzest|ältest|jüngst|neuest|frühest|schnellst|"
    r"langsamst|schwerst|leichtest|billigst|teuerst|best|schlechtest)e[mnrs]?|"
    r"am (?:meisten|wenigsten|größten|kleinsten|höchsten|niedrigsten)|(?:meist|wenigst)en|"
    r"l[ea]s? (?:plus|moins|meilleure?s?|pires?)"
)
_MOST = r"(?<!\bat )(?<!\bat the )(?:most|least)(?! (?:of|often)\b)"
_SUPERLATIVE = re.compile(rf"\b(?:{_DEGREES}|{_MOST})\b", re.IGNORECASE)
_STATES_SUPERLATIVE = re.compile(
    rf"\b(?:{_DEGREES}|most|least|maxim\w+|minim\w+|max|min|top|peak|record|mainly|primarily|"
    r"chiefly|than any|only|sole|hauptsächlich|vor allem|surtout|principal\w*)\b",
    re.IGNORECASE,
)


def states_result(question: str, answer: str, quote: str) -> bool:
    """Whether a quote may state what an answer says of a question for arithmetic.

    It is true of other questions. A share or a growth is a percentage, and its sentence tells of a
    share or a growth; a rate for each of something has a word such as `per`; and so on. That one of
    several has the most of something is stated by such a word, and not by a row of a table.

    Args:
        question: The question.
        answer: The answer in words.
        quote: The sentence that is cited for it.
    """
    if _SUPERLATIVE.search(question) and not _STATES_SUPERLATIVE.search(quote):
        return False
    name = named_form(question)
    if name is None:
        return True
    if name in ("share", "growth") and not _PERCENT.search(answer):
        return False
    if name == "per":
        return _PER.search(f"{quote} {answer}") is not None
    return STATED[name].search(quote) is not None

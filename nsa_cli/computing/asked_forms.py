"""Forms of arithmetic that a question asks for, where a trained model writes the expression.

The model tells how many figures an expression has, and writes a bare figure where nothing has to be
computed. So more questions have a form than `form_of` gives one, and an expression of another kind
than its form is refused.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

from nsa_cli.computing.compared import alternatives, compares, compares_with
from nsa_cli.computing.expression import ExpressionError
from nsa_cli.computing.figures import Figure
from nsa_cli.computing.forms import FORMS, Form, form_of

_MORE = r"(?:\w{3,}er|as|more|less)"
_AMOUNT = r"(?:how (?:much|many|large|high)|what|wie ?viele?|wie hoch|was kost\w+)"
_TOGETHER = r"(?:together|combined|altogether|zusammen)"
_LEFT = r"(?:left(?! (?:out|by|the|to|in|on)\b)|remain\w*|still|yet|noch|übrig\w*)"
_TAKEN = r"(?:minus|less|after (?:deducting|subtracting)|subtract\w*|deduct\w*|abzüglich|abzieh\w*)"


def _words(text: str) -> re.Pattern[str]:
    return re.compile(rf"\b(?:{text})\b", re.IGNORECASE)


_SEVERAL = _words(
    r"(?:give|state|name|tell|donnez|nenne\w*) (?:me )?(?:both|the two|les deux|beide)|"
    r"according to .*\b(?:and|but) according to|"
    r"(?:and|und|et),? (?:which|what|how|who|welche\w*|wie|quel\w*)\b.*"
)
"""Questions for several results, which one expression does not answer."""

_TIMES = _words(rf"how many times {_MORE}|wie ?viel ?mal so")
_MORE_FORMS = (
    ("ratio", _TIMES),
    ("share", _words(r"(?:what|which) (?:part|portion|fraction) of")),
    (
        "per",
        _words(
            rf"{_AMOUNT}\b.* (?:per|(?:for|on|to) (?:each|every)|pro|je|"
            r"auf (?:eine[nrms]?|jede[nrms]?)) \w+|"
            rf"auf (?:eine[nrms]?|jede[nrms]?) .*\b{_AMOUNT}"
        ),
    ),
    ("sum", _words(rf"{_AMOUNT}\b.*\b{_TOGETHER}|taking .* {_TOGETHER}.*\b{_AMOUNT}")),
    ("difference", _words(rf"{_AMOUNT}\b.*\b(?:{_LEFT}|{_TAKEN})")),
)
_OF_ONE = (
    (
        "per",
        _words(
            r"(?:what|how much) (?:does|did|do|is|was) (?:only )?(?:one|a single|each) [^?.,;]+?"
            r"(?:cost|worth|weigh|earn)|was kostete?n? (?:ein\w*|jede\w*) \w+|"
            r"combien coûte (?:une? seule?|chaque) \w+"
        ),
    ),
    ("mean", _words(r"(?:average|mean|averaged|durchschnitt\w*|en moyenne)")),
    (
        "growth",
        _words(
            r"how (?:much )?(?:did|has|have) .+ (?:chang|develop|evolv)\w*\b.* "
            r"(?:per ?cent|percentage)|"
            r"wie (?:hat|haben) sich .+ (?:in|um wie viel) prozent .*(?:ver)?(?:änder|entwickel)\w*"
        ),
    ),
)
"""What one of several costs, averages of as many figures as the text has, and changes in percent.

A sentence may state them in many words, so they do not tell what a sentence has to say.
"""

_SIGNS = {
    "growth": "-",
    "difference": "-",
    "points": "-",
    "share": "/",
    "ratio": "/",
    "per": "/",
    "days": "/",
    "mean": "/",
    "sum": "+",
}
"""The operator that an expression of each form has."""

_FALLS = _words(
    r"fall|falls|fell|fallen|drop\w*|declin\w+|decreas\w+|shr[aiu]nk\w*|s[aui]nk|lower\w*|less|"
    r"fewer|smaller|shorter|reduc\w+|cut|lost|gesunken|gefallen|fiel\w*|weniger|niedriger|kleiner|"
    r"geringer|kürzer|abgenommen|verringert\w*"
)
_APART = _words(r"differ\w*|apart|lies? between|unterschied\w*|differenz\w*")
_AMOUNTS = _words(r"(?:by what|um welchen|um welche) (?:amount|sum|margin|betrag|summe)")


@lru_cache(maxsize=256)
def asked_form(question: str) -> Form | None:
    """Return the form of arithmetic that a question may ask for, or None.

    Args:
        question: The question as typed.
    """
    if compares(question):
        is_told = alternatives(question) or compares_with(question)
        return _other("difference") if is_told else None
    if _SEVERAL.search(question):
        return None
    found = form_of(question)
    if found is not None:
        return found
    for name, pattern in (*_MORE_FORMS, *_OF_ONE):
        if pattern.search(question):
            return _other(name)
    return None


def _other(name: str) -> Form:
    """A form whose figures the model counts."""
    return Form(name=name, template="", expression="", percent=name in ("share", "growth"))


def named_form(question: str) -> str | None:
    """Return the name of the first form that any part of a question asks for, or None.

    Args:
        question: The question as typed, such as `Which firm paid more, and by how much?`
    """
    patterns = (*FORMS, *_MORE_FORMS, ("difference", _AMOUNTS))
    return next((name for name, pattern in patterns if pattern.search(question)), None)


def suited(asked: Form, written: Form, figures: Sequence[Figure], question: str) -> Form:
    """Return the form of a written expression, its figures in the order that the question implies.

    - A share is the smaller figure by the greater one.
    - What is how many times more is the greater figure by the smaller one.
    - A fall, and a difference between two figures, are the greater one less the smaller one.
    - A part is no growth: what is left is the smaller figure by the greater one, too.

    Args:
        asked: The form that the question asks for.
        written: The form of the expression.
        figures: The figures of the expression.
        question: The question.

    Raises:
        ExpressionError: If the expression has not the operator of the form.
    """
    sign = _SIGNS[asked.name]
    if sign not in written.expression:
        raise ExpressionError(f"a {asked.name} has a {sign!r}")
    if len(figures) != 2:
        return written
    if asked.name == "share" and written.name == "growth":
        written = replace(written, name="share", expression="{0} / {1}")
    first, second = (abs(each.value) for each in figures)
    plain = written.expression
    if plain == "{0} / {1}":
        is_times = asked.name == "ratio" and _TIMES.search(question) is not None
        if is_times and written.percent:
            written = replace(written, name="ratio", percent=False)
        if (is_times and first < second) or (asked.name == "share" and first > second):
            return replace(written, expression="{1} / {0}")
        return written
    falls = _FALLS.search(question) is not None
    apart = falls or _APART.search(question) is not None
    if first < second and apart and plain == "{0} - {1}":
        return replace(written, expression="{1} - {0}")
    if first < second and falls and plain == "({0} - {1}) / {1}":
        return replace(written, expression="({1} - {0}) / {1}")
    return written

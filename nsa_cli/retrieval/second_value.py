"""The other value of a question that asks for two, where an answer has only one of them.

"How long is the notice period by the contract, and by the handbook? Give both." is often answered
by one of the two places. The sentence of the passages with another value of the same unit is then
quoted beside the answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from nsa_cli.documents import Document
from nsa_cli.results import Passage
from nsa_cli.retrieval.citations import whole_sentences
from nsa_cli.retrieval.number_words import MONTHS, UNITS
from nsa_cli.retrieval.polarity import akin
from nsa_cli.retrieval.quantities import Quantity, Token, Word, tokens_of
from nsa_cli.retrieval.stems import stems

_VALUES = (
    r"(?:values?|figures?|amounts?|numbers?|dates?|periods?|percentages?|shares?|times?|prices?|"
    r"limits?|rates?|sums?|werte|beträge|zahlen|fristen|angaben|preise|valeurs|montants|délais|"
    r"valores|plazos|importes)"
)
_BOTH = re.compile(
    rf"\b(?:give|state|name|list|quote|tell)\b(?: me| us)? (?:both|the two)\b|"
    rf"\bboth {_VALUES}\b|\b(?:which|what)(?: are)?(?: the)? two {_VALUES}\b|"
    r"\baccording to\b.*\b(?:and|but)\b.*\baccording to\b|"
    r"\b(?:disagree|do not agree|don['’]t agree|does not agree|contradict)\b|"
    r"\bgive\b.*\band (?:that|those|the one) (?:of|in)\b|"
    rf"\b(?:nenne\w*|gib|geben|gebt)\b(?: \w+){{0,2}} beide\b|\b(?:die|welche) beiden {_VALUES}\b|"
    r"\blaut\b.*\bund\b.*\blaut\b|\bwidersprechen\b|"
    rf"\bdonne[rz]?(?:[- ]moi)? les deux\b|\bles deux {_VALUES}\b|"
    r"\bselon\b.*\bet\b.*\bselon\b|\bpas d['’]accord\b|\bdonne[rz]\b.*\bet celles? d|"
    r"\b(?:ambos|ambas)\b|\b(?:da|dé|dame|indique|indica) (?:los|las) dos\b",
    re.IGNORECASE | re.DOTALL,
)
"""Questions for the values of two places."""

_PARTS = re.compile(r"[;:]\s|,\s(?=(?:and|or|but|und|oder|aber|et|ou|mais|y|o|pero)\b)")
_LEAST_SHARED = 2
_NO_UNITS = frozenset((*MONTHS, "and", "or", "of", "to", "in", "und", "oder", "et", "ou", "y"))
_YEAR = re.compile(r"(?:19|20)\d\d")
_SHORT = 3
"""Letters of a unit that has no plural: gas."""


class _Measured(NamedTuple):
    """A number with its unit, or with the word after it."""

    quantity: Quantity
    unit: str


def second_value(
    question: str, answer: str, document: Document, passages: Sequence[Passage]
) -> tuple[int, int] | None:
    """Return the characters of the sentence with the other value that a question asks for, or None.

    - The question asks for two values, and the answer has one number with a unit.
    - A sentence of the passages has another number of this unit, which is not in the question.
    - Several numbers: the one whose part of a sentence shares most with the question, and two words
      at least. One number: its sentence shares a word.

    Args:
        question: The question.
        answer: The answer in words.
        document: The document.
        passages: What the answer was decoded from.
    """
    said = list(_measured(answer))
    if _BOTH.search(question) is None or len({each.quantity.values for each in said}) != 1:
        return None
    known = [*said, *_measured(question)]
    unit = said[0].unit
    asked = {word for word in stems(question) if UNITS.get(word) != unit and not akin(word, unit)}
    found = [
        (each.quantity.values, shared, span)
        for passage in passages
        for span in whole_sentences(document, passage)
        for each, shared in _others(document.text[span[0] : span[1]], unit, asked)
        if not any(each.quantity.values & other.quantity.values for other in known)
    ]
    if not found:
        return None
    best = max(found, key=lambda each: each[1])
    rivals = [each for each in found if each[0] != best[0]]
    least = _LEAST_SHARED if rivals else 1
    if best[1] < least or any(each[1] == best[1] for each in rivals):
        return None
    return best[2]


def _others(sentence: str, unit: str, asked: set[str]) -> Iterator[tuple[_Measured, int]]:
    """Yield the numbers of a unit, each with how many words its part shares with the question."""
    parts = _PARTS.split(sentence)
    whole = _shared(sentence, asked)
    for part in parts:
        for each in _measured(part):
            if each.unit == unit:
                yield each, whole if len(parts) == 1 else _shared(part, asked)


def _shared(text: str, asked: set[str]) -> int:
    here = stems(text)
    return sum(any(akin(word, other) for other in here) for word in asked)


def _measured(text: str) -> Iterator[_Measured]:
    """Yield the numbers of a text that have a unit, or a word after them that may be one."""
    tokens = tokens_of(text)
    for at, token in enumerate(tokens):
        if not isinstance(token, Quantity):
            continue
        unit = token.unit or _unit(token, tokens[at + 1 : at + 2])
        if unit is not None:
            yield _Measured(token, unit)


def _unit(number: Quantity, after: Sequence[Token]) -> str | None:
    """The word after a number, in the singular; None where it is no unit, or after a year."""
    if not after or not isinstance(after[0], Word) or _YEAR.fullmatch(number.raw):
        return None
    word = after[0].text
    if word in _NO_UNITS:
        return None
    return word[:-1] if len(word) > _SHORT and word.endswith("s") else word

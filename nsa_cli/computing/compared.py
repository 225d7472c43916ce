"""Questions that ask which of two has more, and by how much: the name with a positive amount."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache

from nsa_cli.computing.choice import FigureChoice
from nsa_cli.computing.expression import ExpressionError
from nsa_cli.computing.figures import Figure, numbers
from nsa_cli.computing.forms import Form
from nsa_cli.documents import Document
from nsa_cli.retrieval.polarity import akin
from nsa_cli.retrieval.stems import stems

_ASKS = (
    r"(?:who|which|what|where|did|does|do|was|were|is|are|has|have|had|will|wer|welche\w*|wo|hat|"
    r"haben|war|waren|ist|sind|qui|quel\w*|où)"
)
_ABOUT = r"(?:(?:roughly|about|approximately|around|rund|etwa|ungefähr|environ) )?"
_BY = (
    rf"(?:and|und|et),? (?:by {_ABOUT}how (?:much|many)|by what|um {_ABOUT}wie ?viele?|"
    r"um welche[nr]?|de combien|how (?:big|large|wide|great|much) (?:is|was) the "
    r"(?:gap|difference)|wie gro(?:ß|ss) (?:ist|war) der (?:abstand|unterschied))\b"
)
_COMPARES = re.compile(rf"\b{_ASKS}\b[^?.!]*?\b{_BY}", re.IGNORECASE | re.DOTALL)
_AND_BY = re.compile(rf"\s*,?\s*\b{_BY}.*", re.IGNORECASE | re.DOTALL)
_OR = re.compile(r"(?P<one>[^,;:?–]+?)\s+(?:or|oder|ou)\s+(?P<other>[^,;:?–]+)")
_NO_NAME = re.compile(
    rf"\s*(?:{_ASKS}|between|bei(?:m)?|in|at|by|either|entweder|whether|ob|(?:that|those) of|"
    r"the ones? (?:of|in))\s+",
    re.IGNORECASE,
)
_SMALL_WORD = re.compile(r"(?:the|a|an|of|der|die|das|den|dem|le|la|les|de|du)", re.IGNORECASE)
_LESS = re.compile(
    r"\b(?:less|fewer|lower|smaller|shorter|cheaper|younger|earlier|lighter|least|fewest|lowest|"
    r"smallest|weniger|niedriger\w*|kleiner\w*|kürzer\w*|billiger\w*|moins)\b",
    re.IGNORECASE,
)
_THAN = re.compile(
    r"\A\s*(?!(?:who|which|what|where|wer|welche\w*|wo|qui|quel\w*|où)\b).*\b(?:than|als|que)\b",
    re.IGNORECASE | re.DOTALL,
)
_MOST_WORDS = 5
"""Words of a name, at most."""


@lru_cache(maxsize=256)
def compares(question: str) -> bool:
    """Whether a question asks which one has more or less, and by how much.

    Args:
        question: Such as `Who paid more, the mill or the bakery, and by how much?`
    """
    return _COMPARES.search(question) is not None


def compares_with(question: str) -> bool:
    """Whether a question asks if one is more or less than another one, and by how much.

    Args:
        question: Such as `Was the mill dearer than the bakery, and by how much?`
    """
    return compares(question) and _THAN.search(question) is not None


@lru_cache(maxsize=256)
def alternatives(question: str) -> tuple[str, str] | None:
    """Return the two names that a question compares, or None where it does not tell them.

    Args:
        question: The question.
    """
    found = _OR.search(_AND_BY.sub("", question))
    if found is None:
        return None
    first, second = _bare(found["one"]).split(), _bare(found["other"]).split()
    before = question[: found.start()].rstrip()
    is_whole = before.endswith((",", ":", "–")) and not found.string[found.end() :].strip(" ?")
    if not is_whole:
        second = second[: _as_many(first, second)]
    if not first or not second or max(len(first), len(second)) > _MOST_WORDS:
        return None
    return " ".join(first), " ".join(second)


def _bare(name: str) -> str:
    """A name without the words of the question before it: Did Shell -> Shell."""
    name = name.strip()
    while found := _NO_NAME.match(name):
        name = name[found.end() :]
    return name


def _as_many(first: Sequence[str], second: Sequence[str]) -> int:
    """How many words the second name has: as many as the first, without counting articles."""
    count = sum(_SMALL_WORD.fullmatch(word) is None for word in first)
    for at, word in enumerate(second, 1):
        count -= _SMALL_WORD.fullmatch(word) is None
        if count == 0:
            return at
    return len(second)


def compared(
    form: Form, figures: Sequence[Figure], question: str, document: Document, choice: FigureChoice
) -> tuple[Form, str]:
    """Return a difference as the greater figure less the smaller one, and whose it is.

    Args:
        form: The form of the expression.
        figures: Its figures.
        question: A question that compares two.
        document: The document.
        choice: Tells the sentence of each figure.

    Raises:
        ExpressionError: If it is no difference of two figures, or the text does not tell which
            figure is whose.
    """
    names, greater = alternatives(question), _greater(form, figures)
    if names is None:
        raise ExpressionError("the question does not name the two")
    owners = _owners(names, figures, document, choice)
    if owners is None:
        raise ExpressionError("the text does not tell which figure is whose")
    asked = 1 - greater if _LESS.search(question) else greater
    return _from_greater(form, greater), owners[asked]


def positive(form: Form, figures: Sequence[Figure]) -> Form:
    """Return a difference of two figures as the greater one less the smaller one.

    Args:
        form: The form of the expression.
        figures: Its figures.

    Raises:
        ExpressionError: If it is no difference of two different figures.
    """
    return _from_greater(form, _greater(form, figures))


def _greater(form: Form, figures: Sequence[Figure]) -> int:
    """The index of the greater of two figures of a difference; see `positive` for errors."""
    if len(figures) != 2 or form.expression not in ("{0} - {1}", "{1} - {0}"):
        raise ExpressionError("not a difference between two figures")
    if figures[0].value == figures[1].value:
        raise ExpressionError("the figures are equal")
    return 0 if figures[0].value > figures[1].value else 1


def _from_greater(form: Form, greater: int) -> Form:
    """A difference of two figures as the greater one less the other."""
    return replace(form, expression=f"{{{greater}}} - {{{1 - greater}}}")


def _owners(
    names: tuple[str, str], figures: Sequence[Figure], document: Document, choice: FigureChoice
) -> tuple[str, str] | None:
    """The name of each figure; None where the words before them do not tell."""
    asked = [stems(name) for name in names]
    for first, second in zip(*(_contexts(each, document, choice) for each in figures), strict=True):
        here, there = stems(first), stems(second)
        straight = _shared(asked[0], here) + _shared(asked[1], there)
        crossed = _shared(asked[0], there) + _shared(asked[1], here)
        if straight != crossed:
            return names if straight > crossed else (names[1], names[0])
    return None


def _contexts(figure: Figure, document: Document, choice: FigureChoice) -> Iterator[str]:
    """Yield the words before a figure: after the figure before it, of its line, its sentence.

    Last come the name and the first line of its file, which tell whose it is where two are read.
    """
    text = document.text
    start, end = choice.sentence_of(figure)
    before = [each.end for each in numbers(text, start, figure.start)]
    yield text[max(before, default=start) : figure.start]
    yield text[text.rfind("\n", 0, figure.start) + 1 : figure.start]
    yield text[start:end]
    source = document.piece_at(figure.start).source
    first = next(piece for piece in document.pieces if piece.source == source)
    line = text[first.start : first.end].strip().split("\n", 1)[0]
    yield f"{re.sub(r'[_.-]', ' ', source)} {line}"


def _shared(name: set[str], here: set[str]) -> int:
    return sum(any(akin(word, other) for other in here) for word in name)

"""What costs so much a page, times the pages that a question asks about; a month, times twelve."""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal

from nsa_cli.computing.calculated import Calculated, caption_around
from nsa_cli.computing.calculation import calculate
from nsa_cli.computing.choice import FigureChoice, Span
from nsa_cli.computing.figures import Figure, numbers
from nsa_cli.computing.forms import Form
from nsa_cli.documents import Document
from nsa_cli.retrieval.number_words import CURRENCIES, NUMBERS, UNITS
from nsa_cli.retrieval.polarity import alike
from nsa_cli.retrieval.sentences import content_words

_PER_WORD = r"(?:per|an?|each|every|pro|je|par)"
_RATE = re.compile(
    rf"\s*(?P<unit>[^\W\d_]+)?\s*(?:\b{_PER_WORD}\s+|/\s?)(?P<noun>[^\W\d_]{{2,}})", re.IGNORECASE
)
_OF_ONE = re.compile(rf"\b{_PER_WORD}\s+(?P<noun>\w+)", re.IGNORECASE)
_ASKS = re.compile(
    r"\b(?:how (?:much|high|expensive)|what (?:do|does|did|is|are|would|will)|wie ?viel|"
    r"wie (?:hoch|teuer)|was (?:kost\w+|zahl\w+)|combien)\b",
    re.IGNORECASE,
)
_COUNT = re.compile(
    r"(?<![\w.,])(?=(?P<count>\d{1,5}|[^\W\d_]+)\s+(?P<noun>[^\W\d_]{2,})(?![\w.,]*\d))"
)
_PERIOD = re.compile(
    r"\b(?:an?|one|per|whole|full|entire|each|every|ein\w*|pro|ganze\w*|par|un)\s+"
    r"(?:(?:whole|full|entire|ganze\w*)\s+)?"
    r"(?P<period>year|quarter|week|jahr\w*|quartal\w*|woche\w*|an|trimestre|semaine)\b"
    r"|\b(?P<yearly>yearly|annual(?:ly)?|jährlich\w*|annuel\w*)\b",
    re.IGNORECASE,
)
_PERIODS = {"quartal": "quarter", "quartals": "quarter", "trimestre": "quarter"}
_PARTS = {
    ("month", "year"): 12,
    ("quarter", "year"): 4,
    ("month", "quarter"): 3,
    ("day", "week"): 7,
}
"""How many of a period the other one has; months are not whole weeks."""

_LIMIT = re.compile(
    r"\b(?:at most|no more than|not more than|up to|maximum|höchstens|maximal|au plus)\b",
    re.IGNORECASE,
)


def at_rate(
    answer: str, question: str, document: Document, spans: Sequence[Span]
) -> Calculated | None:
    """Multiply a rate by the count that a question asks about; None for other questions.

    The only number of the answer is one that the document gives per something: `10 cents a page`.
    The question asks for an amount of several of it (`12 pages`, `a whole year` of months), and
    shares another word with the sentence. A sentence with a limit below the result is refused.

    Args:
        answer: What a model answers.
        question: The question.
        document: The document.
        spans: What was read of it.

    Raises:
        ExpressionError: If the result has no value.
    """
    said, text = list(numbers(answer)), document.text
    if len(said) != 1 or not _ASKS.search(question):
        return None
    for span in spans:
        for figure in numbers(text, span.start, span.end):
            rate = _RATE.match(text, figure.end) if figure.digits == said[0].digits else None
            count = None if rate is None else _asked_count(question, rate["noun"])
            if rate is None or count is None:
                continue
            form = _times(count, _unit(figure, rate["unit"]))
            choice = FigureChoice(form, question, document, spans)
            start, end = choice.sentence_of(figure)
            if not _shares_a_word(question, text[start:end], rate["noun"]):
                continue
            if _is_limited(text[start:end], figure, count * figure.value):
                return None
            found = calculate(form, [figure], caption_around(document, [figure]))
            return Calculated(choice, [figure], found)
    return None


def _times(count: int, unit: str) -> Form:
    """The form of a count times one figure."""
    return Form(name="product", template="", expression=f"{count} * {{0}}", unit=unit)


def _asked_count(question: str, noun: str) -> int | None:
    """How many of something a question asks about; None where it asks for the rate itself."""
    if any(_is_same(found["noun"], noun) for found in _OF_ONE.finditer(question)):
        return None
    for found in _COUNT.finditer(question):
        count = found["count"].casefold()
        number = int(count) if count.isdecimal() else NUMBERS.get(count)
        if number is not None and number > 1 and _is_same(found["noun"], noun):
            return int(number)
    period = _PERIOD.search(question)
    if period is None:
        return None
    whole = "year" if period["yearly"] else _named(period["period"])
    return _PARTS.get((_named(noun), whole))


def _named(word: str) -> str:
    """The one name of a unit: month for months, year for Jahr."""
    folded = word.casefold()
    return _PERIODS.get(folded) or UNITS.get(folded, folded)


def _is_same(word: str, other: str) -> bool:
    one, two = _named(word), _named(other)
    return one == two or alike(one, two)


def _unit(figure: Figure, word: str | None) -> str:
    """The word between a figure and its `per`, unless the figure has a unit."""
    if figure.quantity.unit is not None or word is None or word.casefold() in CURRENCIES:
        return ""
    return word


def _shares_a_word(question: str, sentence: str, noun: str) -> bool:
    """Whether a question and a sentence have a content word beside the one that is counted."""
    asked = {word for word in content_words(question) if not _is_same(word, noun)}
    there = content_words(sentence)
    return any(alike(word, other) for word in asked for other in there)


def _is_limited(sentence: str, figure: Figure, result: Decimal) -> bool:
    """Whether a sentence has a limit that a result exceeds."""
    others = (each.value for each in numbers(sentence) if each.digits != figure.digits)
    return _LIMIT.search(sentence) is not None and any(0 < value < result for value in others)

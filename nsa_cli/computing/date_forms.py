"""Questions that ask for a date, or for the time between two, and what fills them."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from nsa_cli.computing.calculation import with_marks
from nsa_cli.computing.choice import Span
from nsa_cli.computing.dates import (
    BUSINESS_DAY,
    Day,
    Period,
    between,
    days,
    periods,
    shifted,
    written,
    years,
)
from nsa_cli.computing.turns import Turns
from nsa_cli.documents import Document
from nsa_cli.retrieval.clauses import main_clauses
from nsa_cli.retrieval.sentences import content_words, is_figure, sentences

_WANTS_DATE = re.compile(
    r"\b(?:by|from|until|till|on|before|after) (?:which|what) (?:date|day)\b|"
    r"\b(?:by|until|since|from) when\b|"
    r"\b(?:which|what) (?:date|day)\b.*\b(?:latest|earliest|deadline|due|expire\w*|end\w*)\b|"
    r"\b(?:what|when) is the (?:deadline|due date|last day|latest date)\b|"
    r"\b(?:bis|ab) wann\b|\b(?:bis|an|ab) (?:zu )?welche[mn] (?:tag|datum)\b|"
    r"\bwann\b.*\b(?:spätestens|frühestens)\b",
    re.IGNORECASE,
)
_TIME = r"(?:days?|weeks?|months?|years?|tage|wochen|monate|jahre)"
_ELAPSED = re.compile(
    rf"\b(?:how many|wie viele) (?:(?P<unit>{_TIME}) (?:(?:after|before) .+ (?:was|were|did)\b|"
    r"nach .+ (?:war|wurde)\b|(?:passed|elapsed|went by|had passed|have passed|lie|lay|were there|"
    r"are there|is it|was it|vergingen|liegen|lagen) (?:between|from|zwischen)\b|"
    r"(?:between|from) .+ (?:and|to) )|"
    rf"(?P<other>{_TIME}) (?:did|was|were) .+ (?:before|after)\b)",
    re.IGNORECASE,
)
_MODAL = re.compile(
    r"\b(?:may|must|can|should|shall|could|might|at most|at least|maximum|minimum|allowed|darf|"
    r"dürfen|muss|müssen|höchstens|mindestens|average)\b",
    re.IGNORECASE,
)
_UNITS = {"tage": "day", "wochen": "week", "monate": "month", "jahre": "year"}
_EARLIER = re.compile(
    r"^\W*(?:or more |at the latest )?(?:prior to|before|in advance|ahead of|preceding|vor|avant|"
    r"previous to|earlier than)\b",
    re.IGNORECASE,
)
_EARLIER_AHEAD = re.compile(
    r"\b(?:no|not) (?:later|less|fewer) than\W*$|\bat least\W*$|\bmindestens\W*$|\bspätestens\W*$",
    re.IGNORECASE,
)
_BEFORE = re.compile(r"\b(?:before|prior to|in advance|ahead of|vor|avant)\b", re.IGNORECASE)
_ENDS = re.compile(
    r"\b(?:end\w*|clos\w+|expir\w+|finish\w*|runs? out|takes? place|is held|meets?|endet|läuft|"
    r"schlie(?:ß|ss)t|findet)\b[^.?!]{0,20}\b(?:on|am)\b[^.?!]{0,14}$",
    re.IGNORECASE,
)
"""What ends or takes place on the date that follows."""

_LATEST = re.compile(
    r"\b(?:at the latest|latest|no later than|spätestens|deadline|last day)\b", re.IGNORECASE
)
_VERSION = re.compile(r"^v(?=\d)")
_STEM = 6
_NEAR = 40
"""Characters after a period in which its direction is told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DateForm:
    """A form of arithmetic with dates.

    Attributes:
        name: `deadline`, a date and a period, or `elapsed`, the time between two dates.
        start: The date of the question, for a deadline.
        is_end: Whether something ends or takes place on that date, and what is due before is asked.
        unit: Unit of the time between two dates.
        slots: How many texts are chosen.
    """

    name: str
    start: Day | None = None
    is_end: bool = False
    unit: str = "day"
    slots: int = 1


@lru_cache(maxsize=256)
def date_form_of(question: str) -> DateForm | None:
    """Return the form of arithmetic with dates that a question asks for, or None.

    Args:
        question: The question as typed. For a deadline it names one date, with its day.
    """
    asked = _ELAPSED.search(question)
    if asked is not None and not _MODAL.search(question):
        word = (asked["unit"] or asked["other"]).casefold()
        return DateForm(name="elapsed", unit=_UNITS.get(word, word.rstrip("s")), slots=2)
    named = [each for each in days(question) if each.day is not None]
    if len(named) == 1 and _WANTS_DATE.search(question):
        is_end = bool(_LATEST.search(question) and _ENDS.search(question[: named[0].start]))
        return DateForm(name="deadline", start=named[0], is_end=is_end)
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class DateResult:
    """A computed date or time.

    Attributes:
        expression: The expression.
        result: Its value in words.
        value: The number of units between two dates; or the date, as in ISO 8601, None if its year
            is not known.
        unit: `days` and so on, or `date`.
        places: Where the figures stand: first character, and one past the last.
    """

    expression: str
    result: str
    value: int | str | None
    unit: str
    places: tuple[tuple[int, int], ...]

    def sentence(self, citations: int) -> str:
        """The result with its expression and the numbers of its citations."""
        return with_marks(self.result, self.expression, citations)


class DateChoice(Turns):
    """The choice of dates and periods for a form.

    Args:
        form: The form.
        question: The question.
        document: The document.
        spans: What the model reads of it.
    """

    def __init__(
        self, form: DateForm, question: str, document: Document, spans: Sequence[Span]
    ) -> None:
        self.form = form
        self._document, self._spans = document, spans
        start = "" if form.start is None else form.start.text
        self._asked = _stems(question) - _stems(start)
        self._numbers = {word for word in self._asked if is_figure(word) and not word.isdigit()}
        self._places: dict[str, list[Day | Period]] = {}
        for each in self._offered([one for span in spans for one in self._found(span)]):
            self._places.setdefault(self._option(each), []).append(each)

    def _offered(self, found: Sequence[Day | Period]) -> Sequence[Day | Period]:
        """The periods whose clauses share most with the question, or the dates that it names.

        A word of every clause weighs little. Where the question asks what is due by the end of
        something, periods before an end are offered if the text has any. Where two dates stand in
        lines or sentences with a number of the question, such as `v2.1`, only these are offered.
        """
        if self.form.name != "deadline":
            for place in (self._line_of, self._sentence_of):
                named = [each for each in found if self._numbers & _stems(place(each))]
                if len({self._option(each) for each in named}) > 1:
                    return named
            return found
        if self.form.is_end:
            before = [x for x in found if isinstance(x, Period) and self._sign(x) < 0]
            return self._nearest(before) or self._nearest(found)
        return self._nearest(found)

    def _nearest(self, found: Sequence[Day | Period]) -> Sequence[Day | Period]:
        """Those of clauses that have a third of the weight of the best one's asked words."""
        clauses = [" ".join(self._clause(each).split()) for each in found]
        shared = {clause: _stems(clause) & self._asked for clause in clauses}
        times = Counter(word for words in shared.values() for word in words)
        weights = [sum(1 / times[word] for word in shared[clause]) for clause in clauses]
        least = max(weights, default=0.0) / 3
        return [each for each, weight in zip(found, weights, strict=True) if weight >= least > 0]

    def _sentence_of(self, found: Day | Period) -> str:
        start, end = self.sentence_at((found.start, found.end))
        return self._document.text[start:end]

    def _line_of(self, found: Day | Period) -> str:
        text = self._document.text
        end = text.find("\n", found.end)
        return text[text.rfind("\n", 0, found.start) + 1 : len(text) if end < 0 else end]

    def _found(self, span: Span) -> Sequence[Day | Period]:
        """The dates or periods of a span that the form allows."""
        place, unit = (self._document.text, span.start, span.end), self.form.unit
        if self.form.name == "deadline":
            return periods(*place)
        found = [each for each in days(*place) if each.year is not None]
        if unit == "year":
            return [*found, *years(*place)]
        return [each for each in found if each.day or unit == "month"]

    @property
    def options(self) -> list[str]:
        """What the model may choose."""
        return list(self._places)

    @property
    def is_possible(self) -> bool:
        """Whether the text has enough dates or periods for the form."""
        return len(self._places) >= self.form.slots

    @property
    def lead(self) -> str:
        """The words of the expression before the first choice."""
        return "" if self.form.start is None else f"{self.form.start.text} "

    def _option(self, found: Day | Period) -> str:
        if isinstance(found, Day):
            return " ".join(found.text.split())
        return f"{'+' if self._sign(found) > 0 else '-'} {found.written}"

    def _sign(self, period: Period) -> int:
        """The direction of a period: what its sentence says after it, later if it says nothing."""
        text = self._document.text
        start, _ = self.sentence_at((period.start, period.end))
        after = " ".join(text[period.end : period.end + _NEAR].split())
        if _EARLIER.match(after):
            return -1
        ahead = text[start : period.start]
        return -1 if _EARLIER_AHEAD.search(ahead) and _BEFORE.search(after) else 1

    @property
    def slots(self) -> int:
        """How many dates or periods the form has."""
        return self.form.slots

    def between(self, count: int) -> str:  # noqa: ARG002
        """Return the sign between two dates."""
        return " - "

    def suited(self, chosen: Sequence[str]) -> list[str]:
        """Return the dates and periods that are not chosen yet."""
        return [each for each in self.options if each not in chosen]

    def result(self, texts: Sequence[str]) -> DateResult:
        """Compute the value of chosen texts.

        Raises:
            DateError: If they have none.
        """
        places = [max(self._places[text], key=self._worth) for text in texts]
        spots = tuple((each.start, each.end) for each in places)
        start = self.form.start
        if start is not None:
            [period] = places
            assert isinstance(period, Period)
            sign = self._sign(period)
            end, known = shifted(start, period, sign)
            weekday = f"{end:%A}, " if period.unit == BUSINESS_DAY else ""
            note = " (Monday to Friday)" if period.unit == BUSINESS_DAY else ""
            return DateResult(
                expression=f"{start.text} {'+' if sign > 0 else '-'} {period.written}{note}",
                result=weekday + written(end, start, year=known),
                value=end.isoformat() if known else None,
                unit="date",
                places=spots,
            )
        two = [each for each in places if isinstance(each, Day)]
        first, last = sorted(two, key=lambda each: (each.year or 0, each.month, each.day or 0))
        count, unit = between(first, last, self.form.unit), self.form.unit
        unit = unit if count == 1 else f"{unit}s"
        return DateResult(
            expression=f"{self._option(last)} - {self._option(first)}",
            result=f"{count:,} {unit}",
            value=count,
            unit=f"{self.form.unit}s",
            places=spots,
        )

    def sentence_at(self, place: tuple[int, int]) -> tuple[int, int]:
        """Return the characters of the sentence with a date or a period.

        Args:
            place: First character of it, and one past its last.
        """
        document = self._document
        for span in self._spans:
            if not span.start <= place[0] < span.end:
                continue
            edges = document.edges(span.start, span.end)
            for start, end in sentences(document.text, span.start, span.end, edges):
                if start <= place[0] < end:
                    return start, max(end, place[1])
        return place

    def _clause(self, found: Day | Period) -> str:
        """The main clause with a date or a period."""
        start, end = self.sentence_at((found.start, found.end))
        sentence, at = self._document.text[start:end], 0
        for clause in main_clauses(sentence):
            at = sentence.find(clause, at)
            if at < 0:
                break
            if at <= found.start - start < at + len(clause):
                return clause
            at += len(clause)
        return sentence

    def _worth(self, found: Day | Period) -> float:
        words = _stems(self._sentence_of(found))
        return len(words & self._asked) / math.sqrt(8 + len(words))


def _stems(text: str) -> set[str]:
    """The beginnings of a text's content words: `ends` is `end`, `v1.2` is `1.2`."""
    words = {_VERSION.sub("", word) for word in content_words(text)}
    return {word if is_figure(word) else word[:_STEM].rstrip("s") for word in words}

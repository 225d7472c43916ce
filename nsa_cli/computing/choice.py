"""Figures of what was read that may fill a form, and the expression that the chosen ones make."""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from nsa_cli.computing.figures import Figure, decimal_sign, figures, numbers
from nsa_cli.computing.forms import SLOT, Form
from nsa_cli.computing.turns import Turns
from nsa_cli.documents import Document
from nsa_cli.retrieval.sentences import content_words, is_figure, sentences

_PERCENT_UNITS = ("percent", "points")
_SAME_WORDS = 0.6
"""Share of a question's words by which a sentence is about the same."""


@dataclass(frozen=True, slots=True)
class Span:
    """Characters of the document that the model read."""

    start: int
    end: int


class FigureChoice(Turns):
    """The choice of figures for the slots of a form.

    Args:
        form: The form.
        question: The question.
        document: The document.
        spans: What the model reads of it.
    """

    def __init__(
        self, form: Form, question: str, document: Document, spans: Sequence[Span]
    ) -> None:
        self.form = form
        self._question = question
        self._asked = content_words(question)
        self._document = document
        self._spans = spans
        self._decimal = decimal_sign(
            "\n".join(document.text[span.start : span.end] for span in spans)
        )
        found = [each for span in spans for each in self._figures(span)]
        found = list(_fitting(form, found))
        self.options = list(dict.fromkeys(each.written for each in found))
        self._places = {text: [x for x in found if x.written == text] for text in self.options}
        self._texts = form.template.split(SLOT)

    def _figures(self, span: Span) -> Iterator[Figure]:
        return figures(self._document.text, span.start, span.end, decimal=self._decimal)

    @property
    def problem(self) -> str | None:
        """Why the figures cannot be there, or None."""
        there = " ".join(self._document.text[span.start : span.end] for span in self._spans)
        missing = [year for year in self.form.years if year not in there]
        if missing and len(self.form.years) > 1:
            return f"the passages do not name {missing[0]}"
        if sum(map(len, self._places.values())) < self.form.slots:
            return f"the passages have fewer than {self.form.slots} figures for it"
        return None

    def is_stated(self) -> bool:
        """Whether a sentence states the result itself, so that nothing has to be computed."""
        asked = {word for word in self._asked if not is_figure(word)}
        asked = {word for word in asked if not self.form.stated.search(word)} - _FORM_WORDS
        for start, end in self._sentences():
            sentence = self._document.text[start:end]
            if not self._has_result(start, end):
                continue
            words = {word[:_STEM] for word in content_words(sentence)}
            shared = sum(word[:_STEM] in words for word in asked)
            if shared >= max(1.0, _SAME_WORDS * len(asked)):
                return True
        return False

    def _has_result(self, start: int, end: int) -> bool:
        """Whether a sentence has a figure of the kind that the form results in."""
        text = self._document.text[start:end]
        if not self.form.stated.search(text):
            return False
        found = list(figures(self._document.text, start, end))
        if self.form.percent:
            return any(each.quantity.unit in _PERCENT_UNITS for each in found)
        if self.form.is_change:
            return any(_BY.search(text[: each.start - start]) for each in found)
        return bool(found)

    def _sentences(self) -> Iterator[tuple[int, int]]:
        for span in self._spans:
            edges = self._document.edges(span.start, span.end)
            yield from sentences(self._document.text, span.start, span.end, edges)

    @property
    def lead(self) -> str:
        """The words of the expression before its first figure."""
        return self._texts[0]

    @property
    def slots(self) -> int:
        """How many figures the form has."""
        return self.form.slots

    def between(self, count: int) -> str:
        """Return the words of the expression after `count` figures."""
        return self._texts[count]

    def suited(self, chosen: Sequence[str]) -> list[str]:
        """Return the figures that may follow others: not the same again, and of no other unit."""
        units = {self._places[text][0].quantity.unit for text in chosen} - {None}
        suited = []
        for text in self.options:
            unit = self._places[text][0].quantity.unit
            again = chosen.count(text) >= len(self._places[text])
            again = again or (bool(chosen) and self._is_too_small(text, chosen[0]))
            other = self.form.same_units and unit is not None and units and unit not in units
            if not again and not other:
                suited.append(text)
        return suited

    def _is_too_small(self, text: str, part: str) -> bool:
        """Whether the whole of a share would be smaller than its part."""
        if self.form.name != "share":
            return False
        whole = max(abs(each.value) for each in self._places[text])
        return whole < min(abs(each.value) for each in self._places[part])

    def chosen(self, texts: Sequence[str]) -> list[Figure]:
        """Return the figures of chosen texts, in an order that suits the question.

        Of several places with the same number, the one whose sentence shares most with the
        question counts. Of two figures that are compared, the one of the later year comes first;
        where the text does not tell the years, the greater one, or the smaller one of a fall.
        """
        taken: list[Figure] = []
        for text in texts:
            free = [each for each in self._places[text] if each not in taken]
            taken.append(max(free or self._places[text], key=self._worth))
        if self.form.is_change and len(taken) == 2:
            first, second = (self.year_of(each) or 0 for each in taken)
            falls = self.form.name == "growth" and _FALLS.search(self._question) is not None
            known = first and second and first != second
            if first < second if known else (taken[0].value < taken[1].value) != falls:
                taken.reverse()
        return taken

    def placed(self, digits: Sequence[str]) -> list[Figure]:
        """Return a number of the spans for each of some digits.

        Of several places with the same digits, the one counts whose scale most of the other
        numbers may have, too; then the one whose sentence shares most with the question.

        Args:
            digits: Of numbers that stand in the spans.
        """
        text, decimal = self._document.text, self._decimal
        found = [
            each
            for span in self._spans
            for each in numbers(text, span.start, span.end, decimal=decimal)
        ]
        places = [[each for each in found if each.digits == number] for number in digits]
        scales = Counter(scale for some in places for scale in {each.scale for each in some})
        taken: list[Figure] = []
        for some in places:
            free = [each for each in some if each not in taken]
            taken.append(max(free, key=lambda each: (scales[each.scale], self._worth(each))))
        return taken

    def sentence_of(self, figure: Figure) -> tuple[int, int]:
        """Return the characters of a figure's sentence."""
        for start, end in self._sentences():
            if start <= figure.start < end:
                return start, max(end, figure.end)
        return figure.start, figure.end

    def _worth(self, figure: Figure) -> float:
        start, end = self.sentence_of(figure)
        words = content_words(self._document.text[start:end])
        return len(words & self._asked) / math.sqrt(8 + len(words))

    def year_of(self, figure: Figure) -> int | None:
        """Return the year that a figure is of: in its column's header, or near it; None if unknown.

        Args:
            figure: A figure of the document.
        """
        text = self._document.text
        first = text.rfind("\n", 0, figure.start) + 1
        last = text.find("\n", figure.end)
        last = len(text) if last < 0 else last
        own = [(int(m.group()), m.start(), m.end()) for m in _YEAR.finditer(text, first, last)]
        if not own:
            return self._column_year(figure, first, last)
        start, end = self.sentence_of(figure)
        near = [each for each in own if start <= each[1] < end] or own
        distances = {year: _distance(figure, a, b) for year, a, b in near}
        return min(distances, key=lambda year: distances[year])

    def _column_year(self, figure: Figure, first: int, last: int) -> int | None:
        """The year in the header of a figure's column: as many years as the row has figures."""
        text = self._document.text
        row = list(figures(text, first, last))
        starts = [each.start for each in row]
        if figure.start not in starts:
            return None
        begin = max(self._document.piece_at(figure.start).start, first - _HEADER_REACH)
        for line in reversed(text[begin:first].splitlines()):
            years = _YEAR.findall(line)
            if len(years) == len(row):
                return int(years[starts.index(figure.start)])
            if years and len(years) != len(row):
                return None
        return None


_WORDS_OF_FORMS = """
much many share percentage percent proportion fraction portion ratio difference sum total average
mean days outstanding sales per together combined come comes year years grow growth viel viele wie
prozent anteil hoch
"""
_FORM_WORDS = frozenset(_WORDS_OF_FORMS.split())
_STEM = 5
_HEADER_REACH = 3000
"""Characters before a row in which its header is looked for."""

_FALLS = re.compile(
    r"\b(?:fall|fell|fallen|drop\w*|declin\w+|decreas\w+|shr[aiu]nk|sank|sunk|lower\w*|less|smaller|"
    r"fewer|reduc\w+|sinken|gesunken|gefallen|weniger|niedriger|kleiner|geringer|fiel\w*)\b",
    re.IGNORECASE,
)
"""Words of a question about a growth that is negative."""

_BY = re.compile(r"\b(?:by|um|of)\s+(?:some |about |around |rund |etwa )?$", re.IGNORECASE)
_YEAR = re.compile(r"\b(?:19|20)\d\d\b")


def _distance(figure: Figure, start: int, end: int) -> int:
    """Characters between a figure and a year; a year after the figure is a little nearer."""
    return start - figure.end if start >= figure.end else figure.start - end + 1


def _fitting(form: Form, found: Iterable[Figure]) -> Iterator[Figure]:
    """The figures whose unit a form may take: percentages for points, others for the rest."""
    all_figures, percents = itertools.tee(found)
    parts = [each for each in percents if each.quantity.unit in _PERCENT_UNITS]
    others = [each for each in all_figures if each.quantity.unit not in _PERCENT_UNITS]
    if form.name == "points":
        yield from parts if len(parts) >= form.slots else others
    elif len(others) >= form.slots:
        yield from others
    else:
        yield from sorted([*parts, *others], key=lambda each: each.start)

"""Sentences of a document that its summary may take unchanged, with their scores."""

from __future__ import annotations

import bisect
import heapq
import math
import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

from nsa_cli.documents import Document
from nsa_cli.results import Citation
from nsa_cli.retrieval.facts import Fact, Kind, facts_of
from nsa_cli.retrieval.sentences import UNSPACED, content_words, is_contents_entry
from nsa_cli.summaries.checks import is_list
from nsa_cli.summaries.parts import Part
from nsa_cli.summaries.spans import SentenceSpans, is_code, without_comment_marks
from nsa_cli.summaries.speakers import Speakers, without_fillers, without_opening

LONGEST = 320
"""Maximum characters of a statement."""

_FEWEST_WORDS, _SHORTEST = 5, 12
"""Minimum words or, in scripts without spaces, characters."""

_MOST_CANDIDATES, _LIKELY = 400, 1.5
"""Maximum candidates of a part, and the factor by which one that seems to have a fact is liked."""

_FACT_LIKE = re.compile(r"\d|\b(?:must|shall|may not)\b")
_FIGURE = re.compile(r"\d(?:[\d.,']*\d)?")
_UNSPACED = re.compile(f"[{UNSPACED}]")

_ABBREVIATION, _FEWEST_LONG = 2, 3
"""Letters up to which a word counts as spelled out, and minimum words that are longer."""

_BRIEF_WORDS, _BRIEF = 8, 0.7
"""Words of a sentence that is not brief, and the factor for one that is."""

_STAMP = re.compile(
    r"^\W?(?:\d{4}[-/.]\d\d[-/.]\d\d|(?:[A-Z][a-z]{2} )?[A-Z][a-z]{2} +\d{1,2})?[T ]?"
    r"\d\d:\d\d:\d\d\S*\s+"
)
"""The time at the beginning of a line of a log: it is no fact, and no word of the line."""

_GRAVE = re.compile(
    r"\b(?:error|fail(?:ed|ure|s)?|warn(?:ing)?|critical|fatal|denied|timed? ?out|exception|panic"
    r"|refused|unreachable|killed|corrupt(?:ed)?)\b",
    re.IGNORECASE,
)

_SCRAP = 0.3
"""Factor for what is no sentence of the text itself."""

_MOST_FIGURES = 6
"""Figures of a sentence; a line with more is a row of a table."""

_WEIGHTS: dict[Kind, float] = {"figure": 1.0, "date": 1.2, "ban": 1.3, "duty": 1.3, "name": 0.5}
"""Worth of a fact by its kind; several names count once."""

_MOST_WEIGHT = 4.0
_FACT_SHARE = 0.45
"""Increase of a sentence's worth for each fact of weight 1, up to `_MOST_WEIGHT`."""

_KNOWN_SHARE = 0.7
"""Decrease of a sentence's worth if one statement has all of its content words."""

_LEAST_WORTH = 0.35
"""Worth of a whole sentence that neither attention nor its words commend."""

_REFERS = re.compile(
    r"(?:see|cf\.|figure|fig\.|table|source:|note:|appendix|siehe|abbildung|tabelle|voir)\s"
    r"|[“\"][^”\"]{1,60}[”\"] (?:means|has the meaning|(?:is|are) defined)"
    r"|(?:©|copyright\b)|\[\d+\]\s|in:\s|\d+\s+\W*[A-Z\d]|[\w-]+, \d{4}\b",
    re.IGNORECASE,
)
"""A reference to another place, a caption, a definition, a notice, a note or a source."""

_REFERENCE = re.compile(
    r"(?:\b(?:sections?|articles?|clauses?|figures?|tables?|chapters?|appendix|abs\.|art\.|nr\.)|§+)"
    r"\s*\d[\d.]*(?:\s*\([^)]{1,60}\))?(?:\s*(?:,|and|or|to|und|oder|et)\s*\d[\d.]*)*",
    re.IGNORECASE,
)
"""A reference to a numbered place, such as `Sections 16.1 (General Cap) and 16.2`."""

_OF_CODE = re.compile(r"(?:args|attributes|returns|raises|yields|parameters|examples?):", re.I)
"""A list in the comment of a function."""

_NO_PROSE = re.compile(
    r"(?<!\S)[-–]?\d[\d.,]*\d\s+[-–(]?\d[\d.,]*\d(?!\S*[-/:])|https?://|\bwww\."
    r"|\b(?:doi|is[bs]n):|\bCC[- ]BY\b"
    r"|->|\+\+|\bpp?\. ?\d|```|\|.*\||[{}<>\\=]{2}|[$#] \w|\w\(\w*\)[.;]|\S{48}"
)
"""Neighboring figures of a table's row, an address, a license of a picture, or code."""

_ADDRESSED = re.compile(r"\b(?:you|your|yours|you're|you've|you'll|let's|I'll)\b", re.IGNORECASE)
_LOOSE = re.compile(
    r"\b(?:oh|never mind|I mean|kind of|sort of|or something|and stuff|I guess|I dunno|don't know"
    r"|minutes)\b",
    re.IGNORECASE,
)
"""Loose talk, and talk about the meeting's time."""

_SPOKEN_WORDS, _SPOKEN = 10, 0.6
"""Words of a spoken sentence that says enough, and the factor for a shorter one, and for one that
addresses somebody."""

_LEAST_SPOKEN = 0.3
"""Minimum worth of a spoken sentence without a figure, a date or an obligation."""

_REPEATED = 0.6
"""Share of a sentence's content words that one statement has, from which on it repeats it."""

_MARKS = re.compile(
    r"^(?:[>#*•–-]+\s+|(?:\(\w{1,4}\)|[a-z]\)|\d{1,3}(?:\.\d{1,3})*[.)])\s+(?=\S))+", re.IGNORECASE
)
_ENDS = re.compile(r"[.!。！][\"”’)\]]*$")
_FILLERS = re.compile(r"\b(?:um+|uh+|er|hm+|mm+|you know|I mean)\b|\b(\w+) \1\b", re.IGNORECASE)
_POINTS_BACK = re.compile(
    r"(?:and|but|so|or|it|he|she|they|this|that|these|those|because|which|then"
    r"|yeah|yep|yes|no|nope|ok|okay|well|um|uh|mm|oh|right|alright|sure|'?cause|like|just)\b",
    re.IGNORECASE,
)


@dataclass(kw_only=True)
class Said:
    """What the statements of a summary say so far.

    Attributes:
        keys: Keys of their facts.
        words: The content words of each.
    """

    keys: set[tuple[str, ...]] = field(default_factory=set)
    words: list[set[str]] = field(default_factory=list)

    def add(self, text: str, facts: Sequence[Fact]) -> None:
        """Add a statement with its facts."""
        self.keys |= {fact.key for fact in facts}
        self.words.append(content_words(text))


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A sentence of a document.

    Attributes:
        start: First character in the document.
        end: One past the last.
        text: The sentence on one line, after its speaker's label if it has one.
        words: Its content words.
        facts: Its facts.
        worth: What it is worth to a summary, from 0 to about 1, without its facts.
        citations: What supports it if the model wrote it; empty for a sentence of the document.
    """

    start: int
    end: int
    text: str
    words: frozenset[str]
    facts: tuple[Fact, ...]
    worth: float
    citations: tuple[Citation, ...] = ()

    def gain(self, said: Said) -> float:
        """Its score beside a summary: for its new facts and its new words."""
        new = fact_weight([fact for fact in self.facts if fact.key not in said.keys])
        facts = 1 + _FACT_SHARE * min(_MOST_WEIGHT, new)
        return self.worth * facts * (1 - _KNOWN_SHARE * self._known(said))

    def is_new(self, said: Said) -> bool:
        """Whether it has a figure, a date, a name or an obligation that a summary lacks."""
        return any(fact.key not in said.keys for fact in self.facts)

    def repeats(self, said: Said) -> bool:
        """Whether it has no new figure or date, and a statement has most of its words."""
        new = (fact for fact in self.facts if fact.key not in said.keys)
        return not any(fact.kind in ("figure", "date") for fact in new) and (
            self._known(said) >= _REPEATED
        )

    def _known(self, said: Said) -> float:
        """Largest share of its content words that one statement has."""
        most = max((len(self.words & words) for words in said.words), default=0)
        return most / max(1, len(self.words))


class Attended:
    """Attention of a question to each character range of a document.

    Args:
        spans: Characters of each block; see `block_spans`.
        scores: Score of each block.
    """

    def __init__(self, spans: Sequence[tuple[int, int]], scores: Sequence[float]) -> None:
        filled = [(a, b, score) for (a, b), score in zip(spans, scores, strict=True) if a < b]
        self._blocks = sorted(filled)
        self._starts = [start for start, _, _ in self._blocks]

    def of(self, start: int, end: int) -> float:
        """Return the highest score of a block that overlaps a range; 0 without one."""
        first = max(0, bisect.bisect_right(self._starts, start) - 2)
        last = bisect.bisect_left(self._starts, end)
        blocks = self._blocks[first:last]
        return max((score for a, b, score in blocks if a < end and start < b), default=0.0)


def facts_told(text: str, names: Collection[str] = ()) -> list[Fact]:
    """Return the facts of a text; the number of a section that it refers to does not count."""
    return facts_of(_REFERENCE.sub(" ", text), names)


def fact_weight(facts: Collection[Fact]) -> float:
    """Return the worth of facts; names count once, since a list of names says little."""
    kinds = [fact.kind for fact in facts if fact.kind != "name"]
    has_name = any(fact.kind == "name" for fact in facts)
    return sum(_WEIGHTS[kind] for kind in kinds) + _WEIGHTS["name"] * has_name


def word_count(text: str) -> int:
    """Count the words of a text; in scripts without spaces, a word has twelve characters."""
    return max(len(text.split()), len(text) // 12)


class Candidates:
    """Finds the candidates of each part of a document.

    Args:
        document: The document.
        spans: Its sentences.
        speakers: Its speakers.
        headings: Where its headings begin.
        names: Words that are names at the beginning of a sentence, too; see `name_words`.
        attended: The attention that it gets.
    """

    def __init__(
        self,
        document: Document,
        spans: SentenceSpans,
        speakers: Speakers,
        headings: Collection[int],
        names: Collection[str],
        attended: Attended,
    ) -> None:
        self._document = document
        self._spans = spans
        self._attended = attended
        self._names = names
        self._speakers = speakers
        self._headings = headings

    def of(self, part: Part) -> list[Candidate]:
        """Return the candidates of a part, in order, without very short and very long sentences."""
        spans = list(self._spans_of(part))
        said = [self._without_label(start, end) for start, end in spans]
        words = [content_words(_STAMP.sub("", text)) for _, text in said]
        counts = Counter(word for own in words for word in own)
        central = [_centrality(own, counts) for own in words]
        attention = [math.sqrt(self._attended.of(a, b)) for a, b in spans]
        most_central, most_attention = max(central, default=0), max(attention, default=0)
        worths = [
            self._worth(text, middle / (most_central or 1), seen / (most_attention or 1))
            if says_enough(text, own)
            else 0.0
            for (_, text), own, middle, seen in zip(said, words, central, attention, strict=True)
        ]
        best = _best(worths, [text for _, text in said])
        return [self._candidate(spans[at], *said[at], words[at], worths[at]) for at in sorted(best)]

    def _candidate(
        self, span: tuple[int, int], label: str, text: str, words: Collection[str], worth: float
    ) -> Candidate:
        facts = self._facts(text)
        is_row = sum(fact.kind == "figure" for fact in facts) > _MOST_FIGURES
        return Candidate(
            start=span[0],
            end=span[1],
            text=f"{label}: {text}" if label else text,
            words=frozenset(words),
            facts=facts,
            worth=worth * (_SCRAP if is_row else 1.0),
        )

    def _facts(self, text: str) -> tuple[Fact, ...]:
        """The facts of a sentence; a line of a log has some if it tells of a failure.

        Who is addressed in a conversation is no fact.
        """
        if _STAMP.match(text) and not _GRAVE.search(text):
            return ()
        found = facts_told(_STAMP.sub("", text), self._names)
        if self._speakers.is_transcript:
            found = [each for each in found if each.kind != "name" or len(each.tokens) > 1]
        return tuple(found)

    def _worth(self, text: str, central: float, attention: float) -> float:
        worth = _worth(text, central, attention)
        if not self._speakers.is_transcript:
            return worth
        worth *= _SPOKEN if len(text.split()) < _SPOKEN_WORDS else 1.0
        worth *= _SPOKEN if _ADDRESSED.search(text) else 1.0
        worth *= _SPOKEN ** len(_LOOSE.findall(text))
        return worth if worth >= _LEAST_SPOKEN or _FACT_LIKE.search(text) else 0.0

    def _spans_of(self, part: Part) -> Iterator[tuple[int, int]]:
        for start, end in self._spans.of(part.start, part.end):
            if end - start <= LONGEST and start not in self._headings:
                yield start, end

    def _without_label(self, start: int, end: int) -> tuple[str, str]:
        """Return who speaks a sentence, or an empty text, and the sentence on one line."""
        text = self._document.text
        stop, label = self._speakers.label(start, end)
        if label and stop > self._document.piece_at(start).start:
            start = max(start, stop)
        else:
            label = ""
        own = text[start:end]
        if is_code(self._document.piece_at(start).source):
            own = without_comment_marks(own)
        said = _MARKS.sub("", " ".join(own.split()))
        if self._speakers.is_transcript:
            said = without_opening(without_fillers(said))
        return label, said


def says_enough(text: str, words: Collection[str]) -> bool:
    """Whether a sentence has enough words, and enough of them with a meaning."""
    if word_count(text) < _FEWEST_WORDS:
        return _UNSPACED.search(text) is not None and len(text) >= _SHORTEST
    return sum(len(word) > _ABBREVIATION for word in words) >= _FEWEST_LONG


def _centrality(words: Collection[str], counts: Counter[str]) -> float:
    """How much of a part's vocabulary a sentence has, for its length."""
    return sum(math.log(counts[word]) for word in words) / math.sqrt(8 + len(words))


def _best(worths: Sequence[float], texts: Sequence[str]) -> list[int]:
    """Return the sentences that may be candidates: the best, so that few are searched for facts."""
    likely = [
        worth * (_LIKELY if _FACT_LIKE.search(text) else 1.0)
        for worth, text in zip(worths, texts, strict=True)
    ]
    best = heapq.nlargest(_MOST_CANDIDATES, range(len(likely)), key=likely.__getitem__)
    return [at for at in best if worths[at] > 0]


def _worth(text: str, central: float, attention: float) -> float:
    """Worth of a sentence without its facts.

    Args:
        text: The sentence.
        central: Its centrality as a share of the highest of its part.
        attention: Its attention as a share of the highest of its part.
    """
    return (_LEAST_WORTH + (1 - _LEAST_WORTH) * (central + attention) / 2) * _form(text)


def _form(text: str) -> float:
    """Factor for the form of a sentence: a whole one that is understood without others is best."""
    factor = 1.0 if _ENDS.search(text) or _STAMP.match(text) else 0.4
    factor *= 0.7 if _POINTS_BACK.match(text) else 1.0
    factor *= _SCRAP if text[0].islower() or _REFERS.match(text) else 1.0
    factor *= _SCRAP if text.count("(") != text.count(")") else 1.0
    factor *= _BRIEF if text.endswith("!") else 1.0
    factor *= _SCRAP if _NO_PROSE.search(text) or is_contents_entry(text) else 1.0
    factor *= _BRIEF if len(text.split()) < _BRIEF_WORDS else 1.0
    factor *= 0.8 ** len(_FILLERS.findall(text))
    if _OF_CODE.match(text) or (is_list(text) and not _ENDS.search(text)):
        return 0.0
    return factor * (_SCRAP if len(_FIGURE.findall(text)) > _MOST_FIGURES else 1.0)

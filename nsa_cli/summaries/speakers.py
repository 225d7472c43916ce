"""Speakers of a transcript: the labels before what they say, sentences without fillers."""

from __future__ import annotations

import bisect
import re
from collections import Counter
from collections.abc import Mapping, Sequence

_LABEL = re.compile(r"^[ \t]*([A-Z][\w.'’&-]*(?: [\w.'’&-]+){0,3}):(?=\s)", re.MULTILINE)
_LABELS_LEAST = 2
_LINE = re.compile(r"^.*\S.*$", re.MULTILINE)

_LEAST_SHARE = 0.5
"""Minimum share of a transcript's lines that begin with a label."""

_LEAST_ENDED = 0.3
"""Minimum share of those lines that end as a sentence does."""

_MOST_SPEAKERS = 40
_ENDED = re.compile(r"[.?!…][\"”’)\]]*$")
_NO_SPEAKER_WORDS = """
answer bcc cc critical date debug error example fatal from info note notice question sent subject
summary to todo trace warn warning
"""
_NO_SPEAKER = frozenset(_NO_SPEAKER_WORDS.split())
_FILLER = re.compile(
    r"(?:^|,\s*|(?<=\s))(?:um+|uh+|er|erm|hm+|mm+|mm-hmm)\b(?:\s*,)?\s*"
    r"|,\s*(?:you know|I mean),",
    re.IGNORECASE,
)
_REPEATED = re.compile(r"\b([^\W\d_]+)(?:,?\s+\1\b)+", re.IGNORECASE)
_STUTTER = re.compile(r"\b([b-df-hj-np-tv-xz]{1,3}|y)\s+(?=\1\w)")
"""The beginning of a word, without a vowel, before the word."""

_BROKEN_OFF = re.compile(
    r"^(?!(?:I|A|An|As|At|Am|Be|By|Do|Go|He|If|In|Is|It|Me|Mr|Ms|Dr|My|No|Of|On|Or|So|St|To|Up|Us|We)\b)"
    r"[A-Z][a-z]?\s+(?:[-–]\s+)?(?=[A-Z])"
)
"""The beginning of another word before the first."""

_OPENING = re.compile(
    r"^(?:(?:okay|ok|alright|all right|well|so|yeah|yep|yes|right|oh|and|but|now|'kay|'cause|cuz)\b"
    r"[,.!]*\s+)+",
    re.IGNORECASE,
)
_BEFORE_MARK = re.compile(r"(?:\s*,)*\s*(?=[,.;:?!])")
_FIRST = re.compile(r"^[\s,;.]+")

_LIST = "Speakers: "


def list_of_speakers(names: Sequence[str]) -> str:
    """Return a line that names the speakers of a transcript."""
    return f"{_LIST}{', '.join(names)}."


def lists_speakers(text: str) -> bool:
    """Whether a statement is a line of `list_of_speakers`."""
    return text.startswith(_LIST)


def speaker_labels(text: str) -> dict[int, str]:
    """Return the label that each line of a transcript begins with, by where it ends.

    A label is one that several lines begin with, such as `Chair:`.
    """
    found = list(_LABEL.finditer(text))
    counts = Counter(match[1] for match in found)
    return {match.end(): match[1] for match in found if counts[match[1]] >= _LABELS_LEAST}


def without_fillers(text: str) -> str:
    """Return a spoken sentence without `um`, and with each word said once in a row."""
    plain = _REPEATED.sub(r"\1", _STUTTER.sub("", _FILLER.sub(" ", text)))
    plain = _FIRST.sub("", " ".join(_BEFORE_MARK.sub("", plain).split()))
    plain = _BROKEN_OFF.sub("", plain)
    return plain[:1].upper() + plain[1:]


def without_opening(text: str) -> str:
    """Return a spoken sentence without the words that take the turn, such as `Okay, so`."""
    plain = _OPENING.sub("", text)
    return plain[:1].upper() + plain[1:] if plain else text


class Speakers:
    """Who speaks where in a text.

    Args:
        text: The text.

    Attributes:
        is_transcript: Whether the text is a transcript: most lines begin with the label of one of
            several speakers, and say something.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._labels: Mapping[int, str] = speaker_labels(text)
        self._ends = sorted(self._labels)
        self.is_transcript = self._is_transcript()

    def names(self) -> list[str]:
        """Return the speakers in the order in which they begin to speak."""
        return list(dict.fromkeys(self._labels[end] for end in self._ends))

    def first_turn(self, name: str) -> int:
        """Return where the first turn of a speaker begins: one past the label."""
        return next(end for end in self._ends if self._labels[end] == name)

    def label(self, start: int, end: int) -> tuple[int, str]:
        """Return where the label of a range ends, and the label; -1 and an empty text without."""
        at = bisect.bisect_right(self._ends, end) - 1
        if at < 0 or "\n" in self._text[self._ends[at] : start]:
            return -1, ""
        return self._ends[at], self._labels[self._ends[at]]

    def _is_transcript(self) -> bool:
        names = set(self._labels.values())
        if not 1 < len(names) <= _MOST_SPEAKERS or any(
            name.casefold() in _NO_SPEAKER for name in names
        ):
            return False
        lines = _LINE.findall(self._text)
        ended = sum(
            _ENDED.search(self._text[end : self._text.find("\n", end)].rstrip()) is not None
            for end in self._ends
        )
        count = len(self._ends)
        return count >= _LEAST_SHARE * len(lines) and ended >= _LEAST_ENDED * count

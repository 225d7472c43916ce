"""Sentences, and the content words by which an answer is compared with its source."""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Iterator

from nsa_cli.retrieval.abbreviations import ends_no_sentence

# Thai to Burmese, Khmer, kana, and the ideographs of Chinese and Japanese.
UNSPACED = r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\U00020000-\U0003ffff"
"""Characters of scripts without spaces, for a set of a regular expression."""

LONGEST_QUOTE = 240
"""Maximum characters of a quote."""

_WORD = re.compile(r"[/~.]?\w(?:[\w./+@:<>'’-]|(?<=\d),(?=\d))*", re.UNICODE)
_SENTENCE_END = re.compile(
    r"(?<=[.!?。！？])(?<!\bMio\.)(?<!\bMrd\.)\s+|\n\s*\n|\n(?=\s*[•*\-–·]\s)|[。！？]"
)
_NUMBERING = re.compile(r"\s*(?:[\d.]+|[A-Za-z]\.|[(\[]?\w{1,3}[)\]])")
"""The number of a section or an item: it belongs to the text after it."""

_SHORT_LINE = re.compile(r"^.{1,48}(?<![,;:-])\n(?=[A-Z0-9/<])", re.MULTILINE)
"""A heading or a table cell: it has no full stop, and the next line begins with a capital."""

_CONTENTS = re.compile(r"(?:\.\s?){3}\s*(?:\d{1,4}|[ivxlc]{1,7})?\s*$|…\s*\d{0,4}\s*$")
"""The end of an entry of a table of contents: dots that lead to a page, with or without it."""

_LABELED = re.compile(
    r"\n(?=[ \t]*(?:\d{1,3}[.)][ \t]+[A-ZÀ-ÖØ-Þ]"
    r"|[A-ZÀ-ÖØ-Þ][^\W\d_]*(?:[ /-][^\W\d_]+){0,3}:[ \t]+\S))"
)
"""An item with its number, and a line with its label (`Apologies: Lucy Chen`), are sentences."""

_RECORD = re.compile(
    r"""\n(?=[\[("']?(?:
        \d{4}[-/.]\d\d[-/.]\d\d | \d\d[:/.]\d\d[:/.]\d\d
        | (?:[A-Z][a-z]{2}\s)?[A-Z][a-z]{2}\s+\d{1,2}\s\d\d: | \d{6,10}\s | \{"
    ))""",
    re.VERBOSE,
)
"""A log line is a sentence: it begins with a time or is a JSON object."""

_COMMON_WORDS = """
a about above after all also an and any are as at be because been before being below between
both but by can cannot could did do does doing during each either few for from further had has
have having he her here hers him his how however i if in into is it its itself may me might more
most must my no nor not of on once only or other our out over own same shall she should so some
such than that the their them then there these they this those through to too under until up
upon very was we were what when where whether which while who whom whose why will with would you
your yes document text answer question
"""
_COMMON = frozenset(_COMMON_WORDS.split())


def content_words(text: str) -> set[str]:
    """Return the content words and figures of a text, case-folded."""
    found = (
        match.group().rstrip(".:'’-<>").casefold().removesuffix("'s").removesuffix("’s")
        for match in _WORD.finditer(text)
    )
    return {word for word in found if word and word not in _COMMON}


def is_figure(word: str) -> bool:
    """Whether a word has a digit."""
    return any(character.isdigit() for character in word)


def word_weight(found: set[str]) -> int:
    """Count the words of a set; paths and identifiers count twice."""
    return sum(2 if "/" in word or "_" in word else 1 for word in found)


def is_contents_entry(line: str) -> bool:
    """Whether a line or sentence is an entry of a table of contents: dots lead to its page."""
    return _CONTENTS.search(line) is not None


def contents_share(text: str) -> float:
    """Return the share of a text's lines that are entries of a table of contents."""
    lines = [line for line in text.split("\n") if line.strip()]
    return sum(map(is_contents_entry, lines)) / max(1, len(lines))


def sentences(
    text: str, start: int, end: int, edges: Collection[int] = (), longest: int = LONGEST_QUOTE
) -> Iterator[tuple[int, int]]:
    """Yield the sentences of text[start:end], stripped.

    Args:
        text: The text.
        start: First character.
        end: One past the last character.
        edges: Characters that no sentence crosses.
        longest: Maximum characters; longer sentences are cut at a space.
    """
    breaks = {
        m.end()
        for m in _SENTENCE_END.finditer(text, start, end)
        if not _NUMBERING.fullmatch(text, text.rfind("\n", 0, m.start()) + 1, m.start())
        and ("\n\n" in m.group() or not ends_no_sentence(text, m.start(), m.end()))
    }
    breaks.update(m.end() for m in _SHORT_LINE.finditer(text, start, end))
    breaks.update(m.end() for m in _LABELED.finditer(text, start, end))
    breaks.update(m.end() for m in _RECORD.finditer(text, start, end))
    breaks.update(edges)
    cuts = [start, *sorted(breaks - {start, end}), end]
    for first, last in itertools.pairwise(cuts):
        while first < last:
            stop = last
            if last - first > longest:
                blank = max(
                    text.rfind(" ", first, first + longest),
                    text.rfind("\n", first, first + longest),
                )
                stop = blank if blank > first else first + longest
            piece = text[first:stop]
            left = first + len(piece) - len(piece.lstrip())
            right = first + len(piece.rstrip())
            if left < right:
                yield left, right
            first = stop

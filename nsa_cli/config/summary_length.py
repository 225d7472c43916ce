"""What is wanted of a summary: its length, a name or a number of words, and its topic."""

from __future__ import annotations

from dataclasses import dataclass, replace

from nsa_models.errors import UsageError

LENGTHS = {"short": 120, "medium": 240, "long": 480}
"""Words of a summary, by the name of its length."""

FEWEST_WORDS, MOST_WORDS = 20, 2000
_LEAST_WORDS = 60
_WORDS_PER_PART = 40
_MOST_PARTS = 30
_SENTENCE_WORDS = 22
_MOST_SENTENCES = 8


@dataclass(frozen=True, slots=True)
class SummaryLength:
    """The length of a summary of one document.

    Attributes:
        words: Words of the overview and the statements together, about.
        exact: Whether the words were asked for as a number.
    """

    words: int
    exact: bool = False

    @classmethod
    def parse(cls, text: str) -> SummaryLength:
        """Parse a name of `LENGTHS` or a number of words.

        Raises:
            UsageError: If the text is neither, or the number is out of range.
        """
        words = LENGTHS.get(text) or (int(text) if text.isascii() and text.isdecimal() else 0)
        if not FEWEST_WORDS <= words <= MOST_WORDS:
            raise UsageError(
                f"invalid value for --length: {text!r}",
                hint=f"use short, medium, long or a number of words from {FEWEST_WORDS} to "
                f"{MOST_WORDS}",
            )
        return cls(words, exact=text not in LENGTHS)

    def within(self, document_words: int) -> SummaryLength:
        """Return the length for a document of some words: by name at most half of them."""
        if self.exact:
            return self
        return replace(self, words=min(self.words, max(_LEAST_WORDS, document_words // 2)))

    @property
    def parts(self) -> int:
        """Maximum parts that a document is divided into."""
        return max(1, min(_MOST_PARTS, self.words // _WORDS_PER_PART))

    @property
    def overview_words(self) -> int:
        """Words of the overview paragraph."""
        return self.words // 3

    @property
    def overview_sentences(self) -> int:
        """Maximum sentences of the overview paragraph."""
        return max(1, min(_MOST_SENTENCES, round(self.overview_words / _SENTENCE_WORDS)))

    @property
    def statement_words(self) -> int:
        """Words of all statements together."""
        return self.words - self.overview_words


@dataclass(frozen=True, slots=True, kw_only=True)
class SummaryRequest:
    """What is wanted of a summary.

    Attributes:
        length: How long it is.
        focus: A topic to summarize, or None.
        outline: Whether each section of a document has statements.
    """

    length: SummaryLength
    focus: str | None = None
    outline: bool = False

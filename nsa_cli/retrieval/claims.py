"""Whether a passage supports an answer: its figures, its names and words, yes or no."""

from __future__ import annotations

import re
from collections.abc import Collection

from nsa_cli.retrieval.declining import declines
from nsa_cli.retrieval.number_words import CURRENCIES, NUMBERS, SCALES, TENS, UNITS
from nsa_cli.retrieval.quantities import Quantity, same, tokens_of
from nsa_cli.retrieval.sentences import content_words, is_figure, sentences, word_weight

_YES = re.compile(r"\s*(?:yes|ja|oui|s[ií]|はい|是的?)\b", re.IGNORECASE)
_NO = re.compile(r"\s*(?:no|nein|non|いいえ|不是?)\b(?!\.? ?\d)", re.IGNORECASE)
_NEGATION = re.compile(
    r"\b(?:not|no|never|none|neither|nor|without|cannot|nothing|nobody|prohibited|forbidden|"
    r"nicht|kein\w*|nie|niemals|ohne|ne|pas|aucune?|jamais|sans|non|sin|nunca|ning[uú]n\w*)\b"
    r"|n['’]t\b|ません|ない|不|没|沒|未",
    re.IGNORECASE,
)
_OF_NUMBERS = frozenset([*SCALES, *UNITS, *CURRENCIES, *NUMBERS, *TENS, "yes", "ja", "oui"])
"""Words that are part of a quantity, or of yes."""

_STEM = 5
"""Two words with this many first letters in common count as forms of one word."""


def is_supported(answer: str, question: str, passage: str) -> bool:
    """Whether a passage supports an answer to a question.

    - It has every number of the answer that is not in the question, as the same quantity: 12.4
      million is 12,400 thousand, and 42 is not 420.
    - It has two thirds of the content words that the answer adds to the question; a path or an
      identifier counts as two words, and each has to be there.
    - An answer that adds none needs two thirds of the question's words, in one sentence of the
      passage for yes or no; that sentence has a negation if the answer is no, and none if it is
      yes.
    - An answer that the document does not say has no support.

    Args:
        answer: The answer.
        question: The question.
        passage: The passage.
    """
    if declines(answer) or not _has_figures(answer, question, passage):
        return False
    asked, there = content_words(question), content_words(passage)
    said = {word for word in content_words(answer) if not is_figure(word)} - _OF_NUMBERS
    flat = " ".join(passage.casefold().split())
    new = said - asked
    agrees = _YES.match(answer) is not None
    if agrees or _NO.match(answer):
        return _is_said(question, passage, agrees) and _mostly(new, there, flat)
    if new:
        return _mostly(new, there, flat)
    figures = any(isinstance(token, Quantity) for token in tokens_of(answer))
    figures = figures or any(map(_is_name_with_digits, content_words(answer)))
    return figures or (bool(said) and _mostly(said, there, flat))


def is_about(question: str, passage: str) -> bool:
    """Whether a passage has a form of any content word, or a figure, of a question."""
    asked, there = content_words(question), content_words(passage)
    return any(akin(word, other) for word in asked for other in there)


def is_negated(text: str) -> bool:
    """Whether a text has a word of negation, such as `not` or `without`."""
    return _NEGATION.search(text) is not None


def akin(word: str, other: str) -> bool:
    """Whether two words are forms of one word."""
    return word == other or (len(word) >= _STEM and word[:_STEM] == other[:_STEM])


def _has_figures(answer: str, question: str, passage: str) -> bool:
    """Whether a passage has the numbers, and the words with digits, that an answer adds."""
    here = tokens_of(f"{question}\n{passage}")
    for token in tokens_of(answer):
        if isinstance(token, Quantity) and not any(same(token, each) for each in here):
            return False
    words = {token for token in content_words(answer) if _is_name_with_digits(token)}
    return words <= content_words(passage) | content_words(question)


def _is_name_with_digits(word: str) -> bool:
    """Whether a word with digits is not a number: `sda1`, `/lib64`, `1.8.9`."""
    return is_figure(word) and not any(isinstance(each, Quantity) for each in tokens_of(word))


def _mostly(words: Collection[str], there: Collection[str], flat: str) -> bool:
    """Whether a passage has two thirds of some words; all, if none is needed."""
    present = {word for word in words if word in there or (len(word) > 3 and word in flat)}
    return 3 * word_weight(present) >= 2 * word_weight(set(words))


def _is_said(question: str, passage: str, agrees: bool) -> bool:
    """Whether a sentence of a passage says what a question asks, or denies it."""
    asked = {word for word in content_words(question) if not is_figure(word)}
    best, worth = "", 0
    for start, end in sentences(passage, 0, len(passage)):
        sentence = passage[start:end]
        words = content_words(sentence)
        shared = sum(any(akin(word, other) for other in words) for word in asked)
        if shared > worth:
            best, worth = sentence, shared
    if not asked or 3 * worth < 2 * len(asked):
        return False
    denied = is_negated(best)
    return denied != (agrees != is_negated(question))

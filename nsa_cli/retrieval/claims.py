"""Whether a passage supports an answer: its figures, its names and words, yes or no."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection

from nsa_cli.retrieval.agents import has_another_agent
from nsa_cli.retrieval.declining import declines
from nsa_cli.retrieval.languages import language
from nsa_cli.retrieval.number_words import CURRENCIES, NUMBERS, SCALES, TENS, UNITS
from nsa_cli.retrieval.polarity import (
    NO,
    YES,
    akin,
    contradicts_itself,
    denies,
    is_contrary,
    is_said,
)
from nsa_cli.retrieval.quantities import Quantity, same, tokens_of
from nsa_cli.retrieval.roles import is_of_another, swaps_roles
from nsa_cli.retrieval.sentences import content_words, is_figure, sentences, word_weight

_OF_NUMBERS = frozenset(
    [*SCALES, *UNITS, *CURRENCIES, *NUMBERS, *TENS, "yes", "ja", "oui", "sí", "nein", "non"]
)
"""Words that are part of a quantity, or are yes or no."""

_SMALL = (
    r"(?:(?:on|in|at|to|by|for|the|a|an|am|im|zum|zur|der|die|das|au|aux|dans|le|la|les|el|los|al"
    r"|en|por)\s+)"
)
_RULED_OUT = re.compile(
    rf"\b(?:(?:not|nicht|pas)\s+(?:(?:as|wie|comme|como)\s+\w+\s+)?{_SMALL}{{1,2}}"
    rf"|(?:no longer|instead of|rather than|statt|anstatt|plutôt que|au lieu de|en lugar de)\s+"
    rf"{_SMALL}{{0,2}})(\w+)",
    re.IGNORECASE,
)
"""A word for what is told to be otherwise: `not on Friday`, `instead of the tenants`."""

_YEAR = re.compile(r"(?<!\d)(?:19|20)\d\d(?!\d)")
_HOW_MANY = re.compile(
    r"\b(?:how many|wie viele|cu[aá]nt[oa]s)\b|(?<!les )\bcombien de\b", re.IGNORECASE
)
_COUNT_WORDS = """
no none nobody nothing zero twice thrice both neither all every several many few some unlimited half
dozen single pair a an one daily weekly monthly yearly annually keine keinen keiner null beide alle
mehrere viele wenige einige halb unbegrenzt einmal zweimal ein eine einen aucun aucune tous toutes
deux plusieurs ninguno ninguna todos todas ambos un une uno una most majority everybody everyone
anybody anyone more less fewer enough quarter third mehrheit meisten jeder jede jeden mehr weniger
viertel drittel plupart majorité chaque mayoría cada más menos
"""
_COMPOUND = re.compile(
    r"(?:zehn|zig|ßig|hundert|tausend|elf|zwölf|teen|ty|cent|cents|ante|enta|trente|vingts?|veinte|"
    r"cientos|cien|mille|mil)$|^(?:zwei|drei|vier|fünf|sechs|sieben|acht|neun|veinti|vingt|treinta|"
    r"quarante|cinquante|soixante|quatre)",
    re.IGNORECASE,
)
"""Number words that are not in the list, such as `zweihundert`."""

_COUNTS = frozenset([*NUMBERS, *TENS, *SCALES, *_COUNT_WORDS.split()])
"""Words that tell how many without a digit."""

_LEAST_OF_SENTENCE = 3
"""Words of the shortest sentence of a passage that supports itself."""

_LONG_NAME = 4
"""Words of an answer that may be a name; a longer one is a phrase or a sentence."""


def is_supported(answer: str, question: str, passage: str) -> bool:
    """Whether a passage supports an answer to a question.

    - It has every number of the answer that is not in the question, as the same quantity: 12.4
      million is 12,400 thousand, and 42 is not 420.
    - It has two thirds of the content words that the answer adds to the question; a path or an
      identifier counts as two words, and each has to be there.
    - An answer with figures needs no words if it is in another language than the passage.
    - An answer that adds none needs two thirds of the question's words, in one main clause of the
      passage for yes or no; this clause says what the question asks if the answer is yes, and
      denies it if the answer is no; see `is_said`.
    - No sentence of it denies what a sentence of the answer says, or says it with its parts
      exchanged, or tells what a question for who or when asks of someone else or a different day.
    - It has no word of the answer only to say what is not so.
    - A whole sentence of the passage has support.
    - An answer that the document does not say has none.
    - An answer of small words alone has to be there word for word: `In May`.

    Args:
        answer: The answer.
        question: The question.
        passage: The passage.
    """
    if _is_sentence_of(answer, passage):
        return True
    if declines(answer) or not _has_figures(answer, question, passage):
        return False
    asked, there = content_words(question), content_words(passage)
    said = {word for word in content_words(answer) if not is_figure(word)} - _OF_NUMBERS
    flat = " ".join(passage.casefold().split())
    new = said - asked
    agrees = YES.match(answer) is not None
    if agrees or NO.match(answer):
        if contradicts_itself(answer, question):
            return False
        return is_said(question, passage, agrees) and _mostly(new, there, flat)
    if _is_contrary(answer, question, passage) or (
        not (denies(answer) or denies(question)) and _is_ruled_out(new, passage)
    ):
        return False
    figures = any(isinstance(token, Quantity) for token in tokens_of(answer))
    figures = figures or any(map(_is_name_with_digits, content_words(answer)))
    if new and not (figures and is_translated(answer, question, passage)):
        return _mostly(new, there, flat)
    if not said and not figures:
        plain = _plain(answer)
        return " " in plain and re.search(rf"\b{re.escape(plain)}\b", flat) is not None
    return figures or _mostly(said, there, flat)


def is_about(question: str, passage: str) -> bool:
    """Whether a passage has a form of any content word, or a figure, of a question."""
    asked, there = content_words(question), content_words(passage)
    return any(akin(word, other) for word in asked for other in there)


def is_of_another_year(question: str, quote: str) -> bool:
    """Whether a quote tells years, and none of those that a question asks about."""
    asked, told = (set(_YEAR.findall(text)) for text in (question, quote))
    return bool(asked and told) and not asked & told


def counts_nothing(answer: str, question: str) -> bool:
    """Whether a question asks how many, and an answer has no number."""
    if not _HOW_MANY.search(question) or re.search(r"\d", answer):
        return False
    words = {word.casefold() for word in re.findall(r"[^\W\d_]+", answer)}
    if words & _COUNTS or any(map(_COMPOUND.search, words)):
        return False
    return not any(isinstance(token, Quantity) for token in tokens_of(answer))


def is_translated(answer: str, question: str, passage: str) -> bool:
    """Whether an answer with its question is in another language than a passage."""
    ours, theirs = language(f"{question} {answer}"), language(passage)
    return None not in (ours, theirs) and ours != theirs


def _is_sentence_of(answer: str, passage: str) -> bool:
    """Whether an answer of at least a few words is a sentence of a passage."""
    plain = _plain(answer)
    if len(plain.split()) < _LEAST_OF_SENTENCE or plain not in _plain(passage):
        return False
    found = sentences(passage, 0, len(passage))
    return any(_plain(passage[start:end]) == plain for start, end in found)


def _plain(text: str) -> str:
    """A text in small letters, with single spaces and without a final stop."""
    return " ".join(text.casefold().split()).rstrip(".")


def _is_contrary(answer: str, question: str, passage: str) -> bool:
    """Whether a passage denies what an answer says, or tells it of someone else.

    A sentence that the passage has word for word is neither.
    """
    flat, plain = " ".join(passage.split()), " ".join(answer.split()).rstrip(".")
    if len(plain.split()) > _LONG_NAME and plain in flat:
        return False
    told = [answer[start:end] for start, end in sentences(answer, 0, len(answer))]
    if any(is_contrary(statement, passage) for statement in told):
        return True
    checks = (swaps_roles, is_of_another, has_another_agent)
    return any(check(answer, question, passage) for check in checks)


def _is_ruled_out(words: Collection[str], passage: str) -> bool:
    """Whether a passage has one of some words only to say what is not so: `not on Friday`."""
    counts = Counter(found.casefold() for found in _RULED_OUT.findall(passage))
    return any(
        counts[word] == len(re.findall(rf"\b{re.escape(word)}\b", passage, re.IGNORECASE))
        for word in words
        if word in counts
    )


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

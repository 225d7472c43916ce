"""Who does what to whom: whether an answer gives the parts of an action to the wrong ones."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from nsa_cli.retrieval.polarity import akin, best_sentence, statement_words
from nsa_cli.retrieval.sentences import content_words, is_figure, sentences

_WHO = re.compile(r"\s*(?:who|which \w+|wer|welche[rs]? \w+|qui|quién(?:es)?)\s", re.IGNORECASE)
_DIRECTION = {
    **dict.fromkeys(("to", "an", "à", "au", "aux", "a", "zu", "zum", "zur"), "to"),
    **dict.fromkeys(("from", "aus"), "from"),
    **dict.fromkeys(("by", "von", "durch", "par"), "by"),
}
"""Prepositions that tell who gives from who gets."""

_SMALL_WORDS = """
the a an his her its their our my your
der die das den dem des ein eine einen einem einer seine seinen seinem seiner ihre ihren ihrem ihrer
le la les un une son sa ses leur leurs el los las una su sus
"""
_SMALL = frozenset(_SMALL_WORDS.split())
"""Words between a preposition and its noun."""

_PRONOUN = re.compile(
    r"\b(?:i|he|she|it|they|we|you|who|which|that|this|these|er|sie|es|wir|ich|il|elle"
    r"|ils|elles|on|nous|qui|lui|él|ella|ellos|ellas|quien)\b",
    re.IGNORECASE,
)
_TOKEN = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
_BETWEEN = 3
"""Maximum words between a verb and those before and after it."""

_SHORT_ANSWER = 4
"""Words of an answer that is a name and no statement."""


class _Marked(NamedTuple):
    """A content word with its place and the direction that its preposition gives it."""

    word: str
    place: int
    direction: str | None


def swaps_roles(answer: str, question: str, passage: str) -> bool:
    """Whether a passage says the same as an answer, with two of its parts exchanged.

    `Ann lent a boat to Bo` and `Bo lent a boat to Ann` have the same words. Directions (`to`,
    `from`) are compared, and the order around a verb. A short answer to a question for who is read
    as the statement that both make.

    Args:
        answer: The answer.
        question: The question.
        passage: The passage.
    """
    for statement in _statements(answer, question):
        words = statement_words(statement)
        best = best_sentence(passage, words) if len(words) > 2 else None  # two parts and a verb
        if best is not None and _exchanged(_marked(statement), _marked(best)):
            return True
    return False


def is_of_another(answer: str, question: str, passage: str) -> bool:
    """Whether a passage has all that a question for who asks, in a sentence without the answer.

    Such a sentence tells of someone else. It is not so if the sentence has a pronoun, which may
    stand for the answer, or if another sentence has the answer and all words of the question.

    Args:
        answer: The answer.
        question: The question.
        passage: The passage.
    """
    if not _WHO.match(question):
        return False
    asked = statement_words(question)
    said = content_words(answer) - set(asked)
    if len(asked) < 2 or not said:
        return False
    found = False
    for start, end in sentences(passage, 0, len(passage)):
        sentence = passage[start:end]
        here = content_words(sentence)
        if not all(any(akin(word, other) for other in here) for word in asked):
            continue
        if any(akin(word, other) for word in said for other in here) or _PRONOUN.search(sentence):
            return False
        found = True
    return found


def _statements(answer: str, question: str) -> list[str]:
    """The sentences of an answer; a short one with the rest of a question for who."""
    asks = _WHO.match(question)
    if asks is not None and len(answer.split()) <= _SHORT_ANSWER:
        return [f"{answer.strip().rstrip('.')} {question[asks.end() :].rstrip(' ?')}"]
    return [answer[start:end] for start, end in sentences(answer, 0, len(answer))]


def _marked(text: str) -> list[_Marked]:
    """The content words of a text, each once, with places and directions."""
    written = [match.group() for match in _TOKEN.finditer(text)]
    tokens = [token.casefold() for token in written]
    found: dict[str, _Marked] = {}
    for place, token in enumerate(tokens):
        word = next(iter(content_words(token)), None)
        if word is None or word in _SMALL or word in _DIRECTION or is_figure(word):
            continue
        before = place - 1
        while before >= 0 and (
            (tokens[before] in _SMALL and tokens[before] not in _DIRECTION)
            or (written[before][0].isupper() and written[place][0].isupper())  # of one name
        ):
            before -= 1
        direction = _DIRECTION.get(tokens[before]) if before >= 0 else None
        found.setdefault(word, _Marked(word, place, direction))
    return list(found.values())


def _exchanged(said: Sequence[_Marked], told: Sequence[_Marked]) -> bool:
    """Whether two words that both texts have are exchanged: their directions or their order."""
    pairs = [(one, other) for one in said for other in told if one.word == other.word]
    verbs = [(one, other) for one in said for other in told if akin(one.word, other.word)]
    for number, (x, x_told) in enumerate(pairs):
        for y, y_told in pairs[number + 1 :]:
            ours, theirs = {x.direction, y.direction}, {x_told.direction, y_told.direction}
            if len(ours) == 2 and ours == theirs:
                if x.direction == y_told.direction and y.direction == x_told.direction:
                    return True
            elif ours == theirs == {None} and any(
                _around(x, verb, y) and _around(y_told, verb_told, x_told)
                for verb, verb_told in verbs
                if verb.word not in (x.word, y.word)
            ):
                return True
    return False


def _around(before: _Marked, verb: _Marked, after: _Marked) -> bool:
    """Whether a word stands closely before a verb, and another closely after it."""
    return 0 < verb.place - before.place <= _BETWEEN and 0 < after.place - verb.place <= _BETWEEN

"""A yes or a no that a sentence gives to a question, where a model's own answer has no support."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from nsa_cli.documents import Document
from nsa_cli.results import Passage
from nsa_cli.retrieval.citations import whole_sentences
from nsa_cli.retrieval.clauses import words_of
from nsa_cli.retrieval.languages import language
from nsa_cli.retrieval.polarity import NO, YES, alike, stance, statement_words, words_in
from nsa_cli.retrieval.sentences import content_words, is_figure

_ASKS = re.compile(
    r"\s*(?:is|are|was|were|do|does|did|has|have|had|can|could|may|must|should|shall|will|would|"
    r"ist|sind|war|waren|hat|haben|darf|dürfen|kann|können|muss|müssen|wird|werden|gilt|"
    r"est-ce que|est-ce qu['’]|\w+-(?:t-)?(?:il|elle|ils|elles|on))\b",
    re.IGNORECASE,
)
_ASKS_MORE = re.compile(
    r"\b(?:or|oder|ou|which|what|how|when|where|who|why|welche\w*|was|wie|wann|wo|wer|warum|quel\w*|"
    r"combien|quand|où|qui)\b|\?.*\?",
    re.IGNORECASE,
)
_DEPENDS = re.compile(
    r"\b(?:if|unless|except\w*|only|until|provided|depend\w*|usually|normally|generally|some|"
    r"whether|asks?|asked|requests?|requested|proposed?|proposes|"
    r"wenn|falls|sofern|außer|nur|bis|meist\w*|einige|ob|fragt\w*|beantragt\w*|"
    r"si|sauf|seulement|jusqu\w*|demand\w*)\b",
    re.IGNORECASE,
)
_PASSIVE = re.compile(
    r"\b(?:is|are|was|were|be|been|gets?|ist|sind|war|waren|wird|werden|wurden?|est|sont)\b",
    re.IGNORECASE,
)
_SAYS = re.compile(r"[.!;。][\"'”’)]?\s*\Z")
_WORDS = {"de": ("Ja", "Nein"), "fr": ("Oui", "Non")}
_WORD = re.compile(r"[^\W\d_]+")
_MOST_OF_SUBJECT = 2
"""Words of a subject that may stand before the sentence: the insurance of the club."""


class Told(NamedTuple):
    """A yes or a no with its sentence.

    Attributes:
        word: Yes or no, in the language of the question.
        start: First character of the sentence.
        end: One past its last character.
    """

    word: str
    start: int
    end: int


def told_yes_or_no(document: Document, passages: Sequence[Passage], question: str) -> Told | None:
    """Return the yes or no that a sentence gives to a question, or None.

    - The question asks for nothing but yes or no.
    - The sentence has all content words of the question. The first of them, its subject, may stand
      before the sentence if this says in the passive what happens to the last one: `Filters are
      not covered` for `Does the warranty cover filters?`.
    - It has no condition, and all sentences with the last word and as many others say the same.

    Args:
        document: The document.
        passages: Where to look.
        question: The question.
    """
    words = statement_words(question)
    if len(words) < 2 or not _ASKS.match(question) or _ASKS_MORE.search(question):
        return None
    figures = {word for word in content_words(question) if is_figure(word)}
    text, found = document.text, list[tuple[int, bool | None, int, int]]()
    for passage in passages:
        for start, end in whole_sentences(document, passage):
            sentence = text[start:end]
            here = words_in(sentence, words)
            if len(here) < 2 or words[-1] not in here or sentence.rstrip().endswith("?"):
                continue
            is_whole = len(here) == len(words)
            is_whole = is_whole or _is_passive_of(sentence, words, text[passage.start : start])
            clear = figures <= words_of(sentence) and not _DEPENDS.search(sentence)
            says = _SAYS.search(sentence) is not None
            told = stance(sentence, question) if is_whole and clear and says else None
            found.append((len(here), told, start, end))
    most = max((count for count, *_ in found), default=0)
    best = [each for each in found if each[0] == most]
    if len({told for _, told, *_ in best}) != 1 or best[0][1] is None:
        return None
    _, agrees, start, end = best[0]
    yes, no = _WORDS.get(language(question) or "", ("Yes", "No"))
    return Told(yes if agrees else no, start, end)


def is_contrary_to(told: Told, answer: str) -> bool:
    """Whether an answer begins with a no where a sentence gives a yes, or the other way round.

    Args:
        told: What the sentence gives.
        answer: The answer.
    """
    if YES.match(told.word):
        return NO.match(answer) is not None
    return YES.match(answer) is not None


def _is_passive_of(sentence: str, words: Sequence[str], before: str) -> bool:
    """Whether a sentence says in the passive what a question asks of its first words.

    Args:
        sentence: The sentence.
        words: Of the question: its subject, a verb, and what the subject acts on, at the end.
        before: The passage before the sentence, which names what it lacks of the subject.
    """
    here = words_in(sentence, words)
    missing = [word for word in words if word not in here]
    places = [words.index(word) for word in missing]
    if not missing or max(places) >= _MOST_OF_SUBJECT or max(places) + 1 >= len(words) - 1:
        return False
    if words_in(before, missing) != missing:
        return False
    verb, last = (_place(sentence, words[at]) for at in (max(places) + 1, -1))
    if verb is None or last is None or last >= verb:
        return False
    return _PASSIVE.search(sentence, last, verb) is not None


def _place(sentence: str, word: str) -> int | None:
    """Where a form of a word begins in a sentence."""
    for found in _WORD.finditer(sentence):
        if any(alike(word, other) for other in words_of(found.group())):
            return found.start()
    return None

"""Who does what a question asks: the name beside its verb, in any clause of a sentence."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from nsa_cli.retrieval.languages import FUNCTION_WORDS
from nsa_cli.retrieval.polarity import alike, statement_words
from nsa_cli.retrieval.sentences import content_words, sentences

_WHO = re.compile(r"\s*(?:who|wer|qui|quién(?:es)?)\s", re.IGNORECASE)
_TOKEN = re.compile(r"[^\W\d_][\w’'-]*|[,;:.()]")
_BY = frozenset(("by", "von", "par", "por", "durch"))
_AUXILIARIES = """
is are was were be been being has have had will would wird werden wurde wurden worden hat haben ist
sind a ont est sont été ha han fue
"""
_AUXILIARY = frozenset(_AUXILIARIES.split())
_PLACES = """
in im am an on at for to from of von zu mit with à en de du el los a than als near bei auf nach
"""
_PREPOSITIONS = frozenset(_PLACES.split())
"""Words before a name that is no subject."""

_PAUSES = ",;:()"
_ADVERB = re.compile(r"\w+ly|often|always|still|now|also|then|never|noch|auch|immer|stets")


def has_another_agent(answer: str, question: str, passage: str) -> bool:
    """Whether a passage names someone else as the one who does what a question for who asks.

    It looks at sentences with two thirds of the question's words. The agent is a name before the
    verb of the question, or after the verb and a word such as `by`. Nothing is told of a sentence
    with another subject, such as a pronoun.

    Args:
        answer: The answer.
        question: The question.
        passage: The passage.
    """
    if not _WHO.match(question):
        return False
    asked = list(statement_words(question))
    if len(asked) < 2:
        return False
    said = content_words(answer) - {*asked}
    found = [
        each
        for start, end in sentences(passage, 0, len(passage))
        if _shares(passage[start:end], asked)
        for each in _agents(_TOKEN.findall(passage[start:end]), asked)
    ]
    most = max((count for count, _ in found), default=0)
    agents = [agent for count, agent in found if count == most]
    return bool(said and agents) and all(agent and not agent & said for agent in agents)


def _shares(sentence: str, asked: Sequence[str]) -> bool:
    """Whether a sentence has two thirds of some words."""
    return 3 * _count(content_words(sentence), asked) >= 2 * len(asked)


def _count(words: Iterable[str], asked: Sequence[str]) -> int:
    """How many of some words others have a form of."""
    here = {word.casefold() for word in words}
    return sum(any(alike(word, other) for other in here) for word in asked)


def _agents(tokens: Sequence[str], asked: Sequence[str]) -> Iterator[tuple[int, set[str]]]:
    """Yield the name, if any, of each who does what the first of some words says.

    With it comes how many of the other words stand between the pauses around.
    """
    pauses = [-1, *(at for at, token in enumerate(tokens) if token in _PAUSES), len(tokens)]
    for place, token in enumerate(tokens):
        if not alike(token.casefold(), asked[0]):
            continue
        first = max(at for at in pauses if at < place)
        last = min(at for at in pauses if at > place)
        name = _agent(tokens, place)
        name = {word for word in name if not any(alike(word, other) for other in asked)}
        yield _count(tokens[first + 1 : last], asked[1:]), name


def _agent(tokens: Sequence[str], verb: int) -> set[str]:
    """The name after a verb and `by`, or before the verb; empty without one."""
    if verb + 1 < len(tokens) and tokens[verb + 1].casefold() in _BY:
        return _name(tokens, verb + 2, 1)
    first = verb - 1
    while first > 0 and tokens[first].casefold() in _AUXILIARY:
        first -= 1
    while first > 0 and _ADVERB.fullmatch(tokens[first]):
        first -= 1
    name = _name(tokens, first, -1)
    before = first - len(name)
    return set() if before >= 0 and tokens[before].casefold() in _PREPOSITIONS else name


def _name(tokens: Sequence[str], place: int, step: int) -> set[str]:
    """The words of a name from a place on, in a direction; the first word of a text is none."""
    found = set[str]()
    while 0 < place < len(tokens) or (found and place == 0):
        token = tokens[place]
        is_name = token[0].isupper() or (step > 0 and not found and token[0].isalpha())
        if not is_name or not content_words(token) or token.casefold() in FUNCTION_WORDS:
            break
        found.add(token.casefold())
        place += step
    return found

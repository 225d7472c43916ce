"""Main clauses of a text, each of which states something by itself."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

from nsa_cli.retrieval.sentences import content_words, sentences

FINITE = (
    r"(?:is|are|was|were|has|have|had|does|do|did|may|might|must|shall|should|can|could|will|would"
    r"|need|needs|cannot|\w+n['’]t|ist|sind|war|waren|hat|haben|darf|dürfen|kann|können|muss|müssen"
    r"|soll|sollen|wird|werden|wurde|wurden|gilt|gelten|est|sont|était|a(?=\s+\w+ée?s?\b)|ont|peut|peuvent|doit"
    r"|doivent|faut|es|son|fue|hay|puede|pueden|debe|deben)\b"
)
"""Pattern of frequent finite verbs."""

_FINITE = re.compile(rf"\b{FINITE}", re.IGNORECASE)
_SUBORDINATE = (
    r"(?:or|nor|because|since|if|unless|when|while|whereas|although|though|after|before|until|as|who"
    r"|whom|whose|which|that|where|oder|weil|wenn|falls|dass|ob|obwohl|während|nachdem|bevor|bis|ou"
    r"|si|quand|qui|que|dont|où|parce|lorsque|o|cuando|aunque|quien)\b"
)
_BEGINS_SUBORDINATE = re.compile(rf"\W*{_SUBORDINATE}", re.IGNORECASE)
_COMMA = re.compile(
    rf",\s+(?:(?:and|und|et|y)\s+)?(?!(?:and|und|et|y)\b|{_SUBORDINATE})"
    rf"(?=(?:[^\s,;]+\s+){{1,5}}?(?:ne\s|n['’]|{FINITE}))",
    re.IGNORECASE,
)
"""A comma before a clause with its own subject and verb."""


@lru_cache(maxsize=64)
def main_clauses(text: str) -> tuple[str, ...]:
    """Return the main clauses of a text: sentences, parted at semicolons and some commas.

    Args:
        text: Any text.
    """
    return tuple(
        clause
        for start, end in sentences(text, 0, len(text))
        for part in text[start:end].split(";")
        for clause in _parted(part)
        if clause.strip()
    )


@lru_cache(maxsize=4096)
def words_of(clause: str) -> frozenset[str]:
    """Return the content words of a clause."""
    return frozenset(content_words(clause))


def _parted(sentence: str) -> Iterator[str]:
    """Yield the clauses of a sentence that commas part, if each has a verb."""
    begin = 0
    for comma in _COMMA.finditer(sentence):
        before = sentence[begin : comma.start()]
        if _FINITE.search(before) and not _BEGINS_SUBORDINATE.match(before):
            yield before.strip()
            begin = comma.end()
    yield sentence[begin:].strip()

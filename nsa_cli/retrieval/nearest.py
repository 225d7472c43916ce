"""The sentence of what was found that is nearest to a question, if one is near."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

from nsa_cli.documents import Document
from nsa_cli.results import Passage
from nsa_cli.retrieval.citations import whole_sentences
from nsa_cli.retrieval.polarity import akin
from nsa_cli.retrieval.sentences import is_contents_entry
from nsa_cli.retrieval.stems import stems

_LEAST_SHARE = 0.2
"""Least weight that a sentence shares with a question, of the weight of all its words."""

_COMMON_SHARE = 0.25
"""Share of the sentences that a word is in which does not make one of them near."""

_USUAL_WORDS = 8
_FEW_WORDS = 5
_SAYS = re.compile(r"[.!?:;。！？：](?:\s|[\"'”’»)]|\Z)")


def nearest_sentence(
    document: Document, passages: Sequence[Passage], question: str
) -> tuple[int, int] | None:
    """Return the characters of the sentence that shares most with a question; None if none is near.

    A word counts by how few of the sentences have a form of it; one that none has counts, too, so
    that a sentence about a tenant is not near a question about a tenant's dog.

    Args:
        document: The document.
        passages: Where to look.
        question: The question.
    """
    asked = sorted(stems(question))
    spans = [span for passage in passages for span in whole_sentences(document, passage)]
    if not asked or not spans:
        return None
    words = {span: stems(document.text[span[0] : span[1]]) for span in spans}
    shared = {
        span: {word for word in asked if any(akin(word, other) for other in here)}
        for span, here in words.items()
    }
    times = Counter(word for here in shared.values() for word in here)
    weight = {word: math.log(1 + len(spans) / max(1, times[word])) for word in asked}
    total = sum(weight.values())
    rare = {word for word in asked if times[word] <= max(1, _COMMON_SHARE * len(spans))}

    def near(span: tuple[int, int]) -> float:
        return sum(weight[word] for word in shared[span] & rare)

    def worth(span: tuple[int, int]) -> float:
        return near(span) / math.sqrt(_USUAL_WORDS + len(words[span]))

    spans = [
        span
        for span in spans
        if near(span) >= _LEAST_SHARE * total and _says_something(document.text[span[0] : span[1]])
    ]
    return max(spans, key=worth, default=None)


def _says_something(text: str) -> bool:
    """Whether a line is more than a heading or an entry of a table of contents."""
    if is_contents_entry(text):
        return False
    return len(text.split()) >= _FEW_WORDS or _SAYS.search(text.split(maxsplit=1)[-1]) is not None

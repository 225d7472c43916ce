"""The other value of a question that asks for two, quoted after an answer that has one of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import NamedTuple

from nsa_cli.documents import Document
from nsa_cli.results import Citation, Passage
from nsa_cli.retrieval.citations import Cited
from nsa_cli.retrieval.second_value import second_value

_MOST_CITATIONS = 3
_PLACE = 1
"""Of the citation with the other value: after the first, which is of the answer itself."""

_ENDS = (".", "!", "?", "。", "”", '"')


class Addition(NamedTuple):
    """What is added to an answer.

    Attributes:
        text: The words after the answer.
        cited: The citations with the one of the words.
    """

    text: str
    cited: Cited


def addition(
    document: Document, passages: Sequence[Passage], question: str, answer: str, cited: Cited
) -> Addition | None:
    """Return the sentence with the other value that a question asks for; None if none is needed.

    Args:
        document: The document.
        passages: What the answer was decoded from.
        question: The question.
        answer: The answer in words.
        cited: Its citations.
    """
    found = second_value(question, answer, document, passages)
    if found is None:
        return None
    start, end = found
    quote = document.text[start:end]
    citations = list(cited.citations)
    places = [at for at, each in enumerate(citations) if each.quote == quote]
    place = places[0] if places else min(_PLACE, len(citations))
    if not places:
        where = asdict(document.locate(start, end))
        citations.insert(place, Citation(**where, quote=quote, score=0.0, verified=False))
    stop = "" if answer.rstrip().endswith(_ENDS) else "."
    text = f"{stop} It also says: “{' '.join(quote.split())}” [{place + 1}]"
    return Addition(text, cited._replace(citations=tuple(citations[:_MOST_CITATIONS])))

"""Whether a sentence keeps what its source says: figures, dates, obligations and negations."""

from __future__ import annotations

import re

from nsa_cli.retrieval.facts import facts_of, kept
from nsa_cli.retrieval.sentences import content_words

_MUST_KEEP = ("figure", "date", "ban", "duty")
_SENTENCE_END = re.compile(r"[.!?。！？][\"”’)\]]*(?=\s|$)")
_WHOLE = re.compile(r"[.!?。！？][\"”’)\]]*$")
_SHORTEST = 20
"""A full stop within so many characters belongs to an abbreviation or a short yes."""

_SAYS = re.compile(
    r"(?:This|The) (?:text|document|passage|section|transcript|paragraph|notes?) "
    r"(?:says?|states?|explains?|describes?|specif(?:y|ies)|mentions?) that ",
)
_ECHO = re.compile(r"\.\.\.|^(?:Question|Answer|Document):", re.IGNORECASE)


def keeps_facts(sentence: str, source: str) -> bool:
    """Whether a sentence has every figure, date and obligation of its source.

    A sentence that obliges or forbids where its source does not changes it.

    Args:
        sentence: The sentence.
        source: The sentence of the document that it stands for.
    """
    needed = [fact for fact in facts_of(source) if fact.kind in _MUST_KEEP]
    return len(kept(needed, sentence)) == len(needed) and keeps_duties(sentence, source)


def keeps_duties(sentence: str, source: str) -> bool:
    """Whether a sentence obliges and forbids nothing that its source does not."""
    said = [fact for fact in facts_of(sentence) if fact.kind in ("ban", "duty")]
    return len(kept(said, source)) == len(said)


def sentences_of(text: str) -> list[str]:
    """Return the whole sentences of an answer, each on one line.

    The rest after the last full stop is left out, unless the answer has no full stop.
    """
    flat = " ".join(text.split())
    found, start = [], 0
    for end in _SENTENCE_END.finditer(flat):
        if end.end() - start >= _SHORTEST:
            found.append(flat[start : end.end()].strip())
            start = end.end()
    if not found and flat:
        found = [flat]
    return [each for each in map(_plain, found) if content_words(each) and not _ECHO.search(each)]


def first_sentence(text: str) -> str:
    """Return the first sentence of an answer, on one line, without `This text says that`."""
    return next(iter(sentences_of(text)), "")


def is_whole(sentence: str) -> bool:
    """Whether a sentence ends with a full stop, and so was not cut by the token limit."""
    return _WHOLE.search(sentence) is not None


def _plain(sentence: str) -> str:
    if found := _SAYS.match(sentence):
        rest = sentence[found.end() :]
        return rest[:1].upper() + rest[1:]
    return sentence

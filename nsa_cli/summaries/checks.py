"""Whether a sentence keeps what its source says: figures, dates, obligations and negations."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from nsa_cli.retrieval.claims import akin, is_negated, is_supported
from nsa_cli.retrieval.facts import Fact, facts_of, kept
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
_META = re.compile(
    r"(?:This|The|These) (?:(?:provided|given|above|following) )?(?:text|document|passage|section"
    r"|transcript|paragraph|notes?|excerpt|conversation|discussion|article|chapter|page|meeting"
    r"|summary|code|file|log)s? (?:also )?(?:discuss|describe|explain|outline|cover|provide|present"
    r"|mention|state|say|talk|focus|contain|highlight|detail|specif|list|appear|seem|refer|deal"
    r"|summari[sz]e|show|introduce|include|is about|is an? (?:conversation|discussion|summary"
    r"|transcript|text|document|list))"
    r"|In (?:summary|conclusion|short|this (?:text|document|passage|section))\b"
    r"|(?:Here|Below) (?:is|are)\b|The following (?:is|are)\b|(?:The )?(?:right |correct )?answer\b"
    r"|(?:The )?(?:main|key) points?\b|Summary\b|I(?:'m| am) (?:sorry|unable)\b|Sure\b",
    re.IGNORECASE,
)
"""A sentence about the text, or about the answer, and not about what the text says."""

_CLAUSE = re.compile(
    r"[,;:.!?。！？—–\n]+\s*|\s+(?:and|but|or|while|which|who|because|so|although|und|aber|oder|et"
    r"|mais|ou)\s+",
    re.IGNORECASE,
)
_CLAUSE_WORDS = 3
"""Minimum content words of a clause that is compared separately."""

_LONG_WORD = re.compile(r"[^\W\d_]{2,}")
_LEAST_PLAIN = 3

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


def covers(sentence: str, source: str, names: Collection[str] = ()) -> bool:
    """Whether a source supports the whole of a sentence, and not only most of its words.

    The source has its figures, dates, names and obligations, and half of the words of each clause.
    A clause is negated if what the source says of the same is.

    Args:
        sentence: The sentence.
        source: One or several sentences of a document.
        names: Words that are names at the beginning of a sentence, too; see `name_words`.
    """
    if not is_supported(sentence, "", source) or not keeps_duties(sentence, source):
        return False
    there, flat = content_words(source), source.casefold()
    facts = facts_of(sentence, names)
    firm = [fact for fact in facts if fact.kind in ("figure", "date")]
    if len(kept(firm, source)) < len(firm):
        return False
    if not all(_has_name(fact, there, flat) for fact in facts if fact.kind == "name"):
        return False
    told = [each for each in _CLAUSE.split(source) if each.strip()]
    return all(_clause_holds(clause, told, there) for clause in _CLAUSE.split(sentence))


def _has_name(name: Fact, there: Collection[str], flat: str) -> bool:
    return all(word in there or word in flat for word in content_words(name.text))


def _clause_holds(clause: str, told: Sequence[str], there: Collection[str]) -> bool:
    """Whether a source has half of a clause's words, and negates it as the clause does."""
    words = content_words(clause)
    if len(words) < _CLAUSE_WORDS:
        return True

    def shared(others: Collection[str]) -> int:
        return sum(any(akin(word, other) for other in others) for word in words)

    if 2 * shared(there) < len(words):
        return False
    best = max(told, key=lambda each: shared(content_words(each)))
    if 2 * shared(content_words(best)) >= len(words):
        return is_negated(clause) == is_negated(best)
    return not is_negated(clause) or any(map(is_negated, told))


def is_meta(sentence: str) -> bool:
    """Whether a sentence is about the text or the answer: `The section discusses rent.`."""
    return _META.match(sentence) is not None


def is_list(sentence: str) -> bool:
    """Whether a sentence is names alone, such as `Berg, Lund and Holm.`: it has no plain words."""
    words = [word for word in _LONG_WORD.findall(sentence) if word[0].lower() != word[0].upper()]
    return len(words) > 1 and sum(word[0].islower() for word in words) < _LEAST_PLAIN


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

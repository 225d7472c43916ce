"""Whether a sentence keeps what its source says: figures, dates, obligations and negations."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from nsa_cli.retrieval.claims import is_supported
from nsa_cli.retrieval.facts import facts_of, kept
from nsa_cli.retrieval.polarity import akin, is_negated
from nsa_cli.retrieval.sentences import content_words, is_figure

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
    r"(?:[,;:.!?]+(?=\s|$)|[。！？—–\n])\s*"
    r"|\s+(?:and|but|or|while|which|who|because|so|although|und|aber|oder|et|mais|ou)\s+",
    re.IGNORECASE,
)
_CLAUSE_WORDS = 3
"""Minimum content words of a clause that is compared separately."""

_QUOTED = re.compile(r"[“”\"„«`]([^“”\"„«»`]{3,}?)[.,]?[“”\"»`]")

_MODAL = re.compile(
    r"\b(?:may|might|should|entitled|allowed|permitted|darf|dürfen|soll|sollen|sollte|sollten)\b"
)

_LEAST_COVERED, _LEAST_OF_CLAUSE = 2 / 3, 0.5
"""Minimum shares of the content words of a sentence, and of a clause, that its source has."""

_ABBREVIATION = 3
_TELLING_WORDS = """
according agreed agrees announced announces asked asks believes discussed discusses discussing
emphasized explained explains group meeting members mentioned mentions noted notes participants
proposed proposes said says speaker speakers states stated suggested suggests talked talks team
team's think thinks thought told
"""
_TELLING = frozenset(_TELLING_WORDS.split())
"""Words that report what is said, which who says it does not say."""

_TALK = re.compile(
    r"\b(?:is|are|was|were|be) (?:\w+ )?(?:discussing|talking|looking|considering|thanking)\b"
    r"|\bdiscuss(?:es|ed)?\b|\btalk(?:s|ed)? about\b",
    re.IGNORECASE,
)
_LONG_WORD = re.compile(r"[^\W\d_]{2,}")
_LEAST_PLAIN = 2
"""Minimum content words of a sentence that begin with a lowercase letter."""

_ECHO = re.compile(r"\.\.\.|^(?:Question|Answer|Document):", re.IGNORECASE)


def has_facts(sentence: str, source: str) -> bool:
    """Whether a sentence has every figure, date and obligation of a source.

    Args:
        sentence: The sentence.
        source: The sentence of the document that it stands for.
    """
    needed = [fact for fact in facts_of(source) if fact.kind in _MUST_KEEP]
    return len(kept(needed, sentence)) == len(needed)


def keeps_duties(sentence: str, source: str) -> bool:
    """Whether a sentence obliges and forbids nothing that its source does not."""
    said = [fact for fact in facts_of(sentence) if fact.kind in ("ban", "duty")]
    return len(kept(said, source)) == len(said)


def covers(sentence: str, source: str, names: Collection[str] = ()) -> bool:
    """Whether a source supports the whole of a sentence, and not only most of its words.

    The source has its figures, dates, names, obligations and quoted words, and most words of each
    clause.
    A clause is negated, or permits, if what the source says of the same does.

    Args:
        sentence: The sentence.
        source: One or several sentences of a document, each on a line; a name is in one of them.
        names: Words that are names at the beginning of a sentence, too; see `name_words`.
    """
    if not is_supported(sentence, "", source) or not keeps_duties(sentence, source):
        return False
    facts = facts_of(sentence, names)
    firm = [fact for fact in facts if fact.kind in ("figure", "date")]
    if len(kept(firm, source)) < len(firm):
        return False
    there, flat = content_words(source), " ".join(source.casefold().split())
    if not all(
        " ".join(match[1].casefold().split()) in flat for match in _QUOTED.finditer(sentence)
    ):
        return False
    named = [content_words(fact.text) for fact in facts if fact.kind == "name"]
    lines = [(content_words(line), line.casefold()) for line in source.split("\n")]
    if not all(any(_has_all(words, *line) for line in lines) for words in named):
        return False
    words = _plain_words(sentence)
    found = [word for word in words if _is_there(word, there, flat)]
    if len(found) < _LEAST_COVERED * len(words):
        return False
    told = [each for each in _CLAUSE.split(source) if each.strip()]
    return all(_clause_holds(clause, told, there, flat) for clause in _CLAUSE.split(sentence))


def _has_all(words: Collection[str], there: Collection[str], flat: str) -> bool:
    return all(_is_there(word, there, flat) for word in words)


def _allows(clause: str) -> bool:
    """Whether a clause says what may or should be, and not what is."""
    return _MODAL.search(clause) is not None


def _plain_words(text: str) -> set[str]:
    """The content words of a text without figures and without words that report."""
    return {word for word in content_words(text) if not is_figure(word)} - _TELLING


def _is_there(word: str, there: Collection[str], flat: str) -> bool:
    """Whether a text has a form of a word, or its parts: `user friendly` for `user-friendly`."""
    if word in there or any(akin(word, other) for other in there):
        return True
    return len(word) > _ABBREVIATION and all(part in flat for part in re.split("[-/]", word))


def _clause_holds(clause: str, told: Sequence[str], there: Collection[str], flat: str) -> bool:
    """Whether a source has most of a clause's words, and negates it as the clause does."""
    words = _plain_words(clause)
    if len(words) < _CLAUSE_WORDS:
        return True
    if sum(_is_there(word, there, flat) for word in words) < _LEAST_OF_CLAUSE * len(words):
        return False
    shared = [sum(_is_there(word, content_words(each), "") for word in words) for each in told]
    if 2 * max(shared) >= len(words):
        best = told[shared.index(max(shared))]
        return is_negated(clause) == is_negated(best) and _allows(clause) == _allows(best)
    return not is_negated(clause) or any(map(is_negated, told))


def is_meta(sentence: str) -> bool:
    """Whether a sentence is about the text or the answer: `The section discusses rent.`."""
    return _META.match(sentence) is not None


def is_vague(sentence: str) -> bool:
    """Whether a sentence names the subject of a conversation without what was said about it."""
    return _TALK.search(sentence) is not None


def is_list(sentence: str) -> bool:
    """Whether a sentence is names alone, such as `Berg, Lund and Holm.`: it has no plain words."""
    words = [word for word in _LONG_WORD.findall(sentence) if word[0].lower() != word[0].upper()]
    plain = content_words(" ".join(word for word in words if word[0].islower()))
    return len(words) > 1 and len(plain) < _LEAST_PLAIN


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


def is_whole(sentence: str) -> bool:
    """Whether a sentence ends with a full stop, and so was not cut by the token limit."""
    return _WHOLE.search(sentence) is not None


def _plain(sentence: str) -> str:
    if found := _SAYS.match(sentence):
        rest = sentence[found.end() :]
        return rest[:1].upper() + rest[1:]
    return sentence

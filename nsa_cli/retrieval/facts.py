"""Facts of a text that a summary must not lose: figures, dates, names and obligations.

The rules read the text alone: they know no language model and no list of names.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from nsa_cli.retrieval.number_words import MONTHS
from nsa_cli.retrieval.quantities import Quantity, Token, same, tokens_of
from nsa_cli.retrieval.sentences import content_words

Kind = Literal["figure", "date", "name", "duty", "ban"]

_SHORTEST_MONTH = 4
_ACCENTED = str.maketrans({"a": "[aä]", "e": "[eé]", "u": "[uû]"})
_LONG = "|".join(
    name.translate(_ACCENTED)
    for name in sorted(MONTHS, key=len, reverse=True)
    if len(name) >= _SHORTEST_MONTH
)
_SHORT = "|".join(name for name in MONTHS if len(name) == _SHORTEST_MONTH - 1)
_CAPITALS = "|".join(name.capitalize() for name in _SHORT.split("|"))
_MONTH = rf"(?i:{_LONG})|{_CAPITALS}"
"""A short name has a capital, unless day and year are around it: `may` is another word, too."""

_DAY = (
    r"(?i:(?:mon|tues|wednes|thurs|fri|satur|sun)day|montag|dienstag|mittwoch|donnerstag|freitag"
    r"|samstag|sonntag|lundi|mardi|mercredi|jeudi|vendredi|samedi|dimanche)"
)
_DATE = re.compile(
    rf"\d{{4}}年\d{{1,2}}月\d{{1,2}}日|\b\d{{1,2}}\.? (?:{_SHORT})\.? \d{{4}}\b"
    rf"|\b\d{{4}}-\d{{2}}-\d{{2}}\b|\b\d{{1,2}}[./]\d{{1,2}}[./]\d{{4}}\b"
    rf"|\b(?:\d{{1,2}}(?:st|nd|rd|th|\.)?\s+(?:of\s+)?)(?:{_MONTH})\b\.?(?:,?\s+\d{{4}}\b)?"
    rf"|\b(?:{_MONTH})\b\.?\s+\d{{1,2}}(?:st|nd|rd|th)?\b(?:,?\s+\d{{4}}\b)?"
    rf"|\b(?:{_MONTH})\b\.?,?\s+\d{{4}}\b|\b{_DAY}\b"
)
_BAN = re.compile(
    r"\b(?:may|must|shall|can|is|are)\s+not\b|\bmustn['’]t\b|\bcannot\b|\bno\s+\w+\s+(?:may|shall)\b"
    r"|\b(?:nobody|no one)\s+(?:may|shall|can)\b"
    r"|\b(?:prohibited|forbidden|darf nicht|dürfen nicht|ne peut|ne peuvent)\b",
    re.IGNORECASE,
)
_NOT_A_BAN = re.compile(r"\b(?:is|are)\s+not\b(?!\s+(?:permitted|allowed|entitled))", re.IGNORECASE)
_DUTY = re.compile(
    r"\b(?:must|shall|(?:is|are)\s+(?:required|obliged|obligated)\s+to"
    r"|muss|müssen|verpflichtet|doit|doivent)\b",
    re.IGNORECASE,
)
_CAPITAL = r"[A-ZÀ-ÖØ-Þ][\w’'&-]*(?:\.[A-Z])*"
_NAME = re.compile(rf"{_CAPITAL}(?:[ \t]+(?:(?:of|de|van|von|du|der|la)[ \t]+)?{_CAPITAL})*")
_BEGINS = re.compile(r"(?:^|[.!?:;…\n\"“”(\[*•-])\s*$")
_LABEL = re.compile(r"[ \t]?:")
_NO_NAME_WORDS = """
i i'm i'll i've i'd ok okay yeah yes no oh um uh hmm well so right now then here there mm alright
sure hi hello thanks great good fine
"""
_NO_NAME = frozenset(_NO_NAME_WORDS.split())
_LARGEST_SMALL = 10
"""Number words up to it are no figures: `one of them` says little."""


@dataclass(frozen=True, slots=True)
class Fact:
    """A figure, a date, a name or an obligation.

    Attributes:
        kind: Its kind; obligations are `duty` (must, shall) or `ban` (must not, may not).
        text: As it is written.
        tokens: Its words and quantities; empty for an obligation.
    """

    kind: Kind
    text: str
    tokens: tuple[Token, ...]

    @property
    def key(self) -> tuple[str, ...]:
        """Identity of the fact: equal for the same fact in the same notation."""
        texts = (each.raw if isinstance(each, Quantity) else each.text for each in self.tokens)
        return (self.kind, *texts)


def facts_of(text: str, names: Collection[str] = ()) -> list[Fact]:
    """Return the facts of a text, each once, in order of kind and place.

    Args:
        text: The text.
        names: Words, case-folded, that are names at the beginning of a sentence, too; see
            `name_words`.
    """
    named = [Fact("name", name, tuple(tokens_of(name))) for name in _names(text, names)]
    found = [*_figures(text), *_dates(text), *filter(_has_tokens, named), *obligations(text)]
    return list({fact.key: fact for fact in found}.values())


def name_words(text: str) -> set[str]:
    """Return the words, case-folded, that a text writes as names within a sentence."""
    return {
        word.casefold()
        for name in set(_names(text, ()))
        for word in name.split()
        if word[0].isupper()
    }


def obligations(text: str) -> list[Fact]:
    """Return whether a text obliges or forbids, as at most one fact of each."""
    banned = any(True for _ in _bans(text))
    owed = any(True for _ in _DUTY.finditer(_BAN.sub(" ", text)))
    found: list[tuple[Kind, bool]] = [("ban", banned), ("duty", owed)]
    return [Fact(kind, kind, ()) for kind, is_said in found if is_said]


def _bans(text: str) -> Iterable[re.Match[str]]:
    return (each for each in _BAN.finditer(text) if not _NOT_A_BAN.match(text, each.start()))


def is_kept(fact: Fact, tokens: Sequence[Token], text: str) -> bool:
    """Whether a text has a fact.

    Args:
        fact: The fact.
        tokens: `tokens_of` the text.
        text: The text, for obligations.
    """
    if not fact.tokens:
        return any(each.kind == fact.kind for each in obligations(text))
    size = len(fact.tokens)
    return any(
        all(map(same, fact.tokens, tokens[at : at + size])) for at in range(len(tokens) - size + 1)
    )


def kept(facts: Iterable[Fact], text: str) -> list[Fact]:
    """Return those of some facts that a text has."""
    tokens = tokens_of(text)
    return [fact for fact in facts if is_kept(fact, tokens, text)]


def _figures(text: str) -> Iterable[Fact]:
    bare = _DATE.sub(" ", text)
    for token in tokens_of(bare):
        if not isinstance(token, Quantity):
            continue
        if token.raw[:1].isdigit() or min(token.values) > _LARGEST_SMALL:
            yield Fact("figure", token.raw, (token,))


def _dates(text: str) -> Iterable[Fact]:
    for match in _DATE.finditer(text):
        if tokens := tuple(tokens_of(match.group())):
            yield Fact("date", match.group(), tokens)


def _has_tokens(fact: Fact) -> bool:
    return bool(fact.tokens)


def _names(text: str, known: Collection[str]) -> Iterable[str]:
    for match in _NAME.finditer(text):
        words = match.group().split()
        first = _BEGINS.search(text, max(0, match.start() - 8), match.start()) is not None
        first = first or match.start() == 0
        while words and (not content_words(words[0]) or words[0].casefold() in _NO_NAME):
            words, first = words[1:], False
        words = [word.removesuffix("'s").removesuffix("’s") for word in words]
        if not words or _DATE.fullmatch(words[0]) or words[0].casefold() in MONTHS:
            continue
        told = _LABEL.match(text, match.end()) is not None
        acronym = sum(char.isupper() for char in words[0]) > 1
        if first and len(words) == 1 and not (told or acronym or words[0].casefold() in known):
            continue
        yield " ".join(words)

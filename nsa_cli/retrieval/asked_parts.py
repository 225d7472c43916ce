"""Questions about two places or two things, as one question for each of the two.

"How long is the period by the contract, and by the handbook?" is answered by one place where one
answer is decoded. Each part is asked by itself, and the two answers are joined.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from nsa_cli.retrieval.clauses import FINITE
from nsa_cli.retrieval.languages import language

_WH = (
    r"(?:(?:in|on|at|by|for|under|of|from|to|with|among) )?(?:which|what|how|when|where|who|whom|"
    r"welche\w*|was|wie|wann|wo|wer|quel\w*|combien|quand|où)\b"
)
_BY = r"(?:according to|laut|gemäß|nach angabe von|selon|d['’]après|según)"
_AND = r"(?:and|but|und|aber|et|mais|y)"
_ASKS_BOTH = (
    r"(?:give|state|name|list|quote|tell)(?: me| us)? (?:both|the two)"
    r"(?: (?P<what>[\w-]+(?: [\w-]+)?))?|"
    r"(?:nenne\w*|gib|geben sie) (?:\w+ )?beide(?: (?P<was>[\w-]+))?|"
    r"donne[rz]?(?:[- ]moi)? les deux(?: (?P<quoi>[\w-]+))?"
)
_BOTH = re.compile(rf"\s*\b(?:{_ASKS_BOTH})\s*[.!]?\s*\Z", re.IGNORECASE)
_DISAGREE = re.compile(
    r"\A(?P<stem>[^?]+)\?\s*(?P<one>[^.?:]+?)\s+(?:and|und|et)\s+(?P<two>[^.?:]+?)\s+"
    r"(?:(?:do not|don['’]t|does not) agree|disagree|differ|contradict\w*|ne sont pas d['’]accord|"
    r"widersprechen\b[^.:?]*|stimmen nicht überein)\b",
    re.IGNORECASE,
)
_STATED = re.compile(
    r"\A(?P<one>[^.?:]+?)\s+and\s+(?P<two>[^.?:]+?)\s+(?:(?:do not|don['’]t) agree on|disagree on|"
    r"(?:each|both) (?:give|name|state|tell))\s+(?P<what>[^.?:]+)\.\s+"
    r"(?:what|which)(?: are(?: the)?)? (?:the )?two (?P<kind>[\w-]+)",
    re.IGNORECASE,
)
_EACH = re.compile(
    r"\A(?P<wh>what|which [\w-]+|how \w+) do\s+(?P<one>.+?)\s+and\s+(?P<two>.+?)\s+each\s+"
    r"(?P<rest>[^?]+)\?\s*\Z",
    re.IGNORECASE,
)
_EACH_PLACE = re.compile(
    r"\A(?P<what>[^.?]+),? (?P<in>in|on|by|from) (?P<one>[^.?]+?),? and (?P=in) "
    r"(?P<two>[^.?]+)\.\s+(?:which|what) (?P<kind>[\w-]+(?: [\w-]+)?) do(?:es)? "
    r"(?:each|they|the two|both)\b[^?]*\?\s*\Z",
    re.IGNORECASE,
)
_VALUE_OF = re.compile(
    r"\A(?P<stem>[^?]+)\?\s*(?:give|name|state|donne[rz]|nenne\w*) (?:the|la|le|den|die) \w+ "
    r"(?:of|in|from|de|du|aus) (?P<one>.+?) (?:and|et|und) "
    r"(?:that|the one|celle|celui|den|die|das) (?:of|in|from|de|du|aus) (?P<two>.+?)\.?\s*\Z",
    re.IGNORECASE,
)
_SOURCES = re.compile(
    rf"\A(?P<stem>.+?),?\s+(?P<by>{_BY})\s+(?P<one>.+?),?\s+{_AND}(?:,?\s+(?:\w+ ){{0,3}}?)"
    rf"\s*{_BY}\s+(?P<two>[^?]+?)\s*[?.]",
    re.IGNORECASE | re.DOTALL,
)
_CLAUSES = re.compile(
    rf"\A(?P<lead>[^?]*?[:.]\s+)?(?P<one>{_WH}[^?]+?),?\s+{_AND},?\s+(?P<two>{_WH}[^?]+)\?\s*\Z",
    re.IGNORECASE,
)
_WHICH = re.compile(_WH, re.IGNORECASE)
_ELLIPTIC = re.compile(
    rf"{_WH}(?: [^\W\d_]+)?\s+"
    rf"(?P<rest>(?P<by>when|if|for|in|at|on|under|with|without|from|{_BY}|wenn|bei|im|in der|unter|"
    r"mit|ohne|quand|si|pour|dans)\b.+)",
    re.IGNORECASE,
)
_ASKS_AGAIN = re.compile(
    r"\b(?:which|what|how|who|welche\w*|was|wie|quel\w*|combien)\b", re.IGNORECASE
)
"""Another question word within a clause; `when` and `where` may begin a part of it."""

_BY_HOW_MUCH = re.compile(
    r"(?:by how|by what|by roughly how|how much (?:more|less|higher|lower|larger|smaller)|"
    r"um wie|um welche\w*|de combien)\b",
    re.IGNORECASE,
)
_OR = re.compile(r",?\s+(?:or|oder|ou)\s+", re.IGNORECASE)
_PRONOUN = re.compile(
    r"\b(?:it|its|they|them|their|this|that|these|those|he|she|his|her|one|ones|es|sie|er|ihn|ihm|"
    r"ihr\w*|dies\w*|il|elle|ils|elles|celle|celui)\b",
    re.IGNORECASE,
)
_ARTICLE = re.compile(r"(?:the|a|an|der|die|das|dem|den|le|la|les|l['’])\b\s*", re.IGNORECASE)
_DETERMINED = re.compile(
    rf"{_ARTICLE.pattern}|(?:its|his|her|their|our|your|this|that|sein\w*|ihr\w*|son|sa|ses)\b",
    re.IGNORECASE,
)
_PREPOSITION = re.compile(r"\A(?:in|on|at|by|for|among|between|bei|für)\s+", re.IGNORECASE)
_LATER_VERB = re.compile(rf",\s+{FINITE}", re.IGNORECASE)
"""`how many at most, and how many at least, can sit`: both parts share what follows."""
_SOURCE_WORDS = {"de": "laut", "fr": "selon"}
_MOST_WORDS = 16
"""Words of a name of one of the two, at most."""

_LEAST_WORDS, _WHOLE_WORDS = 5, 7
"""Words of the first clause, at least, and of a second one that says itself what it asks about."""


class AskedPart(NamedTuple):
    """One of two parts of a question.

    Attributes:
        question: A question for this part alone.
        name: What tells it from the other part; empty where its answer tells that by itself.
    """

    question: str
    name: str


@lru_cache(maxsize=256)
def asked_parts(question: str) -> tuple[AskedPart, AskedPart] | None:
    """Return the two parts of a question for two values, or None.

    A question has two parts if it names two sources that it wants both of, asks twice with the same
    question word, or gives two alternatives and asks for the values of both. One that asks by how
    much two values differ has no parts: its answer is computed.

    Args:
        question: The question as typed.
    """
    text = " ".join(question.split())
    for split in _BY_PLACES if _BY_HOW_MUCH.search(text) else (*_BY_PLACES, *_BY_THINGS):
        found = split(text)
        if found is not None:
            one, two = found
            return None if one.question.casefold() == two.question.casefold() else found
    return None


def _disagreeing(text: str) -> tuple[AskedPart, AskedPart] | None:
    """Parts of `How long is it? The table and the text disagree: give both.`."""
    found = _DISAGREE.search(text) or _VALUE_OF.search(text)
    if found is None or max(map(_length, (found["one"], found["two"]))) > _MOST_WORDS:
        return None
    stem = found["stem"].strip()
    names = [found["one"].strip(), found["two"].strip()]
    shared = _shared_noun(names)
    by = _SOURCE_WORDS.get(language(text) or "", "according to")
    parts = [AskedPart(f"{stem}, {by} {name}?", f"{by} {name}") for name in shared]
    return parts[0], parts[1]


def _shared_noun(names: Sequence[str]) -> list[str]:
    """Two names in lower case where they begin a sentence, with a noun for `celui` and `that`."""
    first, second = names
    first = first[:1].lower() + first[1:] if _ARTICLE.match(first) else first
    noun = " ".join(first.split()[: 2 if _ARTICLE.match(first) else 1])
    second = re.sub(r"\A(?:celui|celle|that|the one|jene[rs]?)\b", noun, second)
    needs_article = _DETERMINED.match(second) is None and _ARTICLE.match(first) is not None
    return [first, f"{noun.split()[0]} {second}" if needs_article else second]


def _stated(text: str) -> tuple[AskedPart, AskedPart] | None:
    """Parts of `The cover and the table each give a date. What are the two dates?`."""
    found = _STATED.search(text)
    if found is None or max(map(_length, (found["one"], found["two"]))) > _MOST_WORDS:
        return None
    what, kind = _ARTICLE.sub("", found["what"].strip(), count=1), _singular(found["kind"])
    about = what if kind.casefold() in what.casefold() else f"{kind} of {what}"
    names = _shared_noun([found["one"], found["two"]])
    parts = [AskedPart(f"Which {about} is given by {name}?", name) for name in names]
    return parts[0], parts[1]


def _each(text: str) -> tuple[AskedPart, AskedPart] | None:
    """Parts of `What do the contract and the handbook each say about it?`."""
    found = _EACH.search(text)
    if found is None or max(map(_length, (found["one"], found["two"]))) > _MOST_WORDS:
        return None
    asks, rest = found["wh"], found["rest"]
    names = [found["one"], found["two"]]
    parts = [AskedPart(f"{asks} does {name} {rest}?", name) for name in names]
    return parts[0], parts[1]


def _each_place(text: str) -> tuple[AskedPart, AskedPart] | None:
    """Parts of `The fee is named in the offer and in the bill. Which sum does each give?`."""
    found = _EACH_PLACE.search(text)
    if found is None or max(map(_length, (found["one"], found["two"]))) > _MOST_WORDS:
        return None
    what, kind = found["what"], found["kind"]
    parts = [
        AskedPart(f"{what} {found['in']} {place}. Which {kind} does it give?", place)
        for place in (found["one"], found["two"])
    ]
    return parts[0], parts[1]


def _by_sources(text: str) -> tuple[AskedPart, AskedPart] | None:
    """Parts of `How long is it according to the lease, and according to the annex?`."""
    found = _SOURCES.search(text)
    if found is None or max(map(_length, (found["one"], found["two"]))) > _MOST_WORDS:
        return None
    stem, by = found["stem"].rstrip(" ,"), found["by"]
    names = [f"{by} {found[each].strip(' ,')}" for each in ("one", "two")]
    parts = [AskedPart(f"{stem} {name}?", name) for name in names]
    return parts[0], parts[1]


def _by_clauses(text: str) -> tuple[AskedPart, AskedPart] | None:
    """Parts of `What does the cover say, and what does the table say?`."""
    found = _CLAUSES.search(_BOTH.sub("", text))
    if found is None:
        return None
    lead, one, two = (found["lead"] or "").strip(), found["one"], found["two"]
    if _question_word(one) != _question_word(two) or _ASKS_AGAIN.search(one, 1):
        return None
    if _length(one) < _LEAST_WORDS or _LATER_VERB.search(two):
        return None
    elliptic = _ELLIPTIC.fullmatch(two)
    if elliptic is not None:
        by, rest = elliptic["by"], elliptic["rest"]
        cut = one.casefold().rfind(f" {by.casefold()} ")
        if cut < 0:
            return None
        first, second = f"{one}?", f"{one[:cut]} {rest}?"
        return AskedPart(first, one[cut:].strip()), AskedPart(second, rest)
    first, second = f"{lead} {one}?".strip(), f"{lead} {two[:1].upper()}{two[1:]}?".strip()
    if not lead and (_PRONOUN.search(two) or _length(two) < _WHOLE_WORDS):
        second = f"{second} (Asked about: {one}.)"
    return AskedPart(first, ""), AskedPart(second, "")


def _question_word(clause: str) -> str:
    found = _WHICH.match(clause)
    return found.group().split()[-1].casefold() if found is not None else ""


def _alternatives(text: str) -> tuple[AskedPart, AskedPart] | None:
    """Parts of `Which takes longer, the appeal or the review? Give both periods.`."""
    asks = _BOTH.search(text)
    if asks is None:
        return None
    clause = text[: asks.start()].rstrip(" ?.")
    places = list(_OR.finditer(clause))
    if len(places) != 1:
        return None
    before, after = clause[: places[0].start()], clause[places[0].end() :]
    two, comma, tail = after.partition(",")
    start = _start_of_first(before, two)
    if start is None:
        return None
    stem = f"{before[:start].rstrip(' ,:–-')}{comma}{tail}".strip()
    one, two = before[start:].strip(" ,"), two.strip()
    if not stem or max(_length(one), _length(two)) > _MOST_WORDS:
        return None
    groups = asks.groupdict()
    noun = _singular(next((each for each in groups.values() if each), "value"))
    parts = []
    for name in (one, two):
        bare = _PREPOSITION.sub("", name, count=1)
        about = bare if bare.startswith("to ") else f"for {bare}"
        parts.append(AskedPart(f"Which {noun} is given {about}? (Asked about: {stem}.)", bare))
    return parts[0], parts[1]


def _start_of_first(before: str, second: str) -> int | None:
    """Where the first of two alternatives begins: after a colon, at a repeated word, or a comma."""
    for sign in (":", "–"):
        if sign in before:
            return before.rindex(sign) + 1
    word = second.split(" ", 1)[0].casefold()
    repeated = before.casefold().rfind(f" {word} ")
    if repeated >= 0 and not _ARTICLE.fullmatch(word):
        return repeated + 1
    return before.rindex(",") + 1 if before.count(",") == 1 else None  # not in a list


def _singular(noun: str) -> str:
    return noun[:-1] if noun.endswith("s") and not noun.endswith("ss") else noun


def _length(name: str) -> int:
    return len(name.split())


_BY_PLACES = (_disagreeing, _stated, _each, _each_place, _by_sources)
_BY_THINGS = (_by_clauses, _alternatives)

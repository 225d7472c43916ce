"""Who does what to whom: whether an answer gives the parts of an action to the wrong ones."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import NamedTuple

from nsa_cli.retrieval.clauses import main_clauses, words_of
from nsa_cli.retrieval.languages import FUNCTION_WORDS, language
from nsa_cli.retrieval.number_words import MONTHS
from nsa_cli.retrieval.polarity import akin, alike, best_sentence, statement_words
from nsa_cli.retrieval.sentences import content_words, is_figure, sentences

_WHO = re.compile(r"\s*(?:who|which \w+|wer|welche[rs]? \w+|qui|quién(?:es)?)\s", re.IGNORECASE)
_WHEN = re.compile(
    r"\s*(?:when|(?:on|by|until) (?:which|what) (?:day|date)|wann|(?:an|ab|bis) welche[mn] \w+"
    r"|quand|cuándo)\s",
    re.IGNORECASE,
)
_DAY = re.compile(
    r"\b(?:\w+day|\w+(?:tag|woch)|lundi|mardi|mercredi|jeudi|vendredi|samedi|dimanche|lunes|martes"
    r"|miércoles|jueves|viernes|sábado|domingo|"
    rf"{'|'.join(MONTHS)})\b",
    re.IGNORECASE,
)
"""A day of the week, or a month."""

_DIRECTIONS = {
    "en": {"to": "to", "from": "from", "by": "by"},
    "de": {
        **dict.fromkeys(("an", "zu", "zum", "zur"), "to"),
        "aus": "from",
        **dict.fromkeys(("von", "durch"), "by"),
    },
    "fr": {**dict.fromkeys(("à", "au", "aux"), "to"), "par": "by"},
    "es": {"a": "to", "por": "by"},
}
"""Prepositions that tell who gives from who gets, by language."""

_DIRECTION = {
    word: direction
    for words in (_DIRECTIONS["en"], _DIRECTIONS["de"], _DIRECTIONS["fr"])
    for word, direction in words.items()
}
"""Those of a text whose language its words do not tell."""

_SMALL_WORDS = """
the a an his her its their our my your
der die das den dem des ein eine einen einem einer seine seinen seinem seiner ihre ihren ihrem ihrer
le la les un une son sa ses leur leurs el los las una su sus
"""
_SMALL = frozenset(_SMALL_WORDS.split())
"""Words between a preposition and its noun."""

_AGENT = re.compile(r"\b(?:by|par|por)\b", re.IGNORECASE)
_TITLES = frozenset(("mr", "mrs", "ms", "dr", "prof", "herr", "frau", "m", "mme", "mlle"))
"""Words before names."""

_PRONOUN = re.compile(
    r"\b(?:i|he|she|it|they|we|you|who|which|that|this|these|er|sie|es|wir|ich|il|elle"
    r"|ils|elles|on|nous|qui|lui|él|ella|ellos|ellas|quien)\b",
    re.IGNORECASE,
)
_TOKEN = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
_NOUN = re.compile(
    r"\b(?:(?:[Tt]he|[Dd]er|[Dd]ie|[Dd]as|[Ll]e|[Ll]a|[Ll]es|[Ee]l|[Ll]os)\s+[^\W\d_]+"
    r"|[^\W\d_a-zß-ÿ][^\W\d_]+)"
)
"""A noun with an article, or a word that begins with a capital."""

_BRACKETS = re.compile(r"\([^()]*\)")
_PAUSE = re.compile(r"[,;:]")
_BETWEEN, _APART = 3, 10
"""Maximum words between a verb and those before and after it, and words that a comma counts as."""

_SHORT_ANSWER = 4
"""Words of an answer that is a name and no statement."""


class _Marked(NamedTuple):
    """A content word, its place, the direction by its preposition, and if it has an article."""

    word: str
    place: int
    direction: str | None
    is_noun: bool


def swaps_roles(answer: str, question: str, passage: str) -> bool:
    """Whether a passage says the same as an answer, with two of its parts exchanged.

    `Ann lent a boat to Bo` and `Bo lent a boat to Ann` have the same words. Directions (`to`,
    `from`) are compared, and the order around a verb. A short answer to a question for who is read
    as the statement that both make.

    Args:
        answer: The answer.
        question: The question.
        passage: The passage.
    """
    for statement in _statements(answer, question):
        words = statement_words(statement)
        best = best_sentence(passage, words) if len(words) > 2 else None  # two parts and a verb
        if best is None:
            continue
        said, told = _marked(statement), _marked(best)
        if _exchanged(said, told, by_order=_have_same_order(statement, best)):
            return True
    return False


def _have_same_order(statement: str, sentence: str) -> bool:
    """Whether the order of words tells roles: not in German, nor between active and passive."""
    if "de" in (language(statement), language(sentence)):
        return False
    return bool(_AGENT.search(statement)) == bool(_AGENT.search(sentence))


def is_of_another(answer: str, question: str, passage: str) -> bool:
    """Whether a passage has what a question for who or when asks, in a sentence without the answer.

    Such a main clause names someone else, or a different day. For who, two thirds of the question's
    words are enough. The passage is not of another if the clause has a pronoun, which may stand for
    the answer, or if another clause has the answer and most of these words.

    Args:
        answer: The answer.
        question: The question.
        passage: The passage.
    """
    asks_when = _WHEN.match(question) is not None
    if not (asks_when or _WHO.match(question)):
        return False
    asked = statement_words(question)
    said = content_words(answer) - set(asked) - FUNCTION_WORDS - _TITLES
    if len(asked) < 2 or not said:
        return False
    told = _told(passage, asked)
    most = max((count for count, _ in told), default=0)
    if 3 * most < 2 * len(asked) or (asks_when and most < len(asked)):
        return False
    with_answer = [unit for count, unit in told if 2 * count > most and _has_any(unit, said)]
    if with_answer:
        return not asks_when and all(_is_apart(unit, asked, said) for unit in with_answer)
    best = [_part(unit, asked) for count, unit in told if count == most]
    named, known = _DAY if asks_when else _NOUN, {*asked, *said}
    return all(
        (asks_when or _PRONOUN.search(unit) is None) and _names_one(unit, named, known)
        for unit in best
    )


def _told(passage: str, asked: Sequence[str]) -> list[tuple[int, str]]:
    """The main clauses of a passage, each with how many words of a question it has."""
    return [
        (sum(_has_any(clause, {word}) for word in asked), clause)
        for clause in main_clauses(passage)
    ]


def _has_any(text: str, words: Collection[str]) -> bool:
    """Whether a text has a form of any of some words."""
    return any(alike(word, other) for word in words for other in words_of(text))


def _part(clause: str, asked: Sequence[str]) -> str:
    """The parts of a clause between commas from the first to the last with a word of a question."""
    parts = clause.split(",")
    places = [at for at, part in enumerate(parts) if _has_any(part, asked)]
    return ",".join(parts[places[0] : places[-1] + 1])


def _is_apart(clause: str, asked: Sequence[str], said: set[str]) -> bool:
    """Whether a comma parts the answer from the words of a question, which have another noun.

    The answer's part needs a word that is no name: a name beside a noun may explain it.
    """
    parts = _BRACKETS.sub("", clause).split(",")
    shares = [_has_any(part, asked) for part in parts]
    if len(parts) < 2 or shares.count(True) != 1:
        return False
    part = parts[shares.index(True)]
    if _has_any(part, said) or not _names_one(part, _NOUN, {*asked, *said}):
        return False
    known = FUNCTION_WORDS | said
    return any(
        word.islower() and any(each not in known for each in words_of(word))
        for other in parts
        if _has_any(other, said)
        for word in other.split()
    )


def _names_one(text: str, named: re.Pattern[str], known: Collection[str]) -> bool:
    """Whether a text names someone, or a day, without some words."""
    return any(not _has_any(found.group(), known) for found in named.finditer(text))


def _statements(answer: str, question: str) -> list[str]:
    """The sentences of an answer; a short one with the rest of a question for who."""
    asks = _WHO.match(question)
    if asks is not None and len(answer.split()) <= _SHORT_ANSWER:
        return [f"{answer.strip().rstrip('.')} {question[asks.end() :].rstrip(' ?')}"]
    return [answer[start:end] for start, end in sentences(answer, 0, len(answer))]


def _marked(text: str) -> list[_Marked]:
    """The content words of a text, each once, with places and directions."""
    matches = list(_TOKEN.finditer(text))
    written = [match.group() for match in matches]
    tokens = [token.casefold() for token in written]
    directions = _DIRECTIONS.get(language(text) or "", _DIRECTION)
    found: dict[str, _Marked] = {}
    for place, token in enumerate(tokens):
        word = next(iter(content_words(token)), None)
        if word is None or word in _SMALL or word in directions or is_figure(word):
            continue
        before = place - 1
        while before >= 0 and (
            (tokens[before] in _SMALL and tokens[before] not in directions)
            or (written[before][0].isupper() and written[place][0].isupper())  # of one name
        ):
            before -= 1
        direction = directions.get(tokens[before]) if before >= 0 else None
        at = place + _APART * len(_PAUSE.findall(text, 0, matches[place].start()))
        found.setdefault(
            word, _Marked(word, at, direction, place > 0 and tokens[place - 1] in _SMALL)
        )
    return list(found.values())


def _exchanged(said: Sequence[_Marked], told: Sequence[_Marked], *, by_order: bool) -> bool:
    """Whether two words that both texts have are exchanged: their directions or their order."""
    pairs = [(one, other) for one in said for other in told if one.word == other.word]
    verbs = [(one, other) for one in said for other in told if akin(one.word, other.word)]
    for number, (x, x_told) in enumerate(pairs):
        if {x.direction, x_told.direction} == {"by", "to"} and len(pairs) > 1:
            return True
        for y, y_told in pairs[number + 1 :]:
            ours, theirs = {x.direction, y.direction}, {x_told.direction, y_told.direction}
            if len(ours) == 2 and ours == theirs:
                if x.direction == y_told.direction and y.direction == x_told.direction:
                    return True
            elif (by_order and ours == theirs == {None}) and any(
                _around(x, verb, y) and _around(y_told, verb_told, x_told)
                for verb, verb_told in verbs
                if verb.word not in (x.word, y.word) and not verb.is_noun
            ):
                return True
    return False


def _around(before: _Marked, verb: _Marked, after: _Marked) -> bool:
    """Whether a word stands closely before a verb, and another closely after it."""
    return 0 < verb.place - before.place <= _BETWEEN and 0 < after.place - verb.place <= _BETWEEN

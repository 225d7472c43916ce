"""Words of questions and headers, folded and stemmed so that their forms match."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

_TOKEN = re.compile(
    r"[“”„\"«»](?P<quoted>[^“”„\"«»]+)[“”„\"«»]"
    r"|(?P<number>(?>\d(?:[\d.,:/'’-]*\d)?)[kK]?)(?![^\W\d_])"
    r"|(?P<word>[^\W_]+(?:[-'’.&/][^\W_]+)*|[<>=≥≤]+|[%€$£¥#])"
)
_CAMEL = re.compile(r"(?<=[a-zäöüß])(?=[A-ZÄÖÜ][a-zäöüß]|[A-Z]{2,}\b)")
_PARENTHESIS = re.compile(r"[(\[][^)\]]*[)\]]")
_APART = re.compile(r"[^\w#%]+|_+")
LINKING = frozenset(["of", "the", "a", "in", "der", "des", "die", "das", "von", "per", "and"])
_ENDINGS = ("ern", "en", "er", "em", "es", "e", "n", "s")


@dataclass(frozen=True, slots=True)
class Token:
    """A word of a question.

    Attributes:
        text: As typed.
        norm: Folded; several words for `key-account`.
        stem: Without endings.
        quoted: Whether quotation marks enclose it.
    """

    text: str
    norm: str
    stem: str
    quoted: bool = False


def tokens_of(question: str) -> list[Token]:
    """The words, numbers and signs of a question."""
    found = []
    for match in _TOKEN.finditer(unicodedata.normalize("NFC", question)):
        quoted = match["quoted"]
        text = quoted or match["number"] or match["word"]
        text = re.sub(r"['’]s$", "", text)
        norm = folded(text) or text
        found.append(Token(text, norm, stem(norm), quoted is not None))
    return found


@lru_cache(maxsize=65536)
def folded(text: str) -> str:
    """A text in lower case, without accents and punctuation, its words one space apart."""
    plain = text.casefold()
    if not plain.isascii():
        spread = unicodedata.normalize("NFKD", plain)
        plain = "".join(char for char in spread if not unicodedata.combining(char))
    return " ".join(_APART.sub(" ", plain).replace("#", " ").split())


@lru_cache(maxsize=65536)
def stem(word: str) -> str:
    """A folded word without the endings of English and German declension."""
    if len(word) < 4 or not word.isalpha():
        return word
    if word.endswith("ies") and len(word) > 4:
        word = word[:-3] + "y"
    elif word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-1]
    for ending in ("ing", "ed"):
        if word.endswith(ending) and len(word) - len(ending) >= 4:
            word = word[: -len(ending)]
            if word[-1] == word[-2]:
                word = word[:-1]
            break
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word[: -len(ending)]
    return word


def word_set(words: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(words.split())


def stem_set(words: str) -> frozenset[str]:
    """The stems of the words of a text."""
    return frozenset(stem(word) for word in words.split())


def header_words(name: str) -> tuple[str, ...]:
    """The stems of a column's name; a unit in parentheses is left out."""
    bare = _PARENTHESIS.sub(" ", name)
    words = folded(_CAMEL.sub(" ", bare if folded(bare) else name)).split()
    return tuple(stem(word) for word in words if word not in LINKING or len(words) == 1)

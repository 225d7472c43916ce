"""Tells text that people can read from glyph numbers that pass as text."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter

_COMMON = frozenset("etaoinsrhlduc")
"""Letters that make up most of the text in European languages that use the Latin script."""

_COMMON_ARABIC = frozenset("\u0627\u0644\u064a\u0640")
"""Alef, lam and yeh, and the stroke itself."""

_FEWEST_STRETCHED, _MOST_STRETCHED = 200, 0.17

_FEWEST_COMMON = 0.6
_FEWEST_VOWELS, _MOST_VOWELS = 0.22, 0.65
_VOWELS = frozenset("aeiouy")

_MIXED = re.compile(r"[^\W\d_]\d[^\W\d_]|\d[^\W\d_]{2}|[a-zà-ÿ][A-ZÀ-Þ]")
"""A digit inside or before letters, or a capital letter after a small one."""

_NAMES = re.compile(r"(?:/[a-zA-Z]{1,2}\d{1,5}){3,}|\(cid:\d+\)")
"""Glyph names and numbers that readers give for glyphs without a Unicode value."""

_LEGACY = ("euc_jp", "gb2312", "big5", "euc_kr")
"""Character sets of everyday Chinese, Japanese and Korean."""

_ODD = frozenset({"Co", "Cn", "Cs", "Cc"})
_DINGBATS = range(0x2701, 0x27C0)


def odd_share(text: str) -> float:
    """The share of characters that no text has, from 0 to 1.

    These are glyph names, replacement characters, private-use and unassigned characters,
    controls, and dingbats among letters.
    """
    characters = sum(not char.isspace() for char in text)
    if not characters:
        return 0.0
    odd = sum(len(name) for name in _NAMES.findall(text))
    if text.isascii():
        return odd / characters
    odd += sum(
        char == "\ufffd" or unicodedata.category(char) in _ODD for char in text if char > "\x7f"
    )
    odd += sum(_dingbats(word) for word in text.split() if not word.isascii())
    return min(1.0, odd / characters)


def stretched_share(text: str) -> float:
    """The share of letters that a font of Arabic gives for the strokes that stretch its words.

    No letter other than the most common ones makes up a sixth of a language's text, but some fonts
    say that a stroke is one. 0 for ordinary text.
    """
    letters = Counter(char for char in text if "\u0620" <= char <= "\u064a")
    count = letters.total()
    if count < _FEWEST_STRETCHED:
        return 0.0
    rare = [often / count for char, often in letters.items() if char not in _COMMON_ARABIC]
    most = max(rare, default=0.0)
    return most if most > _MOST_STRETCHED else 0.0


def _dingbats(word: str) -> int:
    """Dingbats that pass as letters of a word; those of bullets and ornaments are few or alike."""
    dingbats = [char for char in word if ord(char) in _DINGBATS]
    letters = sum(char.isalnum() for char in word)
    odd = len(set(dingbats)) > 4 or (len(dingbats) > 2 and letters > 0)
    return len(dingbats) if odd else 0


def is_language(text: str) -> bool:
    """Whether text reads as a language although its glyphs have no Unicode values.

    Latin script is judged by how often common letters and vowels occur and by digits and
    capital letters inside words; Chinese, Japanese and Korean by whether an everyday character
    set holds the characters; other scripts by whether the letters are of one script.
    """
    if odd_share(text) > 0.1:
        return False
    letters = [char for char in text if char.isalpha()]
    if not letters:
        return False
    latin = [unicodedata.normalize("NFKD", char)[0].lower() for char in letters if char < "\u0250"]
    if len(latin) > 0.8 * len(letters):
        return _is_latin(text, latin)
    east = [char for char in text if char.isalpha() and char > "\u2e7f"]
    if len(east) > 0.5 * len(letters):
        return any(_encodable(east, charset) > 0.97 for charset in _LEGACY)
    scripts = [unicodedata.name(char, " ").split()[0] for char in letters]
    most = max(scripts.count(script) for script in set(scripts))
    phonetic = sum("\u0250" <= char < "\u0300" for char in letters)
    return most > 0.9 * len(scripts) and phonetic < 0.1 * len(letters)


def _is_latin(text: str, letters: list[str]) -> bool:
    words = [word for word in text.split() if any(char.isalpha() for char in word)]
    mixed = sum(bool(_MIXED.search(word)) for word in words)
    plain = sum(letter in _COMMON for letter in letters)
    vowels = sum(letter in _VOWELS for letter in letters)
    return (
        mixed < 0.2 * len(words)
        and plain > _FEWEST_COMMON * len(letters)
        and _FEWEST_VOWELS < vowels / len(letters) < _MOST_VOWELS
        and len(text) < 30 * len(words)
    )


def _encodable(characters: list[str], charset: str) -> float:
    # Python's euc_kr spells syllables outside the character set in eight bytes.
    return sum(len(char.encode(charset, "ignore")) in (2, 3) for char in characters) / len(
        characters
    )

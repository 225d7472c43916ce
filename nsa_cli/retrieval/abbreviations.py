"""Full stops that end no sentence: abbreviations, initials, and ordinals of German dates."""

from __future__ import annotations

import re
import unicodedata

from nsa_cli.retrieval.number_words import MONTHS

_LONGEST = 16
"""Characters before a full stop that tell an abbreviation."""

_BEFORE_A_NAME = re.compile(
    r"(?<![\w.])(?:[A-ZÄÖÜ]|Mr|Mrs|Ms|Messrs|Dr|Prof|St|Rev|Hon|Gen|Capt|Mme|Mlle|MM|Sr|Sra|Hr)\.\Z"
)
_BEFORE_A_NUMBER = re.compile(
    r"(?<![\w.])(?:No|Nos|Nr|Art|Arts|Abs|Ziff|Fig|Figs|Abb|Tab|p|pp|S|Sec|Sect|Ch|Kap|Eq|Vol|Bd"
    r"|para|paras|cl|n|núm|tel|Tel)\.\Z"
)
_WITHIN = re.compile(
    r"(?<![\w.])(?:e\.\s?g|i\.\s?e|z\.\s?B|d\.\s?h|u\.\s?a|o\.\s?ä|bzw|ca|approx|resp|vs|cf|vgl|incl"
    r"|inkl|zzgl|p\.\s?ex|c\.-à-d|env)\.\Z"
)
_PAIR = re.compile(r"(?<![\w.])[a-zäöü]\.\Z"), re.compile(r"[^\W\d_]\.")
"""Two letters with full stops, such as `z. B.`."""

_MAYBE_WITHIN = re.compile(r"(?<![\w.])(?:etc|usw|al|Inc|Ltd|Co|Corp|Jr|St|Str)\.\Z")
_ORDINAL = re.compile(r"(?:\b(?:am|vom|zum|der|des|dem|den|die|bis|im|ab)\s+)?\b\d{1,2}\.\Z")
_WORD = re.compile(r"[^\W\d_]+")


def ends_no_sentence(text: str, stop: int, after: int) -> bool:
    """Whether a full stop belongs to the word before it, and the sentence goes on.

    Args:
        text: The text.
        stop: One past the full stop.
        after: Where the next word begins.
    """
    if text[stop - 1 : stop] != "." or after >= len(text):
        return False
    before, following = text[max(0, stop - _LONGEST) : stop], text[after]
    if _WITHIN.search(before) or (_PAIR[0].search(before) and _PAIR[1].match(text, after)):
        return True
    if following.isupper() and _BEFORE_A_NAME.search(before):
        return True
    if following.isdigit() and _BEFORE_A_NUMBER.search(before):
        return True
    if (following.islower() or following in "(,") and _MAYBE_WITHIN.search(before):
        return True
    ordinal = _ORDINAL.search(before)
    if ordinal is None:
        return False
    word = _WORD.match(text, after)
    is_month = word is not None and _plain(word[0]) in MONTHS
    return is_month or not ordinal[0][0].isdigit()


def _plain(word: str) -> str:
    """A word, case-folded, without accents."""
    return "".join(c for c in unicodedata.normalize("NFD", word.casefold()) if c.isalpha())

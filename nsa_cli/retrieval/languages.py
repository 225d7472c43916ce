"""Function words of English, German, French and Spanish, and the language that they tell."""

from __future__ import annotations

import re

_ENGLISH = """
the a an and or of to in on at by for from with is are was were be been has have had do does did may
can must shall will would should this that these those it its they he she we you who whom whose what
which when where why how there not no any some
"""
_GERMAN = """
der die das den dem des ein eine einen einem einer eines man ich du er es wir ihr sie sich ist sind
war waren wird werden wurde hat haben kann können darf dürfen muss müssen soll sollen und oder aber
nicht kein keine mit von vom zu zum zur im am bei für auf aus nach über unter wie viel viele was wer
wo wann warum welche welcher welches welchen ob als dass
"""
_FRENCH = """
le la les un une des du de et ou est sont était a ont être avoir peut doit on il elle ils elles se
ne pas en au aux dans pour par sur avec sans que qui quoi quel quelle quels quelles où quand comment
combien pourquoi ce cette ces son sa ses y
"""
_SPANISH = """
el los las una del al es son fue hay puede debe se no con sin por para que quién qué cuál cuándo
dónde cómo cuánto su sus
"""
_WORDS = {
    name: frozenset(words.split())
    for name, words in (
        ("en", _ENGLISH),
        ("de", _GERMAN),
        ("fr", _FRENCH),
        ("es", _SPANISH),
    )
}
FUNCTION_WORDS = _WORDS["de"] | _WORDS["fr"] | _WORDS["es"]
"""Words of German, French and Spanish that tell no sentence from another."""

_WORD = re.compile(r"[^\W\d_]+")


def language(text: str) -> str | None:
    """Return the language of a text as `en`, `de`, `fr` or `es`; None if its words do not tell.

    Args:
        text: Any text.
    """
    words = [match.group().casefold() for match in _WORD.finditer(text)]
    counts = {name: sum(word in own for word in words) for name, own in _WORDS.items()}
    best = max(counts, key=lambda name: counts[name])
    is_told = counts[best] > 0 and list(counts.values()).count(counts[best]) == 1
    return best if is_told else None


def function_words(text: str) -> frozenset[str]:
    """Return the function words of a text's language, none if it is not told."""
    name = language(text)
    return frozenset() if name is None else _WORDS[name]

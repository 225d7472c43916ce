"""Characters that no reader sees: they part words, or turn the order of what is shown."""

from __future__ import annotations

import re

_INVISIBLE = re.compile(
    "[\u00ad\u200b\u2060\ufeff"  # soft hyphen, spaces and joiners without width
    "\u202a-\u202e\u2066-\u2069"  # embeddings, overrides and isolates of the writing direction
    "\U000e0000-\U000e007f]"  # tags, which repeat ASCII
)
_TAGS = re.compile("[\U000e0020-\U000e007e]{8,}")
"""Text in tags; the flags of emoji have up to six of them and an end."""


def without_invisible(text: str) -> str:
    """A text without characters that no reader sees; joiners of scripts and emoji stay."""
    return text if text.isascii() else _INVISIBLE.sub("", text)


def tagged_text(text: str) -> str:
    """What a text says in tags, characters that no program shows; empty if nothing.

    A document can give orders to a model so.
    """
    found = "" if text.isascii() else " ".join(_TAGS.findall(text))
    return "".join(chr(ord(char) - 0xE0000) if char != " " else char for char in found)

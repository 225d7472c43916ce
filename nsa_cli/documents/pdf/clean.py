"""Cleans the text of pages of what cannot be shown or says nothing."""

from __future__ import annotations

import re

_LIGATURES = str.maketrans(
    {"ﬀ": "ff", "ﬁ": "fi", "ﬂ": "fl", "ﬃ": "ffi", "ﬄ": "ffl", "ﬅ": "st", "ﬆ": "st"}
)
_NOISE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ufffe\uffff]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_LEADERS = re.compile(r"(?<![ \t])[ \t]*(?:[.·․…][ \t]{0,3}){5,}")
_LINE_TAIL = re.compile(r"[ \t]+(?=\n|\Z)")


def join_surrogates(text: str) -> str:
    """Pairs of surrogates become the character they stand for, single ones go."""
    if not _SURROGATE.search(text):
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "ignore")


def clean(text: str) -> str:
    """Remove control characters, lone surrogates, ligatures, leader dots and trailing spaces."""
    text = join_surrogates(text).replace("\r\n", "\n").replace("\r", "\n").translate(_LIGATURES)
    text = _LEADERS.sub(" ... ", _NOISE.sub("", text))
    text = _LINE_TAIL.sub("", text)
    return text.strip("\n") if text.strip() else ""


def clean_label(label: str) -> str:
    """A page label on one line, without what cannot be shown."""
    return " ".join(_NOISE.sub("", _SURROGATE.sub("", label)).split())

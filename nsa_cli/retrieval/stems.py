"""Words of a text without common endings, by which sentences are compared."""

from __future__ import annotations

import re

from nsa_cli.retrieval.languages import FUNCTION_WORDS
from nsa_cli.retrieval.sentences import content_words, is_figure

_ENDING = re.compile(r"(?<=\w{3})(?:ing|ed|es|en|er|e|s|n)$")
"""Of English, German and French words; the rest has three letters at least."""


def stems(text: str) -> set[str]:
    """Return the content words of a text without common endings: `voted` and `vote` are one."""
    words = content_words(text) - FUNCTION_WORDS
    return {word if is_figure(word) else _ENDING.sub("", word) for word in words}

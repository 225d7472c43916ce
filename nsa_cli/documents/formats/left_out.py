"""Text that a reader leaves out of a document, collected for warnings."""

from __future__ import annotations

import textwrap
from collections import defaultdict

_SHOWN = 3
_WIDTH = 40

HIDDEN_TEXT = "hidden passage"
"""Kind of text that a program does not show and that `hidden=True` reads."""


class LeftOut:
    """Counts and words of what is not read, by kind.

    Attributes:
        texts: The words, so that a check for lost words can pass over them.
    """

    def __init__(self) -> None:
        self.texts: list[str] = []
        self._counts: dict[str, int] = defaultdict(int)
        self._samples: dict[str, list[str]] = defaultdict(list)

    def add(self, kind: str, text: str) -> None:
        """Note a text that is left out, unless it has no words.

        Args:
            kind: In the singular, such as `tracked deletion`.
            text: Its words.
        """
        text = " ".join(text.split())
        if text:
            self.texts.append(text)
            self._counts[kind] += 1
            self._samples[kind].append(textwrap.shorten(text, _WIDTH, placeholder=" …"))

    def count(self, kind: str) -> None:
        """Note something whose words are not known."""
        self._counts[kind] += 1

    def warnings(self) -> list[str]:
        """A clause for each kind: how many, and the first words of a few."""
        told = []
        for kind, count in self._counts.items():
            subject = f"1 {kind} is" if count == 1 else f"{count:,} {_plural(kind)} are"
            samples = [f"“{sample}”" for sample in self._samples[kind][:_SHOWN] if sample]
            shown = f": {', '.join(samples)}" if samples else ""
            remedy = "; --hidden reads hidden text" if kind.startswith("hidden") else ""
            told.append(f"{subject} left out{shown}{remedy}")
        return told


def _plural(kind: str) -> str:
    """`symbol of a font` → `symbols of a font`; `embedded object (x)` → `embedded objects (x)`."""
    for separator in (" of ", " without ", " ("):
        head, found, rest = kind.partition(separator)
        if found:
            return f"{head}s{found}{rest}"
    return f"{kind}s"

"""Automatic numbers of lists and headings in OpenDocument files."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from nsa_cli.documents.formats.numerals import formatted
from nsa_cli.documents.formats.ooxml import attribute, descendants, name_of

_KINDS = {"a": "lowerLetter", "A": "upperLetter", "i": "lowerRoman", "I": "upperRoman"}
_OUTLINE = "outline"
_LEVELS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class _Level:
    kind: str
    before: str
    after: str
    start: int
    shown: int


class ListNumbers:
    """The numbers that the lists of a document have reached.

    Args:
        roots: Of the parts that hold styles.
    """

    def __init__(self, roots: Iterable[Any]) -> None:
        self._styles: dict[str, dict[int, _Level]] = {}
        self._counts: dict[str, dict[int, int]] = {}
        for root in roots:
            for style in descendants(root, "list-style", "outline-style"):
                key = _OUTLINE if name_of(style) == "outline-style" else attribute(style, "name")
                self._styles[key or ""] = dict(_level(each) for each in style)

    def restart(self, style: str) -> None:
        """Restart a list."""
        self._counts.pop(style, None)

    def heading(self, level: int) -> str | None:
        """The number of the next heading of a level from 1, or None."""
        return self.label(_OUTLINE, level)

    def label(self, style: str, level: int, start: str | None = None) -> str | None:
        """The number of the next item; `-` for a bullet, None where nothing is shown.

        Args:
            style: The name of the list style.
            level: From 1.
            start: The number that the item itself sets, or None.
        """
        levels = self._styles.get(style)
        if levels is None:
            return "-"
        level = min(level, _LEVELS)
        own = levels.get(level)
        if own is None or not own.kind:
            return None
        if own.kind == "bullet":
            return "-"
        counts = self._counts.setdefault(style, {})
        counts[level] = counts[level] + 1 if level in counts else own.start
        if start is not None and start.isdecimal():
            counts[level] = int(start)
        for above in range(1, level):  # a level that was skipped counts as begun
            if above in levels:
                counts.setdefault(above, levels[above].start)
        for deeper in [each for each in counts if each > level]:
            del counts[deeper]
        parts = []
        for each in range(max(1, level - own.shown + 1), level + 1):
            if each in levels and levels[each].kind not in ("", "bullet"):
                number = counts.get(each, levels[each].start)
                parts.append(formatted(number, _KINDS.get(levels[each].kind, "decimal")))
        return (own.before + ".".join(parts) + own.after).strip() or None


def _level(element: Any) -> tuple[int, _Level]:
    number = attribute(element, "level", "1") or "1"
    kind = attribute(element, "num-format", "") or ""
    start = attribute(element, "start-value", "1") or "1"
    shown = attribute(element, "display-levels", "1") or "1"
    return min(int(number), _LEVELS) if number.isdecimal() else 1, _Level(
        kind="bullet" if "bullet" in name_of(element) or "image" in name_of(element) else kind,
        before=attribute(element, "num-prefix", "") or "",
        after=attribute(element, "num-suffix", "") or "",
        start=int(start) if start.isdecimal() else 1,
        shown=int(shown) if shown.isdecimal() else 1,
    )

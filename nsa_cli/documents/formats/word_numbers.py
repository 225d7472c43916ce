"""Automatic numbers of paragraphs in Word documents: `8.2`, `(a)`, `iv.`."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from nsa_cli.documents.formats.numerals import formatted
from nsa_cli.documents.formats.ooxml import attribute, child, children, name_of, switched_on
from nsa_cli.documents.formats.word_styles import LEVELS, Styles

_PLACEHOLDER = re.compile(r"%([1-9])")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Level:
    start: int
    kind: str
    text: str
    style: str | None
    legal: bool
    restart: int


@dataclass(slots=True, kw_only=True)
class _List:
    """A list: its levels and the numbers reached, which lists of one abstract one share."""

    levels: dict[int, _Level]
    counts: dict[int, int] = field(default_factory=dict)


class Numbering:
    """The lists of a document, with the numbers that its paragraphs have reached.

    Args:
        root: Of the numbering part, or None.
        styles: To follow a list that a style defines.
    """

    def __init__(self, root: Any, styles: Styles) -> None:
        self._abstract: dict[str, _List] = {}
        self._linked: dict[str, str] = {}
        self._links: dict[str, str] = {}
        self._lists: dict[str, tuple[str, Any]] = {}
        self._begun: set[tuple[str, int]] = set()
        self._styles = styles
        for element in () if root is None else root:
            identifier = attribute(element, "abstractNumId", "") or ""
            if name_of(element) == "abstractNum":
                self._abstract[identifier] = _List(levels=_levels(children(element, "lvl")))
                if link := attribute(child(element, "styleLink"), "val"):
                    self._linked[link] = identifier
                if link := attribute(child(element, "numStyleLink"), "val"):
                    self._links[identifier] = link
            elif name_of(element) == "num":
                target = attribute(child(element, "abstractNumId"), "val", "") or ""
                self._lists[attribute(element, "numId", "") or ""] = (target, element)

    def label(self, number: str, level: int | None, style: str | None) -> str | None:
        """The number of the next paragraph of a list; `-` for a bullet.

        Args:
            number: The identifier of the list.
            level: The level from 0; None for the one that belongs to the style.
            style: The identifier of the paragraph style.

        Returns:
            None where the list shows nothing.
        """
        if number not in self._lists:
            return None
        target, element = self._lists[number]
        target = self._linked.get(self._links.get(target, ""), target)
        found = self._abstract.get(target)
        if found is None:
            return None
        overrides = {
            int(attribute(each, "ilvl", "0") or 0): each
            for each in children(element, "lvlOverride")
        }
        levels = found.levels | _levels(
            [each for override in overrides.values() for each in children(override, "lvl")]
        )
        if level is None:
            level = next((n for n, each in levels.items() if each.style == style), 0)
        if level not in levels:
            return None
        self._count(found, levels, level, number, overrides.get(level))
        return _written(levels, found.counts, level)

    def _count(
        self, found: _List, levels: dict[int, _Level], level: int, number: str, override: Any
    ) -> None:
        counts = found.counts
        restart = attribute(child(override, "startOverride"), "val")
        if restart and (number, level) not in self._begun:
            counts[level] = int(restart)
        elif level in counts:
            counts[level] += 1
        else:
            counts[level] = levels[level].start
        self._begun.add((number, level))
        for above in range(level):
            if above in levels and above not in counts:
                counts[above] = levels[above].start
        for below in [each for each in counts if each > level]:
            if levels.get(below) is None or level < levels[below].restart:
                del counts[below]


def _levels(elements: list[Any]) -> dict[int, _Level]:
    found = {}
    for element in elements:
        number = int(attribute(element, "ilvl", "0") or 0)
        restart = attribute(child(element, "lvlRestart"), "val")
        if not 0 <= number < LEVELS:
            continue
        found[number] = _Level(
            start=int(attribute(child(element, "start"), "val", "0") or 0),
            kind=attribute(child(element, "numFmt"), "val", "decimal") or "decimal",
            text=attribute(child(element, "lvlText"), "val", "") or "",
            style=attribute(child(element, "pStyle"), "val"),
            legal=switched_on(child(element, "isLgl")),
            restart=number if restart is None else int(restart),
        )
    return found


def _written(levels: dict[int, _Level], counts: dict[int, int], level: int) -> str | None:
    own = levels[level]
    if own.kind == "bullet":
        return "-"

    def number(match: re.Match[str]) -> str:
        at = int(match[1]) - 1
        if at not in levels:
            return ""
        kind = "decimal" if own.legal and at != level else levels[at].kind
        return formatted(counts.get(at, levels[at].start), kind)

    return _PLACEHOLDER.sub(number, own.text).strip() or None

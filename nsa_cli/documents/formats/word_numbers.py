"""Automatic numbers of paragraphs in Word documents: `8.2`, `(a)`, `iv.`."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from nsa_cli.documents.formats.ooxml import attribute, child, children, name_of, switched_on

_LEVELS = 9
_LONGEST_CHAIN = 20
_ROMAN = (
    *((1000, "m"), (900, "cm"), (500, "d"), (400, "cd"), (100, "c"), (90, "xc")),
    *((50, "l"), (40, "xl"), (10, "x"), (9, "ix"), (5, "v"), (4, "iv"), (1, "i")),
)
_DIGITS = "〇一二三四五六七八九"
_PLACEHOLDER = re.compile(r"%([1-9])")


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """What a paragraph or character style says about text.

    Attributes:
        name: As Word shows it, such as `heading 1`.
        base: The identifier of the style that it inherits from.
        numbering: The identifier of its list and the level in it, each None if unsaid.
        hidden: Whether its text is hidden; None if unsaid.
    """

    name: str
    base: str | None
    numbering: tuple[str | None, int | None]
    hidden: bool | None


class Styles:
    """The styles of a document.

    Args:
        root: Of the styles part, or None.
    """

    def __init__(self, root: Any) -> None:
        self._styles: dict[str, Style] = {}
        self.default: str | None = None
        for element in () if root is None else children(root, "style"):
            identifier = attribute(element, "styleId", "") or ""
            hidden = child(element, "rPr", "vanish")
            self._styles[identifier] = Style(
                name=attribute(child(element, "name"), "val", "") or "",
                base=attribute(child(element, "basedOn"), "val"),
                numbering=numbering_of(child(element, "pPr")),
                hidden=None if hidden is None else switched_on(hidden),
            )
            if attribute(element, "default") == "1" and attribute(element, "type") == "paragraph":
                self.default = identifier

    def chain(self, identifier: str | None) -> list[Style]:
        """A style and those that it inherits from, itself first."""
        found: list[Style] = []
        while identifier in self._styles and len(found) < _LONGEST_CHAIN:
            found.append(self._styles[identifier])
            identifier = found[-1].base
        return found

    def heading(self, identifier: str | None) -> int:
        """The heading level of a paragraph style, 1 for a title, 0 for text."""
        for style in self.chain(identifier):
            name = style.name.lower()
            if name == "title":
                return 1
            level = name.removeprefix("heading ")
            if level != name and level.isdecimal() and 1 <= int(level) <= _LEVELS:
                return int(level)
        return 0

    def numbering(self, identifier: str | None) -> tuple[str | None, int | None, str | None]:
        """The list and level of a paragraph style, and the style that names them."""
        current, level = identifier, None
        for style in self.chain(identifier):
            number, own = style.numbering
            level = own if level is None else level
            if number is not None:
                return number, level, current
            current = style.base
        return None, None, None

    def hidden(self, identifier: str | None) -> bool:
        """Whether text of a style is hidden."""
        return next(
            (style.hidden for style in self.chain(identifier) if style.hidden is not None), False
        )


def numbering_of(properties: Any) -> tuple[str | None, int | None]:
    """The list and level that paragraph properties name, each None if unsaid."""
    found = child(properties, "numPr")
    level = attribute(child(found, "ilvl"), "val")
    return attribute(child(found, "numId"), "val"), int(level) if level else None


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
            int(attribute(each, "ilvl", "0") or 0): each for each in children(element, "lvlOverride")
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


def formatted(number: int, kind: str) -> str:
    """A number as a format of Word writes it; formats that are not known count in digits.

    Args:
        number: From 0.
        kind: Such as `lowerRoman` or `upperLetter`.
    """
    if kind == "none":
        return ""
    if kind in ("lowerRoman", "upperRoman") and 0 < number < 4000:
        text = _roman(number)
        return text.upper() if kind == "upperRoman" else text
    if kind in ("lowerLetter", "upperLetter") and number > 0:
        text = chr(ord("a") + (number - 1) % 26) * min(1 + (number - 1) // 26, 20)
        return text.upper() if kind == "upperLetter" else text
    if kind == "decimalZero":
        return f"{number:02}"
    if kind == "ordinal":
        tens = number // 10 % 10 == 1
        return f"{number}{'th' if tens else {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th')}"
    if kind in ("chineseCounting", "chineseCountingThousand", "japaneseCounting") and number < 100:
        tens, ones = divmod(number, 10)
        before = ("" if tens == 1 else _DIGITS[tens]) + "十" if tens else ""
        return before + (_DIGITS[ones] if ones or not tens else "")
    return str(number)


def _roman(number: int) -> str:
    text = ""
    for value, letters in _ROMAN:
        text += letters * (number // value)
        number %= value
    return text

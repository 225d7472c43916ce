"""Styles of Word documents: headings, list numbers and hidden text that they carry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nsa_cli.documents.formats.ooxml import attribute, child, children, switched_on

LEVELS = 9
_LONGEST_CHAIN = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """What a paragraph or character style says about text.

    Attributes:
        name: As Word shows it, such as `heading 1`.
        base: The identifier of the style that it inherits from.
        numbering: The identifier of its list and the level in it, each None if not given.
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
            if level != name and level.isdecimal() and 1 <= int(level) <= LEVELS:
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

"""The parts of a Word document beside its main part."""

from __future__ import annotations

from typing import Any

from nsa_cli.documents.formats.ooxml import attribute, children, parse_xml
from nsa_cli.documents.formats.word_numbers import Numbering
from nsa_cli.documents.formats.word_styles import Styles

_SEPARATORS = ("separator", "continuationSeparator", "continuationNotice")


class WordParts:
    """The parts of a package that the main part refers to.

    Args:
        main: The main part, as python-docx opens it.

    Attributes:
        shown: Roots of the parts with text that were opened, the main part first.
    """

    def __init__(self, main: Any) -> None:
        self._main = main
        self.shown: list[Any] = []
        self.styles = Styles(self.by_type("styles"))
        self.numbering = Numbering(self.by_type("numbering"), self.styles)
        self.settings = self.by_type("settings")
        self.notes = {
            name: self._notes(name, kind)
            for name, kind in (("footnotes", "footnote"), ("endnotes", "endnote"))
        }
        comments = self.by_type("comments")
        self.comments = {attribute(each, "id"): each for each in children(comments, "comment")}
        if comments is not None:
            self.shown.append(comments)

    def by_type(self, kind: str) -> Any:
        """The root of the part that the main part has for a purpose, or None."""
        for relation in self._main.rels.values():
            if relation.reltype.endswith(f"/{kind}") and not relation.is_external:
                return parse_xml(relation.target_part.blob)
        return None

    def by_id(self, identifier: str | None, part: Any = None) -> Any:
        """The part that a relationship leads to, or None for one that is missing or outside."""
        relation = (part or self._main).rels.get(identifier)
        return None if relation is None or relation.is_external else relation.target_part

    def _notes(self, name: str, kind: str) -> dict[str | None, Any]:
        root = self.by_type(name)
        if root is None:
            return {}
        self.shown.append(root)
        return {
            attribute(note, "id"): note
            for note in children(root, kind)
            if attribute(note, "type") not in _SEPARATORS
        }

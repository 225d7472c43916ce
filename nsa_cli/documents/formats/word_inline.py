"""The text inside a paragraph of a Word document, and the objects anchored to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from nsa_cli.documents.formats.equations import linear
from nsa_cli.documents.formats.left_out import HIDDEN_TEXT, LeftOut
from nsa_cli.documents.formats.ooxml import (
    attribute,
    child,
    children,
    descendants,
    is_raised,
    name_of,
    switched_on,
)
from nsa_cli.documents.formats.raised import mark_before
from nsa_cli.documents.formats.word_styles import Styles

_TRANSPARENT = frozenset(
    [
        "hyperlink",
        "ins",
        "moveTo",
        "smartTag",
        "customXml",
        "fldSimple",
        "dir",
        "bdo",
        "sdtContent",
        "sdt",
        "rubyBase",
    ]
)
_DELETED = frozenset(["del", "moveFrom"])
_FILLED = frozenset(["tbl", "txbxContent", "hdr", "ftr"])
_SMALLEST = 4
"""Half-points; type of two points and less cannot be read."""

_SYMBOLS = {
    "wingdings": {0x6F: "☐", 0x71: "☐", 0xA8: "☐", 0xFE: "☒", 0xFD: "☒", 0x78: "☒", 0xFC: "✓"}
    | {0xFB: "✗", 0xE0: "→", 0xDF: "←", 0xA7: "▪", 0xD8: "➢", 0x4A: "☺", 0x28: "☎", 0x2A: "✉"},
    "symbol": dict(enumerate("αβχδεφγηιϕκλμνοπθρστυϖωξψζ", start=0x61))
    | dict(enumerate("ΑΒΧΔΕΦΓΗΙϑΚΛΜΝΟΠΘΡΣΤΥςΩΞΨΖ", start=0x41))
    | {0xA3: "≤", 0xA5: "∞", 0xB0: "°", 0xB1: "±", 0xB3: "≥", 0xB4: "×", 0xB7: "•", 0xB8: "÷"}
    | {0xB9: "≠", 0xBB: "≈", 0xAE: "→", 0xAC: "←", 0xD6: "√", 0xE5: "∑", 0xF2: "∫", 0xB6: "∂"},
}


@dataclass(slots=True, kw_only=True)
class Inline:
    """The text of a paragraph and what is anchored in it.

    Attributes:
        text: Pieces of text in order.
        anchored: Elements whose blocks follow the paragraph: text boxes, drawings, note and comment
            references.
    """

    text: list[str] = field(default_factory=list)
    anchored: list[Any] = field(default_factory=list)


class InlineReader:
    """Reads runs, revisions, fields and symbols.

    Args:
        styles: Of the document, for hidden text.
        left_out: Is told what is left out.
        note_label: Gives a note reference its label.
        hidden: Whether hidden text is read too.
    """

    def __init__(
        self, styles: Styles, left_out: LeftOut, note_label: Callable[[Any], str], *, hidden: bool
    ) -> None:
        self._styles = styles
        self._left_out = left_out
        self._note_label = note_label
        self._hidden = hidden

    def read(self, element: Any, found: Inline, *, hidden: bool = False) -> None:
        """Add the text below an element of a paragraph.

        Args:
            element: A paragraph or anything inside one.
            found: Where it is added.
            hidden: Whether the style of the paragraph hides its text.
        """
        for each in element:
            name = name_of(each)
            if name == "r":
                self._run(each, found, hidden=hidden)
            elif name in _DELETED:
                self._left_out.add("tracked deletion", deleted_text(each))
            elif name == "oMathPara":
                found.text.append(" ".join(linear(math) for math in children(each, "oMath")))
            elif name == "oMath":
                found.text.append(linear(each))
            elif name == "ruby":
                self._ruby(each, found, hidden=hidden)
            elif name in _TRANSPARENT:
                self.read(each, found, hidden=hidden)
            elif name == "commentReference":
                found.anchored.append(each)

    def _run(self, run: Any, found: Inline, *, hidden: bool) -> None:
        properties = child(run, "rPr")
        own = child(properties, "vanish")
        style = attribute(child(properties, "rStyle"), "val")
        if own is not None:
            hidden = switched_on(own)
        elif style is not None:
            hidden = hidden or self._styles.hidden(style)
        hidden = hidden or _too_small(properties) or _white_on_white(run, properties)
        if hidden and not self._hidden:
            text = "".join(each.text or "" for each in children(run, "t"))
            self._left_out.add(HIDDEN_TEXT, text)
            return
        raised = is_raised(run)
        for each in run:
            name = name_of(each)
            if name == "t":
                text = each.text or ""
                before = next((part for part in reversed(found.text) if part), "")
                found.text.append((mark_before(before, text) if raised else "") + text)
                raised = False
            elif name in ("drawing", "pict", "object", "commentReference"):
                found.anchored.append(each)
            elif name in ("footnoteReference", "endnoteReference"):
                found.text.append(self._note_label(each))
                found.anchored.append(each)
            elif name == "ruby":
                self._ruby(each, found, hidden=hidden)
            else:
                found.text.append(self._special(each, name))

    def _special(self, element: Any, name: str) -> str:
        if name in ("tab", "ptab"):
            return "\t"
        if name in ("br", "cr"):
            return " "
        if name == "noBreakHyphen":
            return "-"
        if name == "sym":
            return self._symbol(element)
        if name == "fldChar":
            return _form_field(element)
        return ""

    def _symbol(self, element: Any) -> str:
        font = (attribute(element, "font", "") or "").lower()
        code = attribute(element, "char", "") or ""
        try:
            number = int(code, 16)
        except ValueError:
            return ""
        table = _SYMBOLS.get("symbol" if font.startswith("symbol") else font, {})
        known = table.get(number & 0xFF)
        if known is not None:
            return known
        if not 0xE000 <= number <= 0xF8FF:
            return chr(number)
        self._left_out.count("symbol of a picture font")
        return "�"

    def _ruby(self, element: Any, found: Inline, *, hidden: bool) -> None:
        """Base text with its reading in parentheses: 漢字(かんじ)."""
        self.read(child(element, "rubyBase"), found, hidden=hidden)
        reading = child(element, "rt")
        if reading is not None:
            found.text.append("(")
            self.read(reading, found, hidden=hidden)
            found.text.append(")")


def _too_small(properties: Any) -> bool:
    size = attribute(child(properties, "sz"), "val", "") or ""
    return size.isdecimal() and int(size) <= _SMALLEST


def _white_on_white(run: Any, properties: Any) -> bool:
    """Whether a run is white in a body paragraph without shading; tables and boxes have fills."""
    if (attribute(child(properties, "color"), "val", "") or "").upper() != "FFFFFF":
        return False
    if child(properties, "shd") is not None or child(properties, "highlight") is not None:
        return False
    parent = run.getparent()
    while parent is not None:
        if name_of(parent) in _FILLED or child(parent, "pPr", "shd") is not None:
            return False
        if name_of(parent) == "document" and child(parent, "background") is not None:
            return False
        parent = parent.getparent()
    return True


def deleted_text(element: Any) -> str:
    """The words of a tracked deletion."""
    return " ".join(each.text or "" for each in descendants(element, "t", "delText"))


def _form_field(element: Any) -> str:
    """What a legacy form field shows: a box, or the chosen entry of a list."""
    data = child(element, "ffData")
    box = child(data, "checkBox")
    if box is not None:
        state = child(box, "checked")
        return "☒" if switched_on(state if state is not None else child(box, "default")) else "☐"
    entries = children(child(data, "ddList"), "listEntry")
    if entries:
        chosen = child(data, "ddList", "result")
        if chosen is None:
            chosen = child(data, "ddList", "default")
        at = attribute(chosen, "val", "0") or "0"
        if at.isdecimal() and int(at) < len(entries):
            return attribute(entries[int(at)], "val", "") or ""
    return ""

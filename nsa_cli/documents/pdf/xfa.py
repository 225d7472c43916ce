"""The words of an XFA form, whose pages only Adobe's programs draw."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from xml.etree import ElementTree

from pypdf import PdfReader

from nsa_cli.documents.pdf.objects import array, dictionary, resolved, stream, string

Element = ElementTree.Element

_CONTAINERS = frozenset({"template", "subform", "subformSet", "area", "pageSet", "pageArea"})
_BARE_AMPERSAND = re.compile(rb"&(?!#?\w{1,12};)")
_UNSEEN = frozenset({"hidden", "invisible", "inactive"})
_MOST_BYTES = 2**26
_DEEPEST = 60
_MOST_ROWS = 10_000

_CHECKED = "☒"


def is_xfa(reader: PdfReader) -> bool:
    """Whether the pages of a PDF are drawn by an XFA form."""
    form = dictionary(reader.root_object.get("/AcroForm"))
    needed = reader.root_object.get("/NeedsRendering") or not form.get("/Fields")
    return "/XFA" in form and bool(needed)


def xfa_text(reader: PdfReader) -> str | None:
    """The labels, texts and values of an XFA form, one a line; None if it cannot be read.

    Parts that are not shown are left out: hidden ones, and rows of the template without data that
    need not be there. Scripts are not run, so that the text is that of the form as it was saved.
    """
    packets = _packets(dictionary(reader.root_object.get("/AcroForm")).get("/XFA"))
    template, data = packets.get("template"), packets.get("datasets")
    if template is None:
        return None
    records = [each for each in data if _tag(each) == "data"] if data is not None else []
    record = records[0] if records else Element("data")
    walk = _Walk()
    walk.container(template, record, 0)
    walk.unbound(record)
    return "\n".join(walk.lines)


def _packets(value: object) -> dict[str, Element]:
    """The packets of a form by name, whether they are one stream or several."""
    value = resolved(value)
    parts = array(value)
    if parts:
        pairs = zip(parts[::2], parts[1::2], strict=False)
        named = {string(name): stream(part) for name, part in pairs}
        roots = [_parsed(named.get(name)) for name in ("template", "datasets")]
    else:
        whole = _parsed(stream(value))
        roots = list(whole) if whole is not None else []
    return {_tag(root): root for root in roots if root is not None}


def _parsed(data: bytes | None) -> Element | None:
    if not data or len(data) > _MOST_BYTES or b"<!DOCTYPE" in data or b"<!ENTITY" in data:
        return None
    for attempt in (data, _BARE_AMPERSAND.sub(b"&amp;", data)):
        with suppress(ElementTree.ParseError):
            return ElementTree.fromstring(attempt)
    return None


class _Walk:
    """Reads a template in its order, with the values of a record of data."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._bound: set[Element] = set()

    def container(self, element: Element, data: Element, depth: int) -> None:
        """Read what is inside a part of the template.

        Args:
            element: The part.
            data: Where the values of its fields are.
            depth: How many parts it is inside of.
        """
        for child in element if depth < _DEEPEST else ():
            tag = _tag(child)
            if child.get("presence") in _UNSEEN:
                self._bound.update(_of_name(data, child.get("name")))
            elif tag == "draw":
                self._line(_text(_child(child, "value")))
            elif tag == "field":
                self._field(child, data)
            elif tag == "exclGroup":
                self._choice(child, data)
            elif tag in _CONTAINERS:
                for inside in self._instances(child, data):
                    self.container(child, inside, depth + 1)

    def unbound(self, data: Element) -> None:
        """Read the values of a record that no field shows."""
        for child in data:
            if len(child):
                self.unbound(child)
            elif child not in self._bound and (child.text or "").strip():
                self._line(f"{_tag(child)}: {child.text}")

    def _instances(self, part: Element, data: Element) -> Sequence[Element]:
        """Where the values of each instance of a part are."""
        found = _of_name(data, part.get("name")) if _tag(part) == "subform" else []
        if found:
            return found[:_MOST_ROWS]
        occurs = _child(part, "occur")
        fewest = occurs.get("initial", occurs.get("min", "1")) if occurs is not None else "1"
        return [] if fewest == "0" else [data]

    def _field(self, field: Element, data: Element) -> None:
        label = _text(_child(_child(field, "caption"), "value"))
        kinds = {_tag(kind) for kind in _child(field, "ui") or ()}
        values = [each for each in _of_name(data, field.get("name")) if each not in self._bound]
        self._bound.update(values[:1])
        value = "".join(values[0].itertext()) if values else _text(_child(field, "value"))
        value = _shown(field, value.strip())
        if "passwordEdit" in kinds or "button" in kinds:
            value = ""
        elif "checkButton" in kinds:
            value = _CHECKED if value and value == _on(field) else ""
        self._line(f"{label} {value}")

    def _choice(self, group: Element, data: Element) -> None:
        """Read boxes of which one is checked: the group has the value of that one."""
        values = [each for each in _of_name(data, group.get("name")) if each not in self._bound]
        value = "".join(values[0].itertext()).strip() if values else ""
        for field in group:
            if _tag(field) == "field" and field.get("presence") not in _UNSEEN:
                chosen = bool(value) and value == _on(field)
                self._bound.update(values[:chosen])
                label = _text(_child(_child(field, "caption"), "value"))
                self._line(f"{label} {_CHECKED if chosen else ''}")

    def _line(self, text: str) -> None:
        self.lines += filter(None, (" ".join(line.split()) for line in text.splitlines()))


def _tag(element: Element) -> str:
    """The name of an element without its namespace."""
    return element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""


def _child(element: Element | None, tag: str) -> Element | None:
    """The first child of a name."""
    children: Iterable[Element] = () if element is None else element
    return next((each for each in children if _tag(each) == tag), None)


def _of_name(data: Element, name: str | None) -> list[Element]:
    """The values or groups of values of a name."""
    return [each for each in data if name and _tag(each) == name]


def _text(value: Element | None) -> str:
    """The text of a value, which may hold paragraphs of HTML."""
    return "".join(_pieces(value)).strip() if value is not None else ""


def _pieces(element: Element) -> Iterator[str]:
    if _tag(element) in ("image", "arc", "line", "rectangle"):
        return
    if _tag(element) in ("p", "br", "div", "li"):
        yield "\n"
    yield element.text or ""
    for child in element:
        yield from _pieces(child)
        yield child.tail or ""


def _shown(field: Element, value: str) -> str:
    """What a list shows for the value that it saves."""
    lists = [[_text(item) for item in each] for each in field if _tag(each) == "items"]
    if len(lists) == 2 and value in lists[1]:
        at = lists[1].index(value)
        return lists[0][at] if at < len(lists[0]) else value
    return value


def _on(field: Element) -> str:
    """The value of a box that is checked."""
    items = _child(field, "items")
    return _text(items[0]) if items is not None and len(items) else "1"

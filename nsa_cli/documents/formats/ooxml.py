"""Office Open XML packages: their XML parts, and what their libraries do not open by themselves."""

from __future__ import annotations

import io
import re
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from nsa_cli.documents.formats.raised import mark_before
from nsa_cli.documents.missing import need

_STRICT = b"http://purl.oclc.org/ooxml/"
_STRICT_NAMES = re.compile(rb"http://purl\.oclc\.org/ooxml/(\w+)/(\w+)")
_OFFICE = rb"application/vnd\.(?:ms-\w+|openxmlformats-officedocument)\."
_MAIN_TYPES = (
    (
        re.compile(
            _OFFICE + rb"(?:document\.macroEnabled|template\.macroEnabledTemplate"
            rb"|wordprocessingml\.template)\.main\+xml"
        ),
        b"application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml",
    ),
    (
        re.compile(
            _OFFICE + rb"(?:(?:slideshow|template|presentation)\.macroEnabled"
            rb"|presentationml\.(?:slideshow|template))\.main\+xml"
        ),
        b"application/vnd.openxmlformats-officedocument.presentationml.presentation.main+xml",
    ),
)
"""Content types of main parts that a library refuses, and the one that it takes."""

_WORD = re.compile(r"\w+")
_SHOWN_WORDS = 6


def transitional(data: bytes) -> bytes:
    """A package with the names that the libraries know.

    Strict Office Open XML uses other namespaces for the same elements. Templates, slide shows and
    documents with macros have other content types. Other packages are returned as they are.
    """
    with zipfile.ZipFile(io.BytesIO(data)) as package:
        types = package.read("[Content_Types].xml")
        strict = _STRICT in package.read("_rels/.rels")
        if not strict and not any(found.search(types) for found, _ in _MAIN_TYPES):
            return data
        written = io.BytesIO()
        with zipfile.ZipFile(written, "w") as copy:
            for member in package.infolist():
                content = package.read(member)
                if member.filename == "[Content_Types].xml":
                    for found, usual in _MAIN_TYPES:
                        content = found.sub(usual, content)
                elif member.filename.endswith((".xml", ".rels")):
                    content = _STRICT_NAMES.sub(
                        rb"http://schemas.openxmlformats.org/\1/2006/\2", content
                    )
                copy.writestr(member.filename, content)
    return written.getvalue()


def parse_xml(data: bytes) -> Any:
    """The root element of an XML part; entities are not expanded.

    Each `mc:AlternateContent` is replaced by its first choice, which newer programs show, so that
    a shape is not read again from its fallback.
    """
    etree = need("lxml.etree", "lxml", "Office files")
    root = etree.fromstring(data, etree.XMLParser(resolve_entities=False, no_network=True))
    for alternate in [each for each in root.iter() if name_of(each) == "AlternateContent"]:
        chosen = next((each for each in alternate if name_of(each) == "Choice"), None)
        if chosen is None:
            chosen = next(iter(alternate), None)
        parent = alternate.getparent()
        if parent is None:
            continue
        at = parent.index(alternate)
        parent[at : at + 1] = [] if chosen is None else list(chosen)
    return root


def name_of(element: Any) -> str:
    """The name of an element without its namespace; empty for a comment."""
    tag = element.tag
    return tag.rpartition("}")[2] if isinstance(tag, str) else ""


def child(element: Any, *path: str) -> Any:
    """The first descendant that names of children lead to, or None."""
    for name in path:
        if element is None:
            return None
        element = next((each for each in element if name_of(each) == name), None)
    return element


def children(element: Any, name: str) -> list[Any]:
    """The children with a name."""
    return [] if element is None else [each for each in element if name_of(each) == name]


def descendants(element: Any, *names: str) -> Iterator[Any]:
    """The descendants that have one of some names, in order."""
    return (each for each in element.iter() if name_of(each) in names)


def attribute(element: Any, name: str, default: str | None = None) -> str | None:
    """The value of an attribute in any namespace."""
    if element is not None:
        for key, value in element.attrib.items():
            if key.rpartition("}")[2] == name:
                return str(value)
    return default


def switched_on(element: Any) -> bool:
    """Whether an on/off property is present and on."""
    return element is not None and attribute(element, "val", "1") not in ("0", "false", "off")


def is_raised(run: Any) -> bool:
    """Whether a run of Word or of DrawingML is written as an exponent."""
    properties = child(run, "rPr")
    share = (attribute(properties, "baseline") or "").removesuffix("%")
    return attribute(child(properties, "vertAlign"), "val") == "superscript" or (
        share.isdecimal() and int(share) > 0
    )


def unplaced(roots: Iterable[Any], text: str, what: str) -> list[str]:
    """A warning about words of some parts that did not come into a text.

    This is a second count that shares no code with the readers: it takes the text of each `t`
    element in turn, apart from equations, whose words depend on how they are written.

    Args:
        roots: Of the parts that a reader sees.
        text: What was read, and what was left out and told.
        what: A name for all of them, such as `the document`.
    """
    wanted: Counter[str] = Counter()
    for root in roots:
        wanted.update(_WORD.findall(_text_of(root)))
    missing = wanted - Counter(_WORD.findall(text))
    if not missing:
        return []
    shown = " ".join(list(missing)[:_SHOWN_WORDS])
    count = missing.total()
    words = "1 word" if count == 1 else f"{count:,} words"
    return [f"{words} of {what} could not be placed and were left out: {shown}"]


_BREAKS = frozenset(
    [
        "p",
        "rt",
        "rubyBase",
        "tab",
        "br",
        "cr",
        "tc",
        "ptab",
        "footnoteReference",
        "endnoteReference",
    ]
)


def _text_of(root: Any) -> str:
    parts: list[str] = []
    for element in root.iter():
        name = name_of(element)
        if name == "t" and "math" not in element.tag:
            text = element.text or ""
            if element.getparent() is not None and is_raised(element.getparent()):
                parts.append(mark_before(parts[-1] if parts else "", text))
            parts.append(text)
        elif name in _BREAKS:
            parts.append("\n")
        elif name in ("noBreakHyphen", "sym"):
            parts.append("-")
    return "".join(parts)

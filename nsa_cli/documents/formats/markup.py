"""XML in the charset that it declares."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from nsa_cli.documents.build import Builder
from nsa_cli.documents.document import Document
from nsa_cli.documents.formats.ooxml import name_of, parse_xml
from nsa_cli.documents.formats.records import LONGEST_LINE
from nsa_cli.documents.formats.web import declared_charset
from nsa_cli.documents.text import read_text

_OPEN_DOCUMENT = "{urn:oasis:names:tc:opendocument:xmlns:office:1.0}document"
_MOST_DEPTH = 200


def read(data: bytes, name: str, *, hidden: bool = False) -> Document:
    """Read XML as plain text, or value by value if its lines are too long to read.

    There each text is a line after the names of its elements, and the children of the root, where
    they repeat, are records.

    Args:
        data: The file.
        name: For citations and messages.
        hidden: Whether hidden text is read, for a flat OpenDocument file.

    Raises:
        UnreadableError: If it is empty or no text.
    """
    if b"opendocument:xmlns:office" in data[:4096]:
        from nsa_cli.documents.formats import open_document

        return open_document.read(data, name, hidden=hidden)
    source = read_text(data, name, declared_charset(data))
    if max(map(len, source.text.split("\n"))) <= LONGEST_LINE:
        return source
    try:
        root = parse_xml(data)
    except Exception:  # any error of the parser: the text is still there
        return source
    builder = Builder(name, "record")
    names = [name_of(each) for each in root]
    if len(names) > len(set(names)):
        for number, each in enumerate(root, start=1):
            builder.add("\n".join(_lines(each, "")), page=number)
    else:
        builder.add("\n".join(_lines(root, "")))
    return builder.document(source.warnings)


def _lines(element: Any, path: str, depth: int = 0) -> Iterator[str]:
    """The texts below an element, each after its path; a sentence with marked words stays whole."""
    name = name_of(element)
    if not name:
        return
    path = f"{path}/{name}" if path else name
    for key, value in element.attrib.items():
        yield f"{path} {key.rpartition('}')[2]}: {' '.join(value.split())}"
    mixed = [element.text, *(each.tail for each in element)]
    if depth > _MOST_DEPTH or len(element) == 0 or any(text and text.strip() for text in mixed):
        text = " ".join("".join(element.itertext()).split())
        if text:
            yield f"{path}: {text}"
        return
    for each in element:
        yield from _lines(each, path, depth + 1)

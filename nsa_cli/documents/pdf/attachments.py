"""Files embedded in a PDF."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pypdf import PdfReader
from pypdf.generic import ArrayObject, DictionaryObject, StreamObject

_MOST_FILES = 200
_MOST_BYTES = 2**28


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file embedded in a PDF.

    Attributes:
        name: As the PDF gives it.
        data: Its bytes; None if they cannot be read.
    """

    name: str
    data: bytes | None


def read_attachments(reader: PdfReader, annotated: Sequence[int]) -> list[Attachment]:
    """The files of the catalog's list and of the pages' file annotations, each once.

    Args:
        reader: The PDF.
        annotated: Pages with annotations other than links, counted from 0.
    """
    found: dict[int | str, Attachment] = {}
    size = 0
    for specification in _specifications(reader, annotated):
        if len(found) >= _MOST_FILES:
            break
        name = _name(specification)
        embedded = specification.get("/EF")
        embedded = embedded.get_object() if embedded is not None else None
        stream = None
        if isinstance(embedded, DictionaryObject):
            stream = embedded.get("/UF") or embedded.get("/F")
            stream = stream.get_object() if stream is not None else None
        try:
            data = stream.get_data() if isinstance(stream, StreamObject) else None
        except Exception:  # pypdf leaks exceptions of many types from damaged streams.
            data = None
        size += len(data or b"")
        key = name if data is None else hash((name, data))
        found.setdefault(key, Attachment(name, data if size <= _MOST_BYTES else None))
    return list(found.values())


def _specifications(reader: PdfReader, annotated: Sequence[int]) -> Iterator[DictionaryObject]:
    """File specifications of a document."""
    names = reader.root_object.get("/Names")
    names = names.get_object() if names is not None else None
    if isinstance(names, DictionaryObject) and "/EmbeddedFiles" in names:
        yield from _in_tree(names["/EmbeddedFiles"], 0)
    for index in annotated:
        annotations = reader.pages[index].get("/Annots")
        annotations = annotations.get_object() if annotations is not None else None
        for reference in annotations if isinstance(annotations, ArrayObject) else ():
            annotation = reference.get_object()
            if (
                isinstance(annotation, DictionaryObject)
                and annotation.get("/Subtype") == "/FileAttachment"
                and isinstance(annotation.get("/FS"), DictionaryObject)
            ):
                yield annotation["/FS"]


def _in_tree(node: object, depth: int) -> Iterator[DictionaryObject]:
    """The values of a name tree."""
    if not isinstance(node, DictionaryObject) or depth > 20:
        return
    kids, names = node.get("/Kids"), node.get("/Names")
    for kid in kids.get_object() if kids is not None else ():
        yield from _in_tree(kid.get_object(), depth + 1)
    for value in (names.get_object() if names is not None else ())[1::2]:
        if isinstance(specification := value.get_object(), DictionaryObject):
            yield specification


def _name(specification: DictionaryObject) -> str:
    for key in ("/UF", "/F", "/Desc"):
        value = specification.get(key)
        value = value.get_object() if value is not None else None
        if isinstance(value, str) and value.strip():
            return " ".join(value.split())
    return "a file without a name"

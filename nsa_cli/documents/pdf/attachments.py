"""Files embedded in a PDF."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pypdf import PdfReader
from pypdf.generic import DictionaryObject

from nsa_cli.documents.pdf.objects import array, dictionary, stream, string

_MOST_FILES = 200
_MOST_BYTES = 2**28
_DEEPEST = 20


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
    found: dict[tuple[str, bytes | None], Attachment] = {}
    size = 0
    for specification in _specifications(reader, annotated):
        if len(found) >= _MOST_FILES:
            break
        embedded = dictionary(specification.get("/EF"))
        data = stream(embedded.get("/UF") or embedded.get("/F"))
        size += len(data or b"")
        attachment = Attachment(_name(specification), data if size <= _MOST_BYTES else None)
        found.setdefault((attachment.name, attachment.data), attachment)
    return list(found.values())


def _specifications(reader: PdfReader, annotated: Sequence[int]) -> Iterator[DictionaryObject]:
    """File specifications of a document that have an embedded file."""
    names = dictionary(reader.root_object.get("/Names"))
    yield from _in_tree(dictionary(names.get("/EmbeddedFiles")), 0)
    for index in annotated:
        for annotation in map(dictionary, array(reader.pages[index].get("/Annots"))):
            specification = dictionary(annotation.get("/FS"))
            if annotation.get("/Subtype") == "/FileAttachment" and "/EF" in specification:
                yield specification


def _in_tree(node: DictionaryObject, depth: int) -> Iterator[DictionaryObject]:
    """The values of a name tree."""
    if depth > _DEEPEST:
        return
    for kid in array(node.get("/Kids")):
        yield from _in_tree(dictionary(kid), depth + 1)
    for value in array(node.get("/Names"))[1::2]:
        if specification := dictionary(value):
            yield specification


def _name(specification: DictionaryObject) -> str:
    for key in ("/UF", "/F", "/Desc"):
        name = " ".join((string(specification.get(key)) or "").split())
        if name:
            return name
    return "a file without a name"

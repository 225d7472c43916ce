"""EPUB books: one piece per chapter, in the order of the spine."""

from __future__ import annotations

import io
import posixpath
import zipfile
from urllib.parse import unquote
from xml.etree import ElementTree

from nsa_cli.documents.build import Builder
from nsa_cli.documents.decoding import decode_anyhow
from nsa_cli.documents.document import Document
from nsa_cli.documents.formats.archive import as_broken
from nsa_cli.documents.formats.left_out import LeftOut
from nsa_cli.documents.formats.web import blocks, declared_charset

_CONTAINER = "{urn:oasis:names:tc:opendocument:xmlns:container}"
_PACKAGE = "{http://www.idpf.org/2007/opf}"


def read(data: bytes, name: str, *, hidden: bool = False) -> Document:
    """Read an .epub.

    Args:
        data: The file.
        name: For citations and messages.
        hidden: Whether text that a reader does not show is read.

    Raises:
        UnreadableError: If it is damaged or has no text.
    """
    builder = Builder(name, "chapter")
    left_out = LeftOut()
    told: list[str] = []
    with as_broken(name, "EPUB book"), zipfile.ZipFile(io.BytesIO(data)) as archive:
        for number, path in enumerate(_spine(archive, left_out), start=1):
            content = archive.read(path)
            text, warnings = decode_anyhow(content, declared_charset(content))
            told += [f"chapter {number}: {warning}" for warning in warnings]
            found = blocks(text, left_out, hidden=hidden)
            builder.add("\n".join(block.prefix + block.text for block in found), page=number)
    return builder.document([*told, *left_out.warnings()])


def _spine(archive: zipfile.ZipFile, left_out: LeftOut) -> list[str]:
    """Paths of the chapters, in order; report and skip missing ones."""
    container = ElementTree.fromstring(archive.read("META-INF/container.xml"))
    root = next(container.iter(f"{_CONTAINER}rootfile")).attrib["full-path"]
    package = ElementTree.fromstring(archive.read(root))
    hrefs = {item.attrib["id"]: item.attrib["href"] for item in package.iter(f"{_PACKAGE}item")}
    folder = posixpath.dirname(root)
    paths = [
        posixpath.normpath(posixpath.join(folder, unquote(hrefs[ref.attrib["idref"]])))
        for ref in package.iter(f"{_PACKAGE}itemref")
        if ref.attrib["idref"] in hrefs
    ]
    there = set(archive.namelist())
    for path in paths:
        if path not in there:
            left_out.add("missing chapter", path)
    return [path for path in paths if path in there]

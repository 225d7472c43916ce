"""EPUB books: one piece per chapter, in the order of the spine."""

from __future__ import annotations

import io
import posixpath
import zipfile
from urllib.parse import unquote
from xml.etree import ElementTree

from nsa_cli.documents.build import Builder
from nsa_cli.documents.document import Document
from nsa_cli.documents.formats.archive import as_broken
from nsa_cli.documents.formats.web import blocks

_CONTAINER = "{urn:oasis:names:tc:opendocument:xmlns:container}"
_PACKAGE = "{http://www.idpf.org/2007/opf}"


def read(data: bytes, name: str) -> Document:
    """Read an .epub.

    Raises:
        UnreadableError: If it is damaged or has no text.
    """
    builder = Builder(name, "chapter")
    with as_broken(name, "EPUB book"), zipfile.ZipFile(io.BytesIO(data)) as archive:
        for number, path in enumerate(_spine(archive), start=1):
            text = archive.read(path).decode("utf-8", "replace")
            lines = [block.prefix + block.text for block in blocks(text)]
            builder.add("\n".join(lines), page=number)
    return builder.document()


def _spine(archive: zipfile.ZipFile) -> list[str]:
    """Paths of the chapters, in order; those that are not there are left out."""
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
    return [path for path in paths if path in there]

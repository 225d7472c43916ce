"""Pictures in office files, books and web pages, which may hold text: named, or read by OCR."""

from __future__ import annotations

import base64
import binascii
import io
import posixpath
import re
import struct
import textwrap
import urllib.parse
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from nsa_cli.documents.build import Builder
from nsa_cli.documents.document import Document
from nsa_cli.documents.formats.ooxml import attribute, descendants, name_of, parse_xml

_LEAST_SIDE, _LEAST_AREA = 32, 20_000
"""Pixels of a picture that a line of text fits in; smaller ones are marks and icons."""

_LEAST_BYTES = 1500
"""The same for pictures whose size is not known."""

_REPEATED = 3
"""Places from which on a picture is an ornament, such as a logo on each slide."""

_SHOWN, _WIDTH = 3, 32
_DATA_URI = re.compile(r"data:image/[\w.+-]+;base64,([\w+/=\s%-]+)", re.IGNORECASE)
_MOST_PICTURES = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A picture of a document.

    Attributes:
        name: Of its file.
        place: Where it stands, such as `slide 3` or `after “Floor plan”`; empty for the beginning.
        data: Its file.
    """

    name: str
    place: str
    data: bytes


def find_pictures(data: bytes, kind: str) -> list[Picture]:
    """The pictures of a file that may hold text, in its order; a repeated one counts once.

    Args:
        data: The file.
        kind: The module of this package that reads it.
    """
    try:
        if kind == "web":
            found = list(_of_page(data))
        else:
            with zipfile.ZipFile(io.BytesIO(data)) as package:
                found = list(_of_package(package, kind))
    except MemoryError:
        raise
    except Exception:  # Damaged packages raise exceptions of many types; the text was read.
        return []
    places = Counter(picture.data for picture in found)
    once: dict[bytes, Picture] = {}
    for picture in found[:_MOST_PICTURES]:
        if places[picture.data] < _REPEATED and _may_hold_text(picture.data):
            once.setdefault(picture.data, picture)
    return list(once.values())


def about_pictures(pictures: Sequence[Picture]) -> str:
    """The warning about pictures that are not read."""
    places = list(dict.fromkeys(picture.place for picture in pictures if picture.place))
    some = ", ".join(places[:_SHOWN]) + (" and more" if len(places) > _SHOWN else "")
    one = len(pictures) == 1
    return (
        f"{len(pictures):,} picture{'' if one else 's'} may hold text that is not read"
        f"{f' ({some})' if some else ''}; --ocr reads {'it' if one else 'them'}"
    )


def read_pictures(
    document: Document | None, pictures: Sequence[Picture], name: str, ocr: str
) -> Document:
    """Add the text of pictures to a document, each under a line with its name.

    Args:
        document: None if it has no text besides.
        pictures: At least one.
        name: Of the file; a picture is cited as `deck.pptx/image3.png`.
        ocr: Languages, as Tesseract names them.

    Raises:
        UnreadableError: If OCR is not installed, or nothing has text.
        UsageError: If Tesseract does not know a language.
    """
    from nsa_cli.documents.ocr import recognize_pictures

    texts = recognize_pictures([picture.data for picture in pictures], ocr)
    builder = Builder(name)
    warnings: list[str] = []
    if document is not None:
        builder.graft(document, head="")
        warnings += document.warnings
    read = 0
    for picture, text in zip(pictures, texts, strict=True):
        if text is not None and text.strip():
            inner = Builder(f"{name}/{picture.name}")
            inner.add(text)
            builder.graft(inner.document())
            read += 1
    if read:
        one = read == 1
        warnings.append(
            f"the text of {read:,} picture{'' if one else 's'} was read by OCR, which may be wrong "
            "in places"
        )
    unread = [picture for picture, text in zip(pictures, texts, strict=True) if text is None]
    if unread:
        warnings.append(about_pictures(unread).partition(";")[0])
    return builder.document(warnings)


def _may_hold_text(data: bytes) -> bool:
    size = _size_of(data)
    if size is None:
        return len(data) >= _LEAST_BYTES
    return min(size) >= _LEAST_SIDE and size[0] * size[1] >= _LEAST_AREA


def _size_of(data: bytes) -> tuple[int, int] | None:
    """Width and height of a picture in pixels; None if its format is another."""
    if data[:8] == b"\x89PNG\r\n\x1a\n" and len(data) >= 24:
        width, height = struct.unpack(">II", data[16:24])
        return width, height
    if data[:4] == b"GIF8" and len(data) >= 10:
        width, height = struct.unpack("<HH", data[6:10])
        return width, height
    at = 2 if data[:2] == b"\xff\xd8" else len(data)
    while at + 9 < len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack(">HH", data[at + 5 : at + 9])
            return width, height
        at += 2 + length
    return None


def _of_page(data: bytes) -> Iterator[Picture]:
    """Pictures inside a web page; those beside it are other files."""
    for number, found in enumerate(_DATA_URI.finditer(data.decode("latin-1")), start=1):
        try:
            inside = base64.b64decode(urllib.parse.unquote(found[1]))
        except (binascii.Error, ValueError):
            continue
        yield Picture(name=f"picture {number}", place="", data=inside)


def _of_package(package: zipfile.ZipFile, kind: str) -> Iterator[Picture]:
    if kind == "word":
        yield from _pictures_in(package, "word/document.xml", after=True)
    elif kind == "slides":
        for number, part in enumerate(_in_order(package, "ppt/presentation.xml", "sldId"), start=1):
            yield from _pictures_in(package, part, f"slide {number}")
    elif kind == "sheets":
        for name, part in _sheets(package):
            for drawing in _relations(package, part).values():
                if "/drawings/" in drawing:
                    yield from _pictures_in(package, drawing, f"sheet {name}")
    elif kind == "open_document":
        yield from _pictures_in(package, "content.xml", after=True)
    elif kind == "book":
        for part in sorted(package.namelist()):
            if part.endswith((".xhtml", ".html", ".htm")):
                yield from _pictures_in(package, part, f"in {posixpath.basename(part)}")


def _pictures_in(
    package: zipfile.ZipFile, part: str, place: str = "", *, after: bool = False
) -> Iterator[Picture]:
    """The pictures that a part shows.

    Args:
        package: The file.
        part: Name of the part.
        place: Of the part.
        after: Whether a picture's place is named by the words before it.
    """
    if part not in package.namelist():
        return
    relations, words, slides = _relations(package, part), "", 0
    names = set(package.namelist())
    for each in parse_xml(package.read(part)).iter():
        name = name_of(each)
        # Word has numbers of points in other elements.
        is_text = name == "t" if part.startswith("word/") else name not in ("script", "style")
        if is_text and each.text and each.text.strip():
            words = each.text
        if name == "page":
            slides += 1
            place = f"slide {slides}"
        for target in _targets(each, name, relations, part):
            if target in names:
                before = textwrap.shorten(words, _WIDTH, placeholder="…")
                yield Picture(
                    name=posixpath.basename(target),
                    place=f"after “{before}”" if after and before and not place else place,
                    data=package.read(target),
                )


def _targets(element: Any, name: str, relations: dict[str, str], part: str) -> Iterator[str]:
    """The members of a package that an element shows as pictures."""
    if name == "blip":
        yield relations.get(attribute(element, "embed") or "", "")
    elif name == "imagedata":
        parent = element.getparent()
        inside = [name_of(each) for each in parent.itersiblings()] if parent is not None else []
        if "OLEObject" not in inside:
            yield relations.get(attribute(element, "id") or "", "")
    elif name in ("image", "img"):
        href = attribute(element, "href") or attribute(element, "src") or ""
        folder = posixpath.dirname(part)
        yield posixpath.normpath(posixpath.join(folder, urllib.parse.unquote(href)))


def _relations(package: zipfile.ZipFile, part: str) -> dict[str, str]:
    """The members that a part refers to, by the identifiers of its relationships."""
    folder, name = posixpath.split(part)
    beside = f"{folder}/_rels/{name}.rels"
    if beside not in package.namelist():
        return {}
    found = {}
    for each in descendants(parse_xml(package.read(beside)), "Relationship"):
        target = attribute(each, "Target", "") or ""
        if attribute(each, "TargetMode") != "External":
            whole = posixpath.normpath(posixpath.join("/", folder, target))
            found[attribute(each, "Id") or ""] = whole.lstrip("/")
    return found


def _in_order(package: zipfile.ZipFile, part: str, name: str) -> Iterator[str]:
    """The members that a part lists, in its order."""
    relations = _relations(package, part)
    for each in descendants(parse_xml(package.read(part)), name):
        # A slide has two identifiers: its own, and that of its relationship.
        yield next((relations[value] for value in each.attrib.values() if value in relations), "")


def _sheets(package: zipfile.ZipFile) -> Iterator[tuple[str, str]]:
    parts = _in_order(package, "xl/workbook.xml", "sheet")
    names = descendants(parse_xml(package.read("xl/workbook.xml")), "sheet")
    for part, sheet in zip(parts, names, strict=False):
        yield attribute(sheet, "name", "") or "", part


def with_pictures(
    read: Document | None, data: bytes, kind: str, name: str, ocr: str | None
) -> Document | None:
    """A document with a warning about its pictures, or with their text.

    Args:
        read: The document; None if it has no text.
        data: Its file.
        kind: The module of this package that reads it.
        name: Of the file.
        ocr: Languages in which pictures are read, or None.
    """
    pictures = find_pictures(data, kind)
    if not pictures:
        return read
    if ocr is not None:
        return read_pictures(read, pictures, name, ocr)
    if read is None:
        return None
    return replace(read, warnings=(*read.warnings, about_pictures(pictures)))

"""Damaged Office Open XML packages, mended as far as their libraries need it to open them."""

from __future__ import annotations

import io
import posixpath
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from nsa_cli.documents.document import Document
from nsa_cli.documents.formats.ooxml import (
    attribute,
    children,
    descendants,
    name_of,
    transitional,
)
from nsa_cli.documents.missing import need
from nsa_models.errors import DoesNotFitError, NsaError

_TYPES = "[Content_Types].xml"
_STYLES = "xl/styles.xml"
_WORKBOOK_KEPT = frozenset(["workbookPr", "sheets", "calcPr"])
_STYLE_ATTRIBUTES = frozenset(["count", "numFmtId", "formatCode", "applyNumberFormat"])
_SHEETS = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"


def read_or_repair(data: bytes, read: Callable[[bytes], Document]) -> Document:
    """Read a package, and where its library refuses it, read it again after a repair.

    Args:
        data: The package.
        read: Reads a package; what it raises tells that the package is damaged.

    Returns:
        What `read` returned, with a warning if the package was repaired.

    Raises:
        Exception: What `read` raised for the package as it is, if the repair does not help.
    """
    try:
        return read(transitional(data))
    except (NsaError, MemoryError):
        raise
    except Exception as damage:
        try:
            document = read(transitional(repaired(data)))
        except (DoesNotFitError, MemoryError):
            raise
        except Exception:
            raise damage from None
        lines = str(damage).splitlines() or [type(damage).__name__]
        told = f"the file is damaged and was repaired ({lines[0][:120]}); text may be missing"
        return replace(document, warnings=(told, *document.warnings))


def repaired(data: bytes) -> bytes:
    """A package without what its libraries refuse and a reader does not need.

    - The names of parts have slashes, and the case in which other parts refer to them.
    - Parts that cannot be unpacked are left out, and so are references to missing parts.
    - Parts that are no well-formed XML are parsed as far as they go.
    - Workbooks keep their sheets and number formats; other styles, defined names and document
      properties are left out.

    Raises:
        zipfile.BadZipFile: If it is no package.
    """
    parts = _unpacked(data)
    roots = {
        name: root
        for name, content in parts.items()
        if name.endswith((".xml", ".rels")) and (root := _root(content)) is not None
    }
    _rename(parts, roots)
    for name in [each for each in parts if each.startswith("docProps/")]:
        del parts[name]
        roots.pop(name, None)
    for name, root in roots.items():
        if name.endswith(".rels"):
            _drop_missing(name, root, parts)
        elif name == "xl/workbook.xml":
            _keep(root, _WORKBOOK_KEPT)
    if _STYLES in roots:
        roots[_STYLES] = _plain_styles(roots[_STYLES])
    return _packed(parts, roots)


def _unpacked(data: bytes) -> dict[str, bytes]:
    """The parts that can be unpacked, under names with slashes."""
    parts = {}
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for member in archive.infolist():
            name = member.filename.replace("\\", "/").lstrip("/")
            if name.endswith("/"):
                continue
            try:
                parts[_TYPES if name.lower() == _TYPES.lower() else name] = archive.read(member)
            except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError):
                continue
    return parts


def _root(content: bytes) -> Any:
    """The root of an XML part, as far as it can be parsed; None for one with a document type."""
    if b"<!DOCTYPE" in content[:4096]:
        return None
    etree = need("lxml.etree", "lxml", "Office files")
    parser = etree.XMLParser(resolve_entities=False, no_network=True, recover=True)
    try:
        return etree.fromstring(content, parser)
    except etree.XMLSyntaxError:
        return None


def _rename(parts: dict[str, bytes], roots: dict[str, Any]) -> None:
    """Give parts the names by which relationships and content types call them."""
    by_case = {name.lower(): name for name in parts}
    for name in [each for each in roots if each.endswith(".rels")]:
        for relation in children(roots[name], "Relationship"):
            wanted = _target(name, relation)
            present = by_case.get(wanted.lower())
            if present is not None and present != wanted and wanted not in parts:
                parts[wanted] = parts.pop(present)
                by_case[wanted.lower()] = wanted
                if present in roots:
                    roots[wanted] = roots.pop(present)
    if _TYPES in roots:
        for each in children(roots[_TYPES], "Override"):
            named = (attribute(each, "PartName") or "").lstrip("/")
            if named in parts:
                continue
            if named.lower() in by_case:
                each.set("PartName", "/" + by_case[named.lower()])
            else:
                roots[_TYPES].remove(each)


def _drop_missing(name: str, root: Any, parts: dict[str, bytes]) -> None:
    for relation in children(root, "Relationship"):
        inside = attribute(relation, "TargetMode") != "External"
        if inside and _target(name, relation) not in parts:
            root.remove(relation)


def _target(name: str, relation: Any) -> str:
    """The part that a relationship leads to, by its name in the package."""
    folder = posixpath.dirname(posixpath.dirname(name))
    target = (attribute(relation, "Target", "") or "").replace("\\", "/")
    return posixpath.normpath(posixpath.join("/", folder, target)).lstrip("/")


def _keep(root: Any, names: frozenset[str]) -> None:
    for each in list(root):
        if name_of(each) not in names:
            root.remove(each)


def _plain_styles(root: Any) -> Any:
    """The number formats of a workbook, by which dates and percentages are told."""
    etree = need("lxml.etree", "lxml", "Office files")
    plain = etree.Element(f"{{{_SHEETS}}}styleSheet", nsmap={None: _SHEETS})
    for part in ("numFmts", "cellXfs"):
        formats = etree.SubElement(plain, f"{{{_SHEETS}}}{part}")
        for group in children(root, part):
            for each in descendants(group, "numFmt", "xf"):
                kept = {k: v for k, v in each.attrib.items() if k in _STYLE_ATTRIBUTES}
                etree.SubElement(formats, f"{{{_SHEETS}}}{name_of(each)}", kept)
    return plain


def _packed(parts: dict[str, bytes], roots: dict[str, Any]) -> bytes:
    etree = need("lxml.etree", "lxml", "Office files")
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        for name, content in parts.items():
            root = roots.get(name)
            archive.writestr(name, content if root is None else etree.tostring(root))
    return written.getvalue()

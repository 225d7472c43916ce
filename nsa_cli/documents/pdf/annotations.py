"""What annotations say: values of form fields, notes and comments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pypdfium2.raw as pdfium_c
from pypdf import PageObject
from pypdf.generic import ArrayObject, DictionaryObject, StreamObject

from nsa_cli.documents.pdf.glyphs import text_objects
from nsa_cli.documents.pdf.objects import array, dictionary, integer, resolved, stream, string
from nsa_cli.documents.pdf.pdfium import address
from nsa_cli.documents.pdf.runs import Run, Style

_TEXT_FIELD, _CHOICE, _BUTTON = "/Tx", "/Ch", "/Btn"
_PASSWORD_FLAG, _PUSH_BUTTON_FLAG = 1 << 13, 1 << 16
_HIDDEN_FLAGS = (1 << 1) | (1 << 5)
"""Annotations that are not shown: hidden, or not for the screen."""

_COMMENTS = frozenset(
    {
        "/Text", "/Highlight", "/Underline", "/Squiggly", "/StrikeOut", "/Caret", "/Ink", "/Line",
        "/Square", "/Circle", "/Polygon", "/PolyLine", "/Stamp",
    }
)  # fmt: skip
"""Annotations that carry a comment, which viewers show beside the page."""

_CHECKED = "☒"


@dataclass(frozen=True, slots=True)
class Notes:
    """What the annotations of a page say and do not draw.

    Attributes:
        runs: Texts at the place of their annotation.
        comments: Comments of readers, with their author if named.
        unreadable: Form fields whose value cannot be read.
    """

    runs: tuple[Run, ...] = ()
    comments: tuple[str, ...] = ()
    unreadable: int = 0


def draw_annotations(page: Any) -> bool:
    """Make what annotations draw part of a page; True if the page has to be loaded again.

    Links draw nothing, and a page whose annotations are all links is left as it is.
    """
    for index in range(pdfium_c.FPDFPage_GetAnnotCount(page)):
        annotation = pdfium_c.FPDFPage_GetAnnot(page, index)
        kind = pdfium_c.FPDFAnnot_GetSubtype(annotation)
        pdfium_c.FPDFPage_CloseAnnot(annotation)
        if kind not in (pdfium_c.FPDF_ANNOT_LINK, pdfium_c.FPDF_ANNOT_POPUP):
            pdfium_c.FPDFPage_Flatten(page, pdfium_c.FLAT_NORMALDISPLAY)
            return True
    return False


def drawn_by_annotations(page: Any, first: int) -> set[int]:
    """Addresses of the text objects that `draw_annotations` added.

    Args:
        page: PDFium's handle of the page, loaded again.
        first: How many objects the page had before.
    """
    found: set[int] = set()
    for index in range(first, pdfium_c.FPDFPage_CountObjects(page)):
        item = pdfium_c.FPDFPage_GetObject(page, index)
        if pdfium_c.FPDFPageObj_GetType(item) == pdfium_c.FPDF_PAGEOBJ_FORM:
            found.update(text_objects(item))
        else:
            found.add(address(item))
    return found


def read_notes(page: PageObject, drawn: str) -> Notes:
    """The values and comments of a page's annotations that are not drawn.

    Args:
        page: The page, by pypdf.
        drawn: The text that the page and its annotations draw.
    """
    runs: list[Run] = []
    comments: list[str] = []
    unreadable = 0
    seen = _letters(drawn)
    for annotation in map(dictionary, array(page.get("/Annots"))):
        kind = annotation.get("/Subtype")
        if kind == "/Widget":
            value = _field_value(annotation)
            unreadable += value is None
        elif kind in _COMMENTS or (kind == "/FreeText" and not _appearance(annotation)):
            value = string(annotation.get("/Contents")) or ""
        else:
            continue
        if not value or not value.strip() or _letters(value) in seen:
            continue
        if integer(annotation.get("/F")) & _HIDDEN_FLAGS:
            continue
        if kind in _COMMENTS:
            author = (string(annotation.get("/T")) or "").strip()
            comments.append(f"Comment{f' by {author}' if author else ''}: {_one_line(value)}")
        else:
            runs += _at(annotation, value)
    return Notes(tuple(runs), tuple(comments), unreadable)


def _field_value(widget: DictionaryObject) -> str | None:
    """The value of a form field, empty if it has none; None if it cannot be read."""
    kind = _inherited(widget, "/FT")
    flags = integer(_inherited(widget, "/Ff"))
    value = _inherited(widget, "/V")
    if kind == _BUTTON:
        state = widget.get("/AS")
        chosen = state not in (None, "/Off") and not flags & _PUSH_BUTTON_FLAG
        return _CHECKED if chosen and b"Tj" not in _appearance(widget) else ""
    if kind not in (_TEXT_FIELD, _CHOICE) or value is None or flags & _PASSWORD_FLAG:
        return ""
    if isinstance(value, StreamObject):
        data = stream(value)
        return None if data is None else data.decode("utf-8", "replace")
    parts = [string(part) for part in (value if isinstance(value, ArrayObject) else [value])]
    return None if None in parts else ", ".join(part for part in parts if part)


def _appearance(annotation: DictionaryObject) -> bytes:
    """The operators that draw an annotation in its present state."""
    normal = resolved(dictionary(annotation.get("/AP")).get("/N"))
    if not isinstance(normal, StreamObject):
        normal = dictionary(normal).get(annotation.get("/AS", "/Off"))
    return stream(normal) or b""


def _at(annotation: DictionaryObject, value: str) -> list[Run]:
    """Runs for the lines of a text at the place of its annotation."""
    try:
        sides = [float(side) for side in array(annotation.get("/Rect"))]
        left, right = sorted((sides[0], sides[2]))
        bottom, top = sorted((sides[1], sides[3]))
    except (IndexError, TypeError, ValueError):
        left = right = bottom = top = 0.0
    lines = [line.strip() for line in value.replace("\r\n", "\n").replace("\r", "\n").split("\n")]
    lines = [line for line in lines if line]
    step = max(1.0, min(12.0, (top - bottom) / max(1, len(lines))))
    style = Style(size=step, direction=(1.0, 0.0), annotation=True)
    runs = []
    for number, line in enumerate(lines):
        base = top - step * (number + 0.8)
        runs.append(
            Run(
                style,
                base,
                left,
                right,
                True,
                text=list(line),
                lefts=[left] * len(line),
                rights=[right] * len(line),
            )
        )
    return runs


def _inherited(field: Any, key: str) -> Any:
    """A value of a form field, or of the nearest field above it that has one."""
    for _ in range(32):
        if not isinstance(field, DictionaryObject):
            return None
        if (value := resolved(field.get(key))) is not None:
            return value
        field = resolved(field.get("/Parent"))
    return None


def _letters(text: str) -> str:
    return "".join(text.split()).casefold()


def _one_line(text: str) -> str:
    return " ".join(text.split())

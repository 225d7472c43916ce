"""Charts, diagrams and text of DrawingML, which all three kinds of Office files hold."""

from __future__ import annotations

from typing import Any

from nsa_cli.documents.formats.equations import linear
from nsa_cli.documents.formats.numerals import formatted
from nsa_cli.documents.formats.ooxml import (
    attribute,
    child,
    children,
    descendants,
    is_raised,
    name_of,
)
from nsa_cli.documents.formats.raised import mark_before


def paragraph_text(paragraph: Any) -> str:
    """The text of an `a:p` with its fields and equations; line breaks become spaces."""
    parts: list[str] = []
    for element in paragraph:
        name = name_of(element)
        if name in ("r", "fld"):
            text = "".join(each.text or "" for each in children(element, "t"))
            parts.append(mark_before("".join(parts[-2:]), text) if is_raised(element) else "")
            parts.append(text)
        elif name == "br":
            parts.append(" ")
        elif name == "m":  # a14:m holds equations
            parts += [linear(each) for each in descendants(element, "oMath")]
        elif name in ("oMath", "oMathPara"):
            parts.append(linear(element))
    return "".join(parts).replace("\v", " ").strip()


def text_lines(element: Any) -> list[str]:
    """The paragraphs of DrawingML below an element that have text."""
    return [text for each in descendants(element, "p") if (text := paragraph_text(each))]


def diagram_lines(root: Any) -> list[str]:
    """The text of a SmartArt diagram, from its data part, an item a line."""
    lines: list[str] = []
    for point in descendants(root, "pt"):
        if attribute(point, "type", "node") in ("node", "asst"):
            lines += text_lines(point)
    return lines


def chart_lines(root: Any) -> tuple[list[str], bool]:
    """A chart as lines: its title, its axes, then a row for each category.

    Args:
        root: Of the chart part.

    Returns:
        The lines, and whether values of a series are missing from the file.
    """
    if not any(True for _ in descendants(root, "plotArea")):
        return [], True
    if "chartex" in root.tag:
        return _newer_chart(root)
    title = (
        " ".join(text_lines(found)) if (found := child(root, "chart", "title")) is not None else ""
    )
    lines = [f"Chart: {title}".rstrip(": ")]
    plot = child(root, "chart", "plotArea")
    for axis in () if plot is None else plot:
        label = child(axis, "title") if name_of(axis).endswith("Ax") else None
        if label is not None and (text := " ".join(text_lines(label))):
            lines.append(f"Axis: {text}")
    series = list(descendants(root, "ser"))
    missing = False
    rows: dict[tuple[int, str], list[str]] = {}
    for number, each in enumerate(series, start=1):
        name = " ".join(_points(child(each, "tx")).values()) or f"Series {number}"
        labels = _points(_first(each, "cat", "xVal"))
        values = _points(_first(each, "val", "yVal"))
        missing = missing or not values
        sizes = _points(child(each, "bubbleSize"))
        for index, value in values.items():
            label = labels.get(index, str(index + 1))
            size = f" (size {sizes[index]})" if index in sizes else ""
            rows.setdefault((index, label), []).append(f"{name}: {value}{size}")
        if not values:
            rows.setdefault((-1, name), [])
    lines += [" | ".join([label, *values]) for (_, label), values in rows.items()]
    shapes = [each for each in descendants(root, "dLbl") if text_lines(each)]
    lines += [text for each in shapes for text in text_lines(each)]
    return lines, missing or not series


def _newer_chart(root: Any) -> tuple[list[str], bool]:
    """Funnels, waterfalls and other charts of newer programs: their text and points in order."""
    lines = ["Chart: " + " ".join(text_lines(root))]
    points = []
    for dimension in descendants(root, "strDim", "numDim"):
        found = [(each.text or "").strip() for each in descendants(dimension, "pt")]
        lines.append(" | ".join(found))
        points += found
    return lines, not points


def _first(element: Any, *names: str) -> Any:
    return next((found for name in names if (found := child(element, name)) is not None), None)


def _points(element: Any) -> dict[int, str]:
    """The stored points of a reference by their index; levels of labels are put together."""
    found: dict[int, str] = {}
    if element is None:
        return found
    levels = list(descendants(element, "lvl")) or [element]
    for level in reversed(levels):
        for point in descendants(level, "pt"):
            index = attribute(point, "idx", "0") or "0"
            value = " ".join(each.text or "" for each in children(point, "v")).strip()
            if value and index.isdecimal():
                at = int(index)
                found[at] = f"{found[at]} {_number(value)}" if at in found else _number(value)
    if not found and (text := " ".join(each.text or "" for each in children(element, "v")).strip()):
        found[0] = text
    return found


def _number(value: str) -> str:
    """A stored number without the digits that binary fractions add: `1.1000000000000001` is 1.1."""
    if len(value) < 12:
        return value
    try:
        return f"{float(value):.12g}"
    except ValueError:
        return value


def table_lines(table: Any) -> list[str]:
    """A DrawingML table, a row a line.

    A cell that others are merged into comes once; where a row has no merged cells, it keeps the
    columns of the others.
    """
    rows = [children(row, "tc") for row in children(table, "tr")]
    regular = any(not any(map(_is_covered, row)) for row in rows)
    lines = []
    for row in rows:
        cells = [
            "" if _is_covered(cell) else " ".join(" ".join(text_lines(cell)).split())
            for cell in row
            if regular or not _is_covered(cell)
        ]
        while regular and len(cells) > 1 and not cells[-1]:
            cells.pop()
        lines.append(" | ".join(cells))
    return lines


def _is_covered(cell: Any) -> bool:
    """Whether a cell is merged into the one to its left."""
    return attribute(cell, "hMerge") in ("1", "true")


_NUMBER_KINDS = {
    "arabic": "decimal",
    "alphaLc": "lowerLetter",
    "alphaUc": "upperLetter",
    "romanLc": "lowerRoman",
    "romanUc": "upperRoman",
}
_NUMBER_ENDS = {"Period": "{}.", "ParenR": "{})", "ParenBoth": "({})", "Plain": "{}"}


def numbered_lines(body: Any) -> list[str]:
    """The paragraphs of a text body with the automatic numbers that they ask for."""
    lines: list[str] = []
    counts: dict[int, int] = {}
    for paragraph in children(body, "p"):
        text = paragraph_text(paragraph)
        if not text:
            continue
        properties = child(paragraph, "pPr")
        found = attribute(properties, "lvl", "0") or "0"
        level = int(found) if found.isdecimal() else 0
        numbering = child(properties, "buAutoNum")
        counts = {each: n for each, n in counts.items() if each < level + (numbering is not None)}
        if numbering is not None:
            start = attribute(numbering, "startAt", "1") or "1"
            counts[level] = counts[level] + 1 if level in counts else int(start)
            scheme = attribute(numbering, "type", "arabicPeriod") or ""
            text = f"{_automatic(counts[level], scheme)} {text}"
        lines.append(text)
    return lines


def _automatic(number: int, scheme: str) -> str:
    for end, form in _NUMBER_ENDS.items():
        if scheme.endswith(end):
            kind = _NUMBER_KINDS.get(scheme.removesuffix(end), "decimal")
            return form.format(formatted(number, kind))
    return f"{number}."

"""Jupyter notebooks: one piece per cell, with what it printed and showed."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from nsa_cli.documents.build import Builder
from nsa_cli.documents.byte_forms import as_utf8
from nsa_cli.documents.document import Document
from nsa_cli.documents.formats.archive import as_broken
from nsa_cli.documents.formats.left_out import LeftOut
from nsa_cli.documents.formats.web import blocks
from nsa_cli.documents.text import without_escapes

_OLD_NAMES = {
    "text": "text/plain",
    "html": "text/html",
    "markdown": "text/markdown",
    "latex": "text/latex",
    "json": "application/json",
    "svg": "image/svg+xml",
}
"""What an output of notebook format 3 calls its media types."""


def read(data: bytes, name: str, *, hidden: bool = False) -> Document:
    """Read an .ipynb of any format.

    Args:
        data: The file.
        name: For citations and messages.
        hidden: Whether hidden text of HTML outputs is read.

    Raises:
        UnreadableError: If it is damaged or has no text.
    """
    builder = Builder(name, "cell")
    left_out = LeftOut()
    with as_broken(name, "notebook"):
        notebook = json.loads(as_utf8(data))
        sheets = notebook.get("worksheets", [notebook])
        cells = [cell for sheet in sheets for cell in sheet["cells"]]
        for number, cell in enumerate(cells, start=1):
            parts = [_text(cell.get("source", cell.get("input", "")))]
            if cell.get("cell_type") == "heading":
                parts[0] = "#" * min(int(cell.get("level", 1)), 6) + " " + parts[0]
            parts += [
                _output(output, left_out, hidden=hidden) for output in cell.get("outputs", [])
            ]
            builder.add("\n".join(part.rstrip("\n") for part in parts if part), page=number)
    return builder.document(left_out.warnings())


def _text(value: Any) -> str:
    return value if isinstance(value, str) else "".join(value)


def _output(output: dict[str, Any], left_out: LeftOut, *, hidden: bool) -> str:
    kind = output.get("output_type", "")
    if kind == "stream":
        return without_escapes(_text(output.get("text", "")))
    if kind in ("error", "pyerr"):
        return _error(output)
    shown = output.get("data")
    if shown is None:
        shown = {name: output[old] for old, name in _OLD_NAMES.items() if old in output}
        shown |= {"image/png": ""} if "png" in output else {}
    readers: dict[str, Callable[[Any], str]] = {
        "text/markdown": _text,
        "text/plain": lambda value: without_escapes(_text(value)),
        "text/html": lambda value: _page(_text(value), left_out, hidden=hidden),
        "text/latex": _text,
        "image/svg+xml": lambda value: _page(_text(value), left_out, hidden=hidden),
        "application/json": lambda value: json.dumps(value, ensure_ascii=False),
    }
    texts = [
        text for name, read in readers.items() if name in shown and (text := read(shown[name]))
    ]
    if texts:
        return texts[1] if len(texts) > 1 and _is_stub(texts[0]) else texts[0]
    for name in list(shown)[:1]:
        left_out.count(f"output ({name})")
    return ""


def _is_stub(text: str) -> bool:
    """Whether a plain text only names an object, such as `<IPython.core.display.HTML object>`."""
    return text.startswith("<") and text.rstrip().endswith(">") and "\n" not in text.strip()


def _error(output: dict[str, Any]) -> str:
    """The traceback, which ends with the error, or the error alone."""
    error = f"{output.get('ename', 'Error')}: {output.get('evalue', '')}"
    trace = without_escapes("\n".join(_text(line) for line in output.get("traceback", [])))
    if not trace.strip():
        return error
    return trace if str(output.get("evalue", "")) in trace else f"{trace}\n{error}"


def _page(html: str, left_out: LeftOut, *, hidden: bool) -> str:
    found = blocks(html, left_out, hidden=hidden)
    return "\n".join(block.prefix + block.text for block in found)

"""Jupyter notebooks: one piece per cell, with the text that it printed."""

from __future__ import annotations

import json
from typing import Any

from nsa_cli.documents.build import Builder
from nsa_cli.documents.document import Document
from nsa_cli.documents.formats.archive import as_broken


def read(data: bytes, name: str) -> Document:
    """Read an .ipynb.

    Raises:
        UnreadableError: If it is damaged or has no text.
    """
    builder = Builder(name, "cell")
    with as_broken(name, "notebook"):
        for number, cell in enumerate(json.loads(data)["cells"], start=1):
            parts = [_text(cell.get("source", ""))]
            parts += [_output(output) for output in cell.get("outputs", [])]
            builder.add("\n".join(part.rstrip("\n") for part in parts if part), page=number)
    return builder.document()


def _text(value: Any) -> str:
    return value if isinstance(value, str) else "".join(value)


def _output(output: dict[str, Any]) -> str:
    if "text" in output:
        return _text(output["text"])
    if "evalue" in output:
        return f"{output.get('ename', 'Error')}: {output['evalue']}"
    return _text(output.get("data", {}).get("text/plain", ""))

"""Write the tables of the documentation's pages from the measurements in docs/data.

    python examples/write_benchmarks.py

The pages are docs/benchmarks.md and docs/concepts/documents.md. `--check` writes nothing and fails
if one is not current. A file of docs/data has the figures of one section of docs/benchmarks.md,
whose tables may be on the other page:

- `question`: the section's heading.
- `machines`, `dates`, `commands`: where, when (ISO 8601) and how the figures were measured.
- `tables`: each with `columns`, `rows` and the `unit` of figures without one. A cell is a text, or
  a list of texts and figures; a figure is `[value, unit]` or `[value]`.
- `figures`: those in the section's prose, each `[what, value, unit]`.
"""

from __future__ import annotations

import json
import re
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
DATA = ROOT / "docs" / "data"
PAGES = (ROOT / "docs" / "benchmarks.md", ROOT / "docs" / "concepts" / "documents.md")
_TABLE = re.compile(
    r"(?P<head><!-- table: (?P<name>[\w-]+) (?P<number>\d+) -->\n\n).*?(?P<end>\n<!-- end -->)",
    re.DOTALL,
)


def load(path: Path) -> dict[str, Any]:
    """Return a file of docs/data, its numbers with the digits that it gives."""
    found: dict[str, Any] = json.loads(
        path.read_text(encoding="utf-8"), parse_float=Decimal, parse_int=Decimal
    )
    return found


def shown(figure: list[Any]) -> str:
    """Return a figure as the page shows it: thousands apart, the unit behind it."""
    value, unit = f"{figure[0]:,}", figure[1] if len(figure) > 1 else ""
    return f"{value}{'' if unit in ('', 'x', 'k') else ' '}{unit}"


def cell(content: str | list[Any]) -> str:
    """Return a cell of a table as Markdown."""
    if isinstance(content, str):
        return content
    return "".join(part if isinstance(part, str) else shown(part) for part in content)


def table(content: dict[str, Any]) -> str:
    """Return a table as Markdown.

    Raises:
        ValueError: If a row has more or fewer cells than columns.
    """
    columns = content["columns"]
    for row in content["rows"]:
        if len(row) != len(columns):
            raise ValueError(f"{len(row)} cells for {len(columns)} columns: {row}")
    lines = [columns, *([cell(each) for each in row] for row in content["rows"])]
    rows = ["|".join(f" {each} " if each else " " for each in line) for line in lines]
    rule = "|".join(["---"] * len(columns))
    return "".join(f"|{row}|\n" for row in (rows[0], rule, *rows[1:]))


def page(text: str) -> str:
    """Return the page `text` with every table written from its file."""

    def written(found: re.Match[str]) -> str:
        tables = load(DATA / f"{found['name']}.json")["tables"]
        return found["head"] + table(tables[int(found["number"]) - 1]) + found["end"]

    return _TABLE.sub(written, text)


def main(arguments: list[str]) -> int:
    """Write the pages, or check them; return the exit code."""
    stale = [path for path in PAGES if page(text := path.read_text(encoding="utf-8")) != text]
    if "--check" in arguments:
        for path in stale:
            print(f"{path.relative_to(ROOT)} is not current; run make bench-docs", file=sys.stderr)
        return 1 if stale else 0
    for path in stale:
        path.write_text(page(path.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

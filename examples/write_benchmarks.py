"""Write the tables of the documentation's pages from the measurements in docs/data.

    python examples/write_benchmarks.py
    python examples/write_benchmarks.py --from REPORT.json --machine CPU-AVX2

The pages are docs/benchmarks.md and docs/concepts/documents.md. `--check` writes nothing and fails
if one is not current. `--from` first replaces the rows of docs/data that JSON reports of benchmarks
give (see `benchmark_reports.py`). `--machine` is a name of docs/data/machines.json. The date is
that of the report, or `--date`.

A file of docs/data has the figures of one section of docs/benchmarks.md, whose tables may be on the
other page:

- `question`: the section's heading.
- `machines`, `dates`, `commands`: where, when (ISO 8601) and how the figures were measured.
- `tables`: each with `columns`, `rows`, and optionally the `unit` of figures without one and a
  `caption`. A cell is a text, or a list of texts and figures; a figure is `[value, unit]` or
  `[value]`.
- `figures`: those in the section's prose, each `[what, value, unit]`.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import benchmark_reports as reports

ROOT = Path(__file__).parents[1]
DATA = ROOT / "docs" / "data"
PAGES = (ROOT / "docs" / "benchmarks.md", ROOT / "docs" / "concepts" / "documents.md")
_TABLE = re.compile(
    r"(?P<head><!-- table: (?P<name>[\w-]+) (?P<number>\d+) -->\n\n).*?(?P<end>\n<!-- end -->)",
    re.DOTALL,
)


def load(path: Path) -> dict[str, Any]:
    """Return a JSON file, its numbers with the digits that it gives."""
    found: dict[str, Any] = json.loads(
        path.read_text(encoding="utf-8"), parse_float=Decimal, parse_int=Decimal
    )
    return found


def text_of(data: dict[str, Any]) -> str:
    """Return a file of docs/data as JSON, with a line for each row and figure."""
    parts = []
    for key, value in data.items():
        if key == "tables":
            tables = ",\n    ".join(_table_text(each) for each in value)
            shown = f"[\n    {tables}\n  ]" if value else "[]"
        elif key == "figures" and value:
            shown = "[\n    " + ",\n    ".join(map(_compact, value)) + "\n  ]"
        else:
            shown = _compact(value)
        parts.append(f"  {_compact(key)}: {shown}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _table_text(table: dict[str, Any]) -> str:
    """Return a table as JSON, its rows last."""
    head = ", ".join(f"{_compact(k)}: {_compact(v)}" for k, v in table.items() if k != "rows")
    rows = ",\n      ".join(map(_compact, table["rows"]))
    shown = f"[\n      {rows}\n    ]" if rows else "[]"
    return f'{{{head},\n     "rows": {shown}}}'


def _compact(value: object) -> str:
    """Return a value as JSON on one line; a Decimal keeps its digits."""
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, list):
        return f"[{', '.join(map(_compact, value))}]"
    return json.dumps(value, ensure_ascii=False)


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
    """Return a table as Markdown, with its caption.

    Raises:
        ValueError: If a row has more or fewer cells than columns.
    """
    columns = content["columns"]
    if not content["rows"]:
        return "No figures yet.\n"
    for row in content["rows"]:
        if len(row) != len(columns):
            raise ValueError(f"{len(row)} cells for {len(columns)} columns: {row}")
    lines = [columns, *([cell(each) for each in row] for row in content["rows"])]
    rows = ["|".join(f" {each} " if each else " " for each in line) for line in lines]
    rule = "|".join(["---"] * len(columns))
    caption = f"\n{content['caption']}\n" if "caption" in content else ""
    return "".join(f"|{row}|\n" for row in (rows[0], rule, *rows[1:])) + caption


def page(text: str) -> str:
    """Return the page `text` with every table written from its file."""

    def written(found: re.Match[str]) -> str:
        tables = load(DATA / f"{found['name']}.json")["tables"]
        return found["head"] + table(tables[int(found["number"]) - 1]) + found["end"]

    return _TABLE.sub(written, text)


def column_of(data: dict[str, Any], name: str) -> list[str]:
    """Return the different cells of a column that every table of a file has; empty otherwise."""
    if any(name not in table["columns"] for table in data["tables"]):
        return []
    cells = (row[table["columns"].index(name)] for table in data["tables"] for row in table["rows"])
    return sorted(set(cells))


def take(path: Path, machine: str, date: str | None) -> list[str]:
    """Replace the rows of docs/data that a report gives; return a line for each table.

    Raises:
        ValueError: If the file is no report, the machine is unknown, or no date is known.
    """
    report = json.loads(path.read_text(encoding="utf-8"))
    machines = [row[0] for row in load(DATA / "machines.json")["tables"][0]["rows"]]
    if machine not in machines:
        raise ValueError(f"--machine: {machine!r} is not one of {', '.join(machines)}")
    day = date or report.get("date") or report.get("setup", {}).get("date")
    if day is None:
        raise ValueError(f"{path}: the report has no date; give --date")
    lines = []
    for new in reports.tables_of(report, reports.Source(machine=machine, date=day)):
        target = DATA / f"{new.file}.json"
        data = load(target)
        data["tables"][new.table - 1] = reports.merged(data["tables"][new.table - 1], new)
        data["machines"] = column_of(data, "Machine") or sorted({*data["machines"], machine})
        data["dates"] = column_of(data, "Measured") or sorted({*data["dates"], day})
        target.write_text(text_of(data), encoding="utf-8")
        lines.append(f"docs/data/{new.file}.json, table {new.table}: {len(new.rows)} rows")
    return lines


def main(arguments: Sequence[str]) -> int:
    """Write the pages, or check them; return the exit code."""
    parser = argparse.ArgumentParser(description="Write the tables of docs/benchmarks.md.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if not current")
    parser.add_argument("--from", dest="reports", nargs="+", type=Path, default=[], metavar="FILE")
    parser.add_argument("--machine", metavar="NAME", help="name in docs/data/machines.json")
    parser.add_argument("--date", metavar="YYYY-MM-DD", help="day of the measurement")
    options = parser.parse_args(arguments)
    if options.check:
        stale = [path for path in PAGES if page(text := path.read_text("utf-8")) != text]
        for path in stale:
            print(f"{path.name} is not current; run make bench-docs", file=sys.stderr)
        return 1 if stale else 0
    if options.reports and options.machine is None:
        parser.error("--from needs --machine")
    try:
        for path in options.reports:
            print(*take(path, options.machine, options.date), sep="\n")
    except (OSError, ValueError) as error:
        print(f"write_benchmarks.py: {error}", file=sys.stderr)
        return 1
    for path in PAGES:
        path.write_text(page(path.read_text("utf-8")), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

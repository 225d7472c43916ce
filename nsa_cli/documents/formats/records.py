"""JSON and JSON Lines: one piece per record; long lines are divided."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import PurePath
from typing import Any

from nsa_cli.documents.build import Builder
from nsa_cli.documents.document import Document
from nsa_cli.documents.table import Row, Table
from nsa_cli.documents.text import read_text

_LINES = frozenset([".jsonl", ".ndjson"])
LONGEST_LINE = 2000
"""Characters of a line that a person reads; a longer one is taken apart."""

_ESCAPED = re.compile(r"(?<!\\)((?:\\\\)*)((?:\\u[0-9a-fA-F]{4})+)")
_BETWEEN = re.compile(r"[\s,]*")


def read(data: bytes, name: str, *, hidden: bool = False) -> Document:
    """Read JSON.

    Records are the items of a list at the top, or of the longest list one level below. A file
    with lines that a person can read keeps them; the values of others come one on each line, with
    their path. Escapes of letters are resolved. What is not valid is read as text.

    Args:
        data: The file.
        name: For citations and messages.
        hidden: Nothing is hidden in such a file.

    Raises:
        UnreadableError: If it is empty or no text.
    """
    del hidden
    source = read_text(data, name)
    text = _without_escapes(source.text)
    builder = Builder(name, "record")
    if PurePath(name).suffix.lower() in _LINES:
        _add_lines(builder, text)
        return replace(builder.document(source.warnings), tables=_tables(text, name))
    try:
        value = json.loads(text)
        records = list(_values(value)) if _longest_line(text) > LONGEST_LINE else None
    except (ValueError, RecursionError):
        _add_lines(builder, text)
        return builder.document(source.warnings)
    if records is not None:
        for number, record in records:
            builder.add(record, page=number)
    elif isinstance(value, list) and any(isinstance(each, dict) for each in value):
        _add_items(builder, text)
    else:
        builder.add(text)
    return builder.document(source.warnings)


def _add_lines(builder: Builder, text: str) -> None:
    """Add lines as they are; a long line becomes one line for each of its values."""
    run: list[str] = []
    first = 1

    def end_run() -> None:
        builder.add("\n".join(run), first_line=first)
        run.clear()

    for number, line in enumerate(text.split("\n"), start=1):
        if len(line) <= LONGEST_LINE:
            first = first if run else number
            run.append(line)
            continue
        end_run()
        try:
            values = list(flattened(json.loads(line)))
        except (ValueError, RecursionError):
            values = [line]
        for value in values:
            builder.add(value, first_line=number)
    end_run()


def _tables(text: str, name: str) -> tuple[Table, ...]:
    """JSON Lines as a table, if each line is an object of single values with much the same keys."""
    records: list[tuple[int, dict[str, Any]]] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line, parse_float=str, parse_int=str)
        except (ValueError, RecursionError):
            return ()
        if not isinstance(record, dict) or any(
            isinstance(value, dict | list) for value in record.values()
        ):
            return ()
        records.append((number, record))
    header = list(dict.fromkeys(key for _, record in records for key in record))
    filled = sum(len(record) for _, record in records)
    if len(records) < 2 or len(header) < 2 or filled < len(records) * len(header) / 2:
        return ()
    rows = [
        Row(number=number, cells=[_cell(record.get(key)) for key in header])
        for number, record in records
    ]
    return (Table(source=name, page=None, title=None, header=header, rows=rows, decimal="."),)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return " ".join(value.split()) if isinstance(value, str) else json.dumps(value)


def _add_items(builder: Builder, text: str) -> None:
    """Add the items of a list as written in the file, each with its own line numbers."""
    decoder = json.JSONDecoder()
    position = text.index("[") + 1
    number, line, counted = 0, 1, 0
    while True:
        position = _BETWEEN.match(text, position).end()  # type: ignore[union-attr]
        if text[position] == "]":
            return
        _, end = decoder.raw_decode(text, position)
        number += 1
        start = text.rindex("\n", 0, position) + 1 if "\n" in text[:position] else position
        start = start if not text[start:position].strip() else position
        line += text.count("\n", counted, start)
        counted = start
        builder.add(text[start:end], page=number, first_line=line)
        position = end


def _longest_line(text: str) -> int:
    return max(map(len, text.split("\n")))


def _values(value: Any) -> Iterator[tuple[int | None, str]]:
    """The values of a file without readable lines, record by record, each with its number."""
    if isinstance(value, dict):
        lists = {key: each for key, each in value.items() if isinstance(each, list)}
        key = max(lists, key=lambda each: len(lists[each]), default=None)
        if key is not None and any(isinstance(each, dict) for each in lists[key]):
            rest = {each: inner for each, inner in value.items() if each != key}
            yield None, "\n".join(flattened(rest))
            value = lists[key]
    for number, record in enumerate(value if isinstance(value, list) else [value], start=1):
        yield number, "\n".join(flattened(record))


def flattened(value: Any, path: str = "") -> Iterator[str]:
    """One line for each nested value, after its path: `customer.name: Smith`."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from flattened(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list) and any(isinstance(each, dict | list) for each in value):
        for number, inner in enumerate(value, start=1):
            yield from flattened(inner, f"{path}[{number}]")
    else:
        shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        yield f"{path}: {shown}" if path else shown


def _without_escapes(text: str) -> str:
    """JSON text with the escapes of letters outside ASCII resolved."""

    def letters(found: re.Match[str]) -> str:
        try:
            shown = json.loads(f'"{found[2]}"')
            shown.encode()
        except (ValueError, UnicodeEncodeError):
            return found[0]
        return found[1] + shown if min(shown) > "\x9f" else found[0]

    return _ESCAPED.sub(letters, text) if "\\u" in text else text

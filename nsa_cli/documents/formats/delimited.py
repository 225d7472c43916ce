"""CSV and TSV: each row is a line with the names of its columns."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import PurePath

from nsa_cli.documents.build import Builder
from nsa_cli.documents.document import Document
from nsa_cli.documents.formats.tables import Labels, header_index
from nsa_cli.documents.table import Row
from nsa_cli.documents.text import read_text

_DELIMITERS = ",;\t|"
_SAMPLED_LINES = 30
_MOST_LINES = 200
"""A row over more lines than these comes from a quote that is not closed."""

_LOOKED_AT = 52
"""Rows within which the header and some rows below it stand."""


def read(data: bytes, name: str, *, hidden: bool = False) -> Document:
    """Read a table; without a header, or with damaged quotes, it is read as plain text.

    Args:
        data: The file.
        name: For citations and messages.
        hidden: Nothing is hidden in such a file.

    Raises:
        UnreadableError: If it is empty or no text.
    """
    del hidden
    source = read_text(data, name)
    delimiter = _delimiter(source.text, name)
    try:
        rows = list(_rows(source.text, delimiter)) if delimiter else []
    except csv.Error:
        return source
    labels = Labels(name, delimiter=delimiter)
    if header_index(rows[:_LOOKED_AT]) is None:
        return _plain(source, rows, labels)
    builder = Builder(name)
    run: list[Row] = []
    lines = labels.lines(rows)
    texts: list[str] = []
    for row, line in zip(rows, lines, strict=True):
        if run and row.number != run[-1].number + 1:
            builder.add("\n".join(texts), first_line=run[0].number)
            run, texts = [], []
        run.append(row)
        texts.append(line)
    builder.add("\n".join(texts), first_line=run[0].number)
    return replace(builder.document(source.warnings), tables=tuple(labels.tables()))


def _plain(source: Document, rows: Sequence[Row], labels: Labels) -> Document:
    """The text unchanged; a table of two columns is kept for computing, too."""
    at = header_index(rows[:_LOOKED_AT], 2)
    if at is None:
        return source
    labels.begin(rows[at])
    for row in rows[at + 1 :]:
        labels.add(row)
    return replace(source, tables=tuple(labels.tables()))


def _delimiter(text: str, name: str) -> str | None:
    """The delimiter that occurs equally often in most lines, or None."""
    if PurePath(name).suffix.lower() in (".tsv", ".tab"):
        return "\t"
    lines = [line for line in text[:100_000].split("\n")[:_SAMPLED_LINES] if line.strip()]
    if lines and lines[0].startswith("sep=") and len(lines[0]) == 5:
        return lines[0][4]
    best, most = None, 0
    for delimiter in _DELIMITERS:
        counts = [line.count(delimiter) for line in lines]
        usual = max(set(counts), key=counts.count, default=0)
        score = counts.count(usual) * (usual > 0) * 100 + usual
        if usual and score > most:
            best, most = delimiter, score
    return best


def _rows(text: str, delimiter: str) -> Iterator[Row]:
    """The rows that have a value, each with the number of its first line in the file.

    Raises:
        csv.Error: If the quotes are damaged.
    """
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    line = 1
    for cells in reader:
        if reader.line_num - line > _MOST_LINES:
            raise csv.Error("a quote is not closed")
        found = [sys.intern(" ".join(cell.split())) for cell in cells]
        if any(found) and not (line == 1 and text.startswith("sep=")):
            yield Row(number=line, cells=found)
        line = reader.line_num + 1

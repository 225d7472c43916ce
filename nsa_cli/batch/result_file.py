"""Rows of a batch in a file: one per document and question, each written whole or not at all.

A file can be gone on with: rows that are there are not made again, failures are tried again, and
a row that a stop has cut in two is dropped.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TextIO

from nsa_models.errors import NsaError, UsageError

FORMATS = ("jsonl", "csv")
_YES: dict[Any, str] = {True: "yes", False: "no"}
_RUN = re.compile(r"[0-9a-f]{12}")

Key = tuple[str, str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultRow:
    """What came of one question about one document.

    Attributes:
        document: Its path.
        sha256: Of its bytes; empty where they could not be read.
        question: What was asked; empty for a summary.
        answer: The answer or the summary; empty for a failure.
        citations: Of the answer, best first.
        error: `code`, `message` and `hint` of a failure, or None.
        model: Name or path of the model.
        run: Names the options of the run, so that rows of other options are told apart.
    """

    document: str
    sha256: str
    question: str
    answer: str = ""
    citations: list[dict[str, Any]] = field(default_factory=list)
    error: dict[str, str] | None = None
    model: str
    run: str

    @property
    def key(self) -> Key:
        """What there is one row of."""
        return key_of(self.document, self.question, self.run)


def key_of(document: str, question: str, run: str) -> Key:
    """What there is one row of; names that are no UTF-8 count as a file shows them."""
    return (_plain(document), _plain(question), run)


_CSV_FIELDS = (
    *("document", "question", "answer", "page", "line", "quote", "verified"),
    *("error_code", "error", "model", "sha256", "run"),
)


class ResultFile:
    """Rows that are written to a file, or to standard output.

    Args:
        path: The file; None for standard output.
        kind: One of `FORMATS`.
        resume: Whether to go on with a file that is there.

    Raises:
        UsageError: If the file is there and is not to be gone on with, or holds no rows.
        NsaError: If it cannot be read or written.
    """

    def __init__(self, path: Path | None, kind: str, *, resume: bool) -> None:
        self._kind = kind
        self._path = path
        self._done: dict[Key, str] = {}
        self._file: TextIO = sys.stdout
        if path is None:
            self._begin()
            return
        if path.exists() and not resume and path.stat().st_size:
            raise UsageError(
                f"{path} is there already",
                hint="go on with it with --resume, or remove it, or name another --out",
            )
        try:
            self._go_on(path)
        except OSError as error:
            raise _unwritable(path, error) from error

    def _go_on(self, path: Path) -> None:
        text = path.read_bytes().decode("utf-8", "replace") if path.exists() else ""
        rows = _read(text, self._kind, path)
        kept = {row.key: row for row in rows if row.error is None}
        whole = "".join(_line(row, self._kind) for row in kept.values())
        whole = (_head() if self._kind == "csv" else "") + whole
        if whole != text:
            partial = path.with_name(f"{path.name}.{os.getpid()}.tmp")
            partial.write_text(whole, encoding="utf-8", newline="")
            partial.replace(path)
        self._done = {key: row.sha256 for key, row in kept.items()}
        self._file = path.open("a", encoding="utf-8", newline="")

    def _begin(self) -> None:
        if self._kind == "csv":
            self._file.write(_head())
            self._file.flush()

    def is_at(self, path: str) -> bool:
        """Whether these rows are written to a file, which is then no document of the batch."""
        return self._path is not None and os.path.realpath(path) == os.path.realpath(self._path)

    def sha256(self, key: Key) -> str | None:
        """What the row of this key was made of, or None where there is none."""
        return self._done.get(key)

    def drop(self, key: Key) -> None:
        """Remove the row of a document that has changed since."""
        if key not in self._done or self._path is None:
            return
        del self._done[key]
        self._file.close()
        text = self._path.read_text(encoding="utf-8")
        rows = [row for row in _read(text, self._kind, self._path) if row.key != key]
        head = _head() if self._kind == "csv" else ""
        partial = self._path.with_name(f"{self._path.name}.{os.getpid()}.tmp")
        body = head + "".join(_line(row, self._kind) for row in rows)
        partial.write_text(body, encoding="utf-8", newline="")
        partial.replace(self._path)
        self._file = self._path.open("a", encoding="utf-8", newline="")

    def add(self, row: ResultRow) -> None:
        """Write a row.

        Raises:
            NsaError: If the file cannot take it.
        """
        try:
            self._file.write(_line(row, self._kind))
            self._file.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise _unwritable(self._path or Path("standard output"), error) from error

    def close(self) -> None:
        """Close the file."""
        if self._path is not None:
            self._file.close()


def _unwritable(path: Path, error: OSError) -> NsaError:
    return NsaError(
        f"{path} cannot be written: {error.strerror or error}",
        hint="name another file with --out",
        code="disk",
    )


def _read(text: str, kind: str, path: Path) -> list[ResultRow]:
    """Whole rows of a file; one that a stop has cut is left out.

    Raises:
        UsageError: If it holds something else.
    """
    if kind == "jsonl":
        lines = text.split("\n")
        whole = lines[:-1]
        rows = []
        for line in whole:
            try:
                rows.append(ResultRow(**json.loads(line)))
            except (ValueError, TypeError) as error:
                raise _foreign(path) from error
        return rows
    reader = csv.reader(io.StringIO(text, newline=""))
    table = list(reader)
    if not table or (len(table) == 1 and not text.endswith("\n")):
        if text and not _head().startswith(text):
            raise _foreign(path)
        return []
    if tuple(table[0]) != _CSV_FIELDS:
        raise _foreign(path)
    whole_rows = table[1:] if text.endswith("\n") else table[1:-1]
    return [
        _from_csv(dict(zip(_CSV_FIELDS, cells, strict=True)))
        for cells in whole_rows
        if len(cells) == len(_CSV_FIELDS) and _RUN.fullmatch(cells[-1])
    ]


def _foreign(path: Path) -> UsageError:
    return UsageError(
        f"{path} holds something else than rows of a batch", hint="name another file with --out"
    )


def _line(row: ResultRow, kind: str) -> str:
    if kind == "jsonl":
        return json.dumps(asdict(row)) + "\n"
    first = row.citations[0] if row.citations else {}
    error = row.error or {}
    page = first.get("page")
    cells = {
        "document": row.document,
        "question": row.question,
        "answer": row.answer,
        "page": "" if page is None else page,
        "line": first.get("line_start", ""),
        "quote": first.get("quote", ""),
        "verified": _YES.get(first.get("verified"), ""),
        "error_code": error.get("code", ""),
        "error": error.get("message", ""),
        "model": row.model,
        "sha256": row.sha256,
        "run": row.run,
    }
    return _csv_line([_plain(str(cells[name])) for name in _CSV_FIELDS])


def _plain(text: str) -> str:
    """A text that UTF-8 can say: a file's name may be none."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")


def _csv_line(cells: list[str]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\r\n").writerow(cells)
    return line.getvalue()


def _head() -> str:
    return _csv_line(list(_CSV_FIELDS))


def _from_csv(cells: dict[str, str]) -> ResultRow:
    """A row of a table again; of the citations it has the first."""
    quoted = cells["quote"] or cells["line"]
    citation = {
        "page": int(cells["page"]) if cells["page"].isdecimal() else None,
        "line_start": int(cells["line"]) if cells["line"].isdecimal() else "",
        "quote": cells["quote"],
        "verified": {"yes": True, "no": False}.get(cells["verified"]),
    }
    failed = {"code": cells["error_code"], "message": cells["error"], "hint": ""}
    return ResultRow(
        document=cells["document"],
        sha256=cells["sha256"],
        question=cells["question"],
        answer=cells["answer"],
        model=cells["model"],
        run=cells["run"],
        citations=[citation] if quoted else [],
        error=failed if cells["error_code"] else None,
    )

"""The result file of a batch: one row per document and question, as JSON Lines or CSV.

A later run can resume a file: it keeps complete rows, retries failures and drops a truncated row.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TextIO

from nsa_cli.system import refuse_device
from nsa_models.errors import NsaError, UsageError
from nsa_models.paths import atomic_write

FORMATS = ("jsonl", "csv")
_YES: dict[Any, str] = {True: "yes", False: "no"}
_RUN = re.compile(r"[0-9a-f]{12}")

RowKey = tuple[str, str, str]
"""Identity of a row: document, question, run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultRow:
    """The result of one question about one document.

    Attributes:
        document: Path of the document.
        sha256: SHA-256 of its bytes; empty if it could not be read.
        question: The question; empty for a summary.
        answer: The answer or the summary; empty for a failure.
        citations: Citations of the answer, best first.
        warnings: What the document lost when it was read, one clause each.
        error: `code`, `message` and `hint` of a failure, or None.
        computation: What nsa computed, or None; then its line has no such field.
        support: Probability that the document supports the answer that was decoded, or None; then
            its line has no such field.
        model: Name or path of the model.
        run: Digest of the model and options, which distinguishes rows of different runs.
    """

    document: str
    sha256: str
    question: str
    answer: str = ""
    citations: list[dict[str, Any]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    error: dict[str, str] | None = None
    computation: dict[str, Any] | None = None
    support: float | None = None
    model: str
    run: str

    @property
    def key(self) -> RowKey:
        """Identity of the row: document, question, run."""
        return key_of(self.document, self.question, self.run)


def key_of(document: str, question: str, run: str) -> RowKey:
    """Identity of a row, with names that are not valid UTF-8 escaped as in the file."""
    return (_plain(document), _plain(question), run)


_CSV_FIELDS = (
    *("document", "question", "answer", "page", "line", "quote", "verified"),
    *("warnings", "error_code", "error", "model", "sha256", "run"),
)
_OLD_CSV_FIELDS = tuple(name for name in _CSV_FIELDS if name != "warnings")
"""Fields of result files that earlier versions wrote."""

_HEAD = ",".join(_CSV_FIELDS) + "\r\n"


class ResultFile:
    """Rows written to a file or to standard output.

    Args:
        path: The file; None for standard output.
        format_: One of `FORMATS`.
        resume: Whether to resume an existing file.
        aside: Entered while a row is written to a terminal, which may show something else.

    Raises:
        UsageError: If the file exists and `resume` is false, or it holds something else.
        NsaError: If it cannot be read or written.
    """

    def __init__(
        self,
        path: Path | None,
        format_: str,
        *,
        resume: bool,
        aside: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._format = format_
        self._aside = aside if path is None and sys.stdout.isatty() else nullcontext
        self._path = path
        self._done: dict[RowKey, str] = {}
        self._file: TextIO = sys.stdout
        if path is None:
            self._file.write(_text((), format_))
            self._file.flush()
            return
        try:
            self._resume(path, resume=resume)
        except OSError as error:
            raise _unwritable(path, error) from error

    def _resume(self, path: Path, *, resume: bool) -> None:
        text, kept = _existing(path, self._format, resume=resume)
        complete = _text(kept.values(), self._format)
        if complete != text:
            with atomic_write(path) as partial:
                partial.write_bytes(complete.encode())
        self._done = {key: row.sha256 for key, row in kept.items()}
        self._file = path.open("a", encoding="utf-8", newline="")

    def is_at(self, path: str) -> bool:
        """Whether a path is the result file, and thus not a document of the batch."""
        return self._path is not None and is_same(path, self._path)

    @property
    def done(self) -> Mapping[RowKey, str]:
        """SHA-256 of the document of each finished row."""
        return self._done

    def drop(self, key: RowKey) -> None:
        """Remove the row of a document that has changed."""
        if key not in self._done or self._path is None:
            return
        del self._done[key]
        self._file.close()
        text = self._path.read_text(encoding="utf-8")
        rows = [row for row in _read(text, self._format, self._path) if row.key != key]
        with atomic_write(self._path) as partial:
            partial.write_bytes(_text(rows, self._format).encode())
        self._file = self._path.open("a", encoding="utf-8", newline="")

    def add(self, row: ResultRow) -> None:
        """Write a row.

        Raises:
            NsaError: If the row cannot be written.
        """
        try:
            with self._aside():
                self._file.write(_line(row, self._format))
                self._file.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise _unwritable(self._path or Path("standard output"), error) from error

    def close(self) -> None:
        """Close the file."""
        if self._path is not None:
            self._file.close()


def is_same(path: str, other: Path) -> bool:
    """Whether two paths lead to the same file."""
    return os.path.realpath(path) == os.path.realpath(other)


def finished_rows(path: Path | None, format_: str, *, resume: bool) -> dict[RowKey, str]:
    """SHA-256 of the document of each finished row; changes no file.

    Args:
        path: The result file; None for standard output.
        format_: One of `FORMATS`.
        resume: Whether an existing file is to be resumed.

    Raises:
        UsageError: If the file exists and `resume` is false, or it holds something else.
        NsaError: If it cannot be read.
    """
    if path is None:
        return {}
    try:
        _, kept = _existing(path, format_, resume=resume)
    except OSError as error:
        raise NsaError(
            f"cannot read {path}: {error.strerror or error}", hint="name another file with --out"
        ) from error
    return {key: row.sha256 for key, row in kept.items()}


def _existing(path: Path, format_: str, *, resume: bool) -> tuple[str, dict[RowKey, ResultRow]]:
    """The content of a result file and its finished rows; nothing if it does not exist."""
    refuse_device(path)
    if path.exists() and not resume and path.stat().st_size:
        raise UsageError(
            f"{path} already exists",
            hint="resume it with --resume, remove it, or name another --out",
        )
    text = path.read_bytes().decode("utf-8", "replace") if path.exists() else ""
    rows = _read(text, format_, path)
    return text, {row.key: row for row in rows if row.error is None}


def _unwritable(path: Path, error: OSError) -> NsaError:
    return NsaError(
        f"cannot write {path}: {error.strerror or error}",
        hint="name another file with --out",
        code="disk",
    )


def _read(text: str, format_: str, path: Path) -> list[ResultRow]:
    """Complete rows of a file, without a truncated last row.

    Raises:
        UsageError: If the file holds something else.
    """
    if format_ == "jsonl":
        try:
            return [ResultRow(**json.loads(line)) for line in text.split("\n")[:-1]]
        except (ValueError, TypeError) as error:
            raise _foreign(path) from error
    table = list(csv.reader(io.StringIO(text, newline="")))
    if not table or (len(table) == 1 and not text.endswith("\n")):
        if text and not _HEAD.startswith(text):
            raise _foreign(path)
        return []
    fields = tuple(table[0])
    if fields not in (_CSV_FIELDS, _OLD_CSV_FIELDS):
        raise _foreign(path)
    complete = table[1:] if text.endswith("\n") else table[1:-1]
    return [
        _from_csv({"warnings": "", **dict(zip(fields, cells, strict=True))})
        for cells in complete
        if len(cells) == len(fields) and _RUN.fullmatch(cells[-1])
    ]


def _foreign(path: Path) -> UsageError:
    return UsageError(
        f"{path} is not a result file of a batch", hint="name another file with --out"
    )


def _text(rows: Iterable[ResultRow], format_: str) -> str:
    """The content of a file with these rows."""
    return (_HEAD if format_ == "csv" else "") + "".join(_line(row, format_) for row in rows)


def _line(row: ResultRow, format_: str) -> str:
    if format_ == "jsonl":
        fields = asdict(row)
        for name in ("computation", "support"):
            if fields[name] is None:
                del fields[name]
        return json.dumps(fields) + "\n"
    first = row.citations[0] if row.citations else {}
    error = row.error or {}
    page = first.get("page")
    cells = {
        **asdict(row),
        "page": "" if page is None else page,
        "line": first.get("line_start", ""),
        "quote": first.get("quote", ""),
        "verified": _YES.get(first.get("verified"), ""),
        "warnings": "\n".join(row.warnings),
        "error_code": error.get("code", ""),
        "error": error.get("message", ""),
    }
    line = io.StringIO()
    csv.writer(line).writerow([_plain(str(cells[name])) for name in _CSV_FIELDS])
    return line.getvalue()


def _plain(text: str) -> str:
    """The text with characters that UTF-8 cannot encode escaped, as in some file names."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")


def _from_csv(cells: dict[str, str]) -> ResultRow:
    """The row of a CSV line, with its first citation only."""
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
        warnings=cells["warnings"].splitlines(),
        error=failed if cells["error_code"] else None,
    )

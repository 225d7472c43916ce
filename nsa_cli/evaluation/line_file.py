"""A JSON Lines file that results are appended to; a run that is killed loses at most a line."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from nsa_models.errors import NsaError, UsageError

RowKey = tuple[str, str, str]
"""Identity of a row: what was asked or summarized, way and setting."""


class LineFile:
    """Appends objects to a file, each on a line that is on the disk before the next.

    Args:
        path: The file, continued if it exists; None to write nothing.

    Attributes:
        objects: The objects that the file had; lines that were cut are left out.
        is_foreign: Whether the file has text that neither is an object nor began as one.

    Raises:
        NsaError: If the file cannot be read.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self.objects: list[dict[str, Any]] = []
        self.is_foreign = False
        text = "" if path is None else _text_of(path)
        self._is_cut = bool(text) and not text.endswith("\n")
        for line in text.split("\n"):
            try:
                found = json.loads(line)
            except ValueError:
                self.is_foreign |= bool(line.strip()) and not line.startswith("{")
                continue
            if isinstance(found, dict):
                self.objects.append(found)
            else:
                self.is_foreign = True

    def append(self, value: dict[str, Any]) -> None:
        """Write an object.

        Raises:
            NsaError: If the file cannot be written.
        """
        if self._path is None:
            return
        line = json.dumps(value, ensure_ascii=False) + "\n"
        if self._is_cut:
            line, self._is_cut = "\n" + line, False
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise NsaError(
                f"{self._path} cannot be written: {error.strerror or error}",
                hint="check its permissions and the disk",
            ) from error


class _Row(Protocol):
    @property
    def key(self) -> RowKey:
        """Identity of the row."""


_AnyRow = TypeVar("_AnyRow", bound=_Row)


class RowFile(Generic[_AnyRow]):
    """Rows in memory, and in a file if one is named.

    Args:
        path: The file, resumed if it exists; None for none.
        parse: Makes a row of an object; raises ValueError, TypeError, KeyError or AttributeError
            if it is none.
        suite: The suite of `nsa eval` whose rows these are.

    Raises:
        NsaError: If the file cannot be read.
        UsageError: If the file holds something else.
    """

    def __init__(
        self, path: Path | None, parse: Callable[[dict[str, Any]], _AnyRow], suite: str
    ) -> None:
        self._file = LineFile(path)
        self._rows: dict[RowKey, _AnyRow] = {}
        for found in self._file.objects:
            try:
                row = parse(found)
            except (ValueError, TypeError, KeyError, AttributeError):
                continue
            self._rows[row.key] = row
        if not self._rows and (self._file.objects or self._file.is_foreign):
            raise UsageError(f"{path} has no rows of {suite}", hint="name another file with --out")

    @property
    def rows(self) -> tuple[_AnyRow, ...]:
        """All rows, in the order in which they were made."""
        return tuple(self._rows.values())

    def has(self, key: RowKey) -> bool:
        """Whether a row was made."""
        return key in self._rows

    def append(self, row: _AnyRow, value: dict[str, Any]) -> None:
        """Add a row, and write it to the disk at once.

        Args:
            row: The row.
            value: The row as an object, with what else its line has.

        Raises:
            NsaError: If the file cannot be written.
        """
        self._rows[row.key] = row
        self._file.append(value)


def _text_of(path: Path) -> str:
    """Return the text of a file; nothing if it does not exist."""
    try:
        return path.read_bytes().decode("utf-8", "replace") if path.exists() else ""
    except OSError as error:
        raise NsaError(
            f"cannot read {path}: {error.strerror or error}", hint="name another file with --out"
        ) from error

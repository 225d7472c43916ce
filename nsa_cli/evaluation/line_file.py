"""A JSON Lines file that results are appended to; a run that is killed loses at most a line."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nsa_models.errors import NsaError


class LineFile:
    """Appends objects to a file, each on a line that is on the disk before the next.

    Args:
        path: The file, continued if it exists; None to write nothing.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.text = ""
        if path is not None and path.exists():
            self.text = path.read_bytes().decode("utf-8", "replace")
        self._is_cut = bool(self.text) and not self.text.endswith("\n")

    def objects(self) -> Iterator[dict[str, Any]]:
        """Yield the objects that the file had; lines that were cut are left out."""
        for line in self.text.splitlines():
            try:
                found = json.loads(line)
            except ValueError:
                continue
            if isinstance(found, dict):
                yield found

    def append(self, value: dict[str, Any]) -> None:
        """Write an object.

        Raises:
            NsaError: If the file cannot be written.
        """
        if self.path is None:
            return
        line = json.dumps(value, ensure_ascii=False) + "\n"
        if self._is_cut:
            line, self._is_cut = "\n" + line, False
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise NsaError(
                f"{self.path} cannot be written: {error.strerror or error}",
                hint="check its permissions and the disk",
            ) from error

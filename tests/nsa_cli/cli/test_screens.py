"""What a person sees at terminals of 60, 80 and 120 columns, as it was agreed on.

The documents and answers are made up, so that no screen depends on a model. As in `test_golden`,
`NSA_TEST_GOLDEN=write` writes the screens anew.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

from tests.nsa_cli.cli.made_up import SCREENS

WRITE = os.environ.get("NSA_TEST_GOLDEN") == "write"
GOLDEN = Path(__file__).parent / "golden" / "screens"
_CODES = re.compile(r"\x1b\[(?!2K|1A)[0-9;?]*[A-Za-z]")


def at_the_end(shown: str) -> str:
    """Text of a terminal after some output, without colors and without what was erased."""
    lines, row, column = [""], 0, 0
    for part in re.split(r"(\n|\r|\x1b\[2K|\x1b\[1A)", _CODES.sub("", shown)):
        match part:
            case "\n":
                row, column = row + 1, 0
                lines += [""] * (row - len(lines) + 1)
            case "\r":
                column = 0
            case "\x1b[2K":
                lines[row] = ""
            case "\x1b[1A":
                row -= 1
            case _:
                before = lines[row].ljust(column)
                lines[row] = before[:column] + part + before[column + len(part) :]
                column += len(part)
    return "\n".join(lines[: row + 1])


@pytest.mark.parametrize(
    "columns",
    [80, pytest.param(60, marks=pytest.mark.long), pytest.param(120, marks=pytest.mark.long)],
)
@pytest.mark.parametrize("name", SCREENS)
def test_a_screen(terminal: Any, name: str, columns: int) -> None:
    first, words = SCREENS[name]
    _, shown = terminal(*words, columns=columns, first=first, TZ="UTC", NSA_CACHE_DIR="cache").end()
    screen = at_the_end(shown)
    assert "Traceback" not in screen
    for line in screen.split("\n"):
        copied = name == "help-ask" and "nsa ask" in line
        copied |= max(map(cell_len, line.split()), default=0) > columns  # such as a SHA-256
        assert cell_len(line) <= columns or copied, line
    path = GOLDEN / f"{name}-{columns}.txt"
    if WRITE:
        path.parent.mkdir(exist_ok=True)
        path.write_text(screen)
    assert screen == path.read_text()


def test_find_marks_the_words_of_the_query(terminal: Any) -> None:
    first, words = SCREENS["find"]
    _, shown = terminal(*words, first=first).end()
    red = re.findall(r"\x1b\[1;31m(.*?)\x1b\[0m", shown)
    assert {word.lower() for word in red} == {"operating", "margin"}
    assert len(red) >= 4

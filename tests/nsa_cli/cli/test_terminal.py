"""Commands at a terminal: progress during the work, which is erased afterwards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.nsa_cli.cli.test_screens import at_the_end


def test_an_answer_at_a_terminal(terminal: Any, text_file: Path, tiny_model: Path) -> None:
    code, shown = terminal(
        *("ask", str(text_file), "-a", "Who?", "-a", "When?"),
        *("--model", str(tiny_model), "--max-tokens", "6"),
    ).end()
    assert code == 0
    assert "Reading" in shown  # the progress bar
    assert "\x1b[1A\x1b[2K" in shown  # its removal
    assert shown.index("Q: Who?") < shown.index("[1] ") < shown.index("Q: When?")
    assert shown.rstrip().endswith("s")


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (("models", "list"), "qwen2.5-coder-0.5b (default)"),
        (("config", "list", "--all"), "model name, folder"),
        (("cache", "size"), "total"),
        (("doctor",), "device"),
    ],
)
def test_lists_at_a_terminal(terminal: Any, command: tuple[str, ...], words: str) -> None:
    code, shown = terminal(*command).end()
    assert code == 0
    assert words in shown
    assert "Traceback" not in shown


def test_a_missing_file_at_a_terminal(terminal: Any) -> None:
    code, shown = terminal("ask", "none.txt", "Who?").end()
    assert code == 3
    assert shown.strip().splitlines()[-1].endswith("Check the path.\x1b[0m")


def test_the_rows_of_a_batch_stay_at_a_terminal(
    terminal: Any, tmp_path: Path, prose: Any, tiny_model: Path
) -> None:
    """The bars are drawn again below each row, and are gone at the end."""
    folder = tmp_path / "papers"
    folder.mkdir()
    for name in ("a.txt", "b.txt"):
        (folder / name).write_text(prose(40))
    (folder / "empty.txt").touch()
    words = ("batch", "papers", "-a", "Who?", "--model", str(tiny_model), "--max-tokens", "4")
    code, shown = terminal(*words, columns=120).end()
    assert code == 5
    assert "All documents" in shown
    lines = at_the_end(shown).splitlines()
    rows = [json.loads(line) for line in lines if line.startswith("{")]
    names = [row["document"].rpartition("/")[2] for row in rows]
    assert names == ["a.txt", "b.txt", "empty.txt"]
    assert not any("All documents" in line for line in lines)

"""Progress of documents and tokens, at a terminal and elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nsa_cli.events import BatchProgress, Note, Progress
from nsa_cli.output.batch_progress import BatchRenderer, each_document, each_hundredth


def test_a_line_per_percent(capsys: pytest.CaptureFixture[str]) -> None:
    shown = BatchRenderer("Evaluation", each_hundredth())
    for done in range(1000):
        shown(BatchProgress(done=done, total=1000, name=f"text {done}"))
        shown(Progress(task="Reading", done=1, total=2, unit="tokens"))
    shown(BatchProgress(done=1000, total=1000, name=""))
    shown.close()
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert out == ""
    assert lines[0] == "nsa: 0% done; text 0"
    assert 90 <= len(lines) <= 101
    assert lines[1].startswith("nsa: 1% done, about ")
    assert lines[1].endswith(" s left; text 10")


def test_quiet_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    shown = BatchRenderer("All documents", each_document, quiet=True)
    shown(BatchProgress(done=0, total=2, name="text"))
    shown(Note(text="something"))
    shown.close()
    assert capsys.readouterr() == ("", "")


def test_two_bars_at_a_terminal(terminal: Any, tiny_model: Path) -> None:
    code, shown = terminal(
        *("eval", "needle", "--lengths", "1500", "--depths", "2", "--model", str(tiny_model)),
        *("--max-tokens", "3"),
    ).end()
    assert code == 0
    assert "Evaluation" in shown
    assert "needle, 1,500 tokens, depth 100%" in shown.replace("\r\n", " ")
    assert "% done" not in shown
    assert "0/1" in shown or "1/1" in shown
    assert "0 of 6,000" in shown

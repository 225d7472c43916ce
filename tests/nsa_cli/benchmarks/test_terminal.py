"""Times of what a command shows at a terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from nsa_cli.__main__ import run as run_program
from nsa_cli.benchmarks import terminal
from nsa_cli.benchmarks.terminal import (
    Seen,
    TerminalRun,
    lines_left,
    print_runs,
    summary,
    watch,
)
from nsa_cli.system import today
from nsa_models.errors import NsaError


def seen(seconds: float, text: str, *, answer: bool = False) -> Seen:
    return Seen(seconds=seconds, answer=answer, raw=text)


def test_the_longest_silence() -> None:
    found = summary(
        [
            seen(0.3, "\r⠋ Loading the model"),
            seen(0.4, "\r⠙ Loading the model"),
            seen(1.4, "\rReading a.txt 10 of 90 tokens"),
            seen(2.0, "\rReading a.txt 80 of 90 tokens, 10/s, 1 s left"),
            seen(2.5, "Morag", answer=True),
        ],
        3.25,
        1.5,
    )
    assert found.first_sign_seconds == 0.3
    assert found.first_word_seconds == 2.5
    assert found.total_seconds == 3.25
    assert found.silence_seconds == 1.0
    assert found.silence_began_seconds == 0.4
    assert found.silence_after == "⠙ Loading the model"
    assert found.stages == {"Loading the model": 0.3, "Reading a.txt of tokens": 1.4}
    assert found.load_average == 1.5


def test_a_silent_command() -> None:
    found = summary([], 2.0, 0.0)
    assert found.first_sign_seconds == found.first_word_seconds == found.silence_seconds == 2.0
    assert found.silence_after == ""


def test_a_command_in_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    code = (
        "import os, sys\nassert sys.stdout.isatty() and sys.stderr.isatty()\n"
        "print('\\x1b[2KLoading it', file=sys.stderr, flush=True)\nprint(os.environ['WORD'])"
    )
    found = watch([sys.executable, "-c", code], {"WORD": "yes"})
    assert list(found.stages) == ["Loading it"]
    assert found.first_sign_seconds <= found.first_word_seconds <= found.total_seconds
    print_runs([found])
    assert "Loading it" in capsys.readouterr().out


def test_a_command_that_fails() -> None:
    with pytest.raises(NsaError, match="exit code 3: told"):
        watch([sys.executable, "-c", "print('told'); raise SystemExit(3)"], {})


def test_an_error_is_told_without_frames_of_a_spinner() -> None:
    frames = (
        "\x1b[?25l\x1b[32m⠋\x1b[0m Opening a.pdf\r\x1b[2K\x1b[32m⠙\x1b[0m Opening a.pdf\r\n"
        "\x1b[?25h\r\x1b[1A\x1b[2K\x1b[31mnsa: no model at /tmp/x.\x1b[0m\r\n"
        "\x1b[31mName one.\x1b[0m\r\n"
    )
    assert " ".join(lines_left(frames).split()) == "nsa: no model at /tmp/x. Name one."
    code = f"import sys; sys.stderr.write({frames!r}); raise SystemExit(1)"
    with pytest.raises(NsaError, match="exit code 1: nsa: no model"):
        watch([sys.executable, "-c", code], {})


def test_a_report_says_what_was_asked_and_when(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[Sequence[str]] = []

    def watch_question(document: Path, question: str, options: Sequence[str]) -> TerminalRun:
        asked.append([str(document), question, *options])
        return summary([seen(1.0, "Morag", answer=True)], 2.0, 0.5)

    monkeypatch.setattr(terminal, "watch_question", watch_question)
    words = ["a.pdf", "Who?", "--runs", "2", "--no-store", "--quantize", "int8", "--json"]
    monkeypatch.setattr(sys, "argv", ["nsa", "bench", "terminal", *words])
    before = today()
    assert not run_program()
    report = json.loads(capsys.readouterr().out)
    assert report.pop("date") in (before, today())
    runs = report.pop("runs")
    assert [run["first_word_seconds"] for run in runs] == [1.0, 1.0]
    assert report == {
        "document": "a.pdf",
        "question": "Who?",
        "model": "qwen2.5-coder-0.5b",
        "answer_model": "auto",
        "quantization": "int8",
        "no_store": True,
    }
    assert len(asked) == 2
    assert {"--no-store", "--quantize", "int8"} <= set(asked[0])

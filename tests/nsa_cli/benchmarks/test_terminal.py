"""Times of what a command shows at a terminal."""

from __future__ import annotations

import sys

import pytest

from nsa_cli.benchmarks.terminal import Seen, print_runs, summary, watch
from nsa_models.errors import NsaError


def seen(seconds: float, text: str, *, answer: bool = False) -> Seen:
    return Seen(seconds=seconds, answer=answer, text=text)


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

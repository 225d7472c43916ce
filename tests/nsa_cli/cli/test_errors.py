"""The error boundary: a command's options decide how its errors are shown."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nsa_cli.cli.app import app
from nsa_models.errors import NsaError, UsageError

Run = Callable[..., tuple[int, str, str]]


def test_a_value_that_looks_like_a_flag(nsa: Run, tmp_path: Path) -> None:
    code, out, err = nsa("ask", str(tmp_path / "none.txt"), "-a", "--json")
    assert (code, out) == (3, "")
    assert err.startswith("nsa: ")


def test_a_question_that_looks_like_a_flag(
    nsa: Run, text_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("nsa_cli.answering.ask.ask", interrupted)
    _, _, err = nsa("ask", str(text_file), "-a", "--no-store")
    assert "finished work is kept" in err


@pytest.mark.parametrize("words", [("--json",), ()])
def test_the_boundary_reads_no_argv(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["nsa", "ask", "none.txt", "Who?", "--help"])
    with pytest.raises(SystemExit) as ended:
        app(["find", "/none.txt", "who", *words])
    assert ended.value.code == 3
    out, err = capsys.readouterr()
    if words:
        assert json.loads(out)["error"]["code"] == "missing"
    else:
        assert (out, err[:5]) == ("", "nsa: ")


@pytest.mark.parametrize("more", [("--json",), ()])
def test_unreadable_settings_are_reported_in_the_command_s_format(
    nsa: Run, more: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NSA_DEVICE", "tpu")
    code, out, err = nsa("ask", "a.txt", "Who?", *more)
    assert code == 2
    message = "NSA_DEVICE: device must be auto, cpu or cuda, got 'tpu'"
    if more:
        assert json.loads(out)["error"]["message"] == message
    else:
        assert err.startswith(f"nsa: {message}. ")


def test_help_reads_no_settings(nsa: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused() -> None:
        raise UsageError("read")

    monkeypatch.setattr("nsa_cli.config.settings.effective", refused)
    for words in (("ask", "--help"), ("ask", "-h"), ("ask", "a.txt", "Who?", "--help")):
        assert nsa(*words, model=None)[0] == 0
    assert nsa("doctor", "--help")[0] == 0
    assert nsa("ask", "a.txt", "--helper")[0] == 2


def test_help_shows_the_programs_defaults(nsa: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NSA_MAX_TOKENS", "9")
    assert "[default: 256" in nsa("ask", "--help-all", model=None)[1]


def test_a_question_is_not_followed_by_a_period(nsa: Run) -> None:
    code, _, err = nsa("cache", "rm")
    message = "nsa: what should be removed? Give a file, an id from `nsa cache list`, or --all.\n"
    assert (code, err) == (2, message)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("find", "a.txt", "-rent"), "nsa: no such option: -r. See `nsa find --help`; put -- be"),
        (("doctor", "-rent"), "nsa: no such option: -r. See `nsa doctor --help`.\n"),
        (
            ("find", "a.txt", "--topp"),
            "nsa: no such option: --topp. Did you mean --store or --top?\n",
        ),
    ],
)
def test_a_text_that_looks_like_an_option(nsa: Run, words: tuple[str, ...], told: str) -> None:
    code, out, err = nsa(*words)
    assert (code, out) == (2, "")
    assert err.startswith(told)


def test_two_dashes_begin_a_text(nsa: Run, text_file: Path, tiny_model: Path) -> None:
    words = ("find", str(text_file), "--top", "1", "--model", str(tiny_model), "--", "-rent")
    assert nsa(*words, model=None)[0] == 0


def test_the_help_lists_every_exit_code(nsa: Run) -> None:
    told = nsa("--help")[1].partition("Exit codes:")[2].partition("\n\n")[0]
    listed = {int(line.split()[0]) for line in told.splitlines() if line.strip()}
    kinds = [NsaError]
    for kind in kinds:
        kinds += kind.__subclasses__()
    assert listed >= {0, 5, 141, *(kind.exit_code for kind in kinds)}

"""The program around its commands: streams that are closed, encodings, signals, homes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SLOW = """
import nsa_cli.kv_store.prefill as reading
whole = reading.prefill
def slow(*arguments, **named):
    for done in whole(*arguments, **named, chunk_size=64):
        yield done
        print(done, file=sys.stderr, flush=True)
        if done >= 512:
            signal.pause()
import signal
reading.prefill = slow
"""
"""Reads in small steps, and waits for a signal when some of them are done."""

Run = Callable[..., "subprocess.CompletedProcess[bytes]"]


@pytest.fixture
def program(tmp_path: Path) -> Run:
    """A function that runs `nsa` through a shell, so that streams can be closed."""

    def run(line: str, **variables: str) -> subprocess.CompletedProcess[bytes]:
        env = {**os.environ, "NSA": f"{sys.executable} -m nsa_cli", **variables}
        return subprocess.run(
            ["/bin/sh", "-c", line], cwd=tmp_path, env=env, capture_output=True, timeout=120
        )

    return run


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-", "2</dev/null"])
@pytest.mark.parametrize(("words", "code"), [("models list", 0), ("ask none.txt Who?", 3)])
def test_closed_streams(program: Run, closed: str, words: str, code: int) -> None:
    done = program(f"$NSA {words} {closed}")
    assert done.returncode == code
    assert b"Traceback" not in done.stdout + done.stderr
    if closed == "<&-":
        assert done.stdout if code == 0 else done.stderr


def test_a_closed_input_is_no_pipe(program: Run) -> None:
    done = program('$NSA ask "Who wrote it?" <&-')
    assert done.returncode == 2
    assert done.stderr.startswith(b"nsa: no document. ")


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "cp1252"])
def test_what_an_encoding_lacks_is_replaced(program: Run, tmp_path: Path, encoding: str) -> None:
    line = '$NSA config set templates.t "你 “é” … –" && $NSA config get templates.t'
    config = {"XDG_CONFIG_HOME": str(tmp_path / "config")}
    done = program(line, PYTHONIOENCODING=encoding, LC_ALL="C.UTF-8", **config)
    assert done.returncode == 0, done.stderr
    told = done.stdout.decode(encoding).strip()
    assert (
        told
        == {
            "latin-1": '? "é" ... -',
            "ascii": '? "?" ... -',
            "cp1252": "? “é” … –",
        }[encoding]
    )
    done = program("$NSA config list --json", PYTHONIOENCODING=encoding, **config)
    assert json.loads(done.stdout)["templates"]["t"]["questions"] == ["你 “é” … –"]


def test_the_c_locale(program: Run) -> None:
    done = program("$NSA ask café.txt Who?", LC_ALL="C", PYTHONCOERCECLOCALE="0", PYTHONUTF8="0")
    assert done.returncode == 3
    assert done.stderr.startswith(b"nsa: caf")
    assert b"Traceback" not in done.stderr


def test_a_termination_keeps_what_was_read(
    start_nsa: Any, text_file: Path, tiny_model: Path, nsa: Any
) -> None:
    words = ("ask", str(text_file), "Who?", "--model", str(tiny_model), "--max-tokens", "6")
    process = start_nsa(*words, first=SLOW)
    assert process.stderr is not None
    while not (line := process.stderr.readline()).startswith("512"):
        assert line, process.wait()
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 143
    assert out == ""
    assert err.endswith("nsa: terminated. Run it again to continue; finished work is kept.\n")
    assert json.loads(nsa(*words[:3], "--json")[1])["stats"]["reused_tokens"] >= 448


@pytest.mark.long
def test_a_termination_in_a_chat(start_nsa: Any, text_file: Path, tiny_model: Path) -> None:
    process = start_nsa(
        *("chat", str(text_file), "--model", str(tiny_model), "--max-tokens", "2"),
        stdin=subprocess.PIPE,
    )
    process.stdin.write("/help\n")
    process.stdin.flush()
    assert process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143
    assert "Traceback" not in err


@pytest.mark.parametrize("home", ["/proc", pytest.param("/dev/null", marks=pytest.mark.long)])
def test_a_home_that_cannot_be_written(
    program: Run, text_file: Path, tiny_model: Path, home: str
) -> None:
    """Not even root can create a folder there."""
    unset = "unset NSA_CACHE_DIR XDG_CONFIG_HOME XDG_CACHE_HOME;"
    ask = f"ask {text_file} Who? --model {tiny_model} --max-tokens 2 --json"
    done = program(f"{unset} HOME={home} $NSA {ask}")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["answer"] is not None
    done = program(f"{unset} HOME={home} $NSA config set device cpu")
    assert done.returncode in (1, 2)
    assert b"cannot be written" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_no_home_at_all(
    nsa: Any, text_file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("NSA_CACHE_DIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)

    def unknown(*_: Any) -> None:
        raise KeyError

    monkeypatch.setattr("pwd.getpwuid", unknown)
    monkeypatch.chdir(tmp_path)
    code, out, err = nsa("ask", str(text_file), "Who?")
    assert (code, out) == (1, "")
    said = "nsa: no home folder for the cache: HOME is not set. Set NSA_CACHE_DIR to a folder.\n"
    assert err == said
    assert nsa("config", "list", "--json")[0] == 0
    assert nsa("config", "set", "device", "cpu")[0] == 1
    assert not (tmp_path / "~").exists()


WITHOUT_POSIX = """
import builtins, os, signal, types
whole = builtins.__import__
absent = {"fcntl", "grp", "pty", "pwd", "resource", "termios", "tty"}
names = ("fork", "getuid", "geteuid", "killpg", "setsid", "statvfs", "sysconf", "sysconf_names")
windows = types.SimpleNamespace(**{k: v for k, v in vars(os).items() if k not in names})
def importing(name, globals=None, *rest, **more):
    ours = (globals or {}).get("__name__", "").split(".")[0].startswith("nsa_")
    if ours and name in absent:
        raise ImportError(f"No module named {name!r}")
    return windows if ours and name == "os" else whole(name, globals, *rest, **more)
builtins.__import__ = importing
for name in ("SIGALRM", "SIGHUP", "SIGKILL", "SIGPIPE", "SIGUSR1"):
    delattr(signal, name)
"""
"""Takes from this project's packages what only POSIX has."""


@pytest.mark.parametrize(
    "words",
    [
        ("ask", "TEXT", "Who?", "--model", "MODEL", "--max-tokens", "2"),
        ("find", "TEXT", "report", "--model", "MODEL"),
        ("cache", "list"),
        ("config", "list", "--all"),
    ],
)
def test_the_program_runs_without_posix(
    start_nsa: Any, text_file: Path, tiny_model: Path, words: tuple[str, ...]
) -> None:
    named = {"TEXT": str(text_file), "MODEL": str(tiny_model)}
    process = start_nsa(*(named.get(word, word) for word in words), first=WITHOUT_POSIX)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert out or words == ("cache", "list")


def test_what_only_posix_has_is_taken_away(start_nsa: Any) -> None:
    first = f"{WITHOUT_POSIX}\nexec('import os; os.sysconf', {{'__name__': 'nsa_cli.x'}})"
    process = start_nsa("--version", first=first)
    assert "AttributeError" in process.communicate(timeout=60)[1]

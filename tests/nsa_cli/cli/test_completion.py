"""Shell completion: what is offered, and live shells that ask for it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nsa_cli.cli import completion
from nsa_models.hub import aliases


@pytest.fixture
def shells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with two files; `nsa` is on the path of shells that start in it."""
    program = tmp_path / "bin" / "nsa"
    program.parent.mkdir()
    code = "import sys; sys.argv[0] = 'nsa'; from nsa_cli.__main__ import main; main()"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{code}" "$@"\n')
    program.chmod(0o755)
    for name in ("contract.docx", "report one.pdf"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    return tmp_path


def output(*command: str) -> list[str]:
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert not done.stderr
    return done.stdout.split("\n")[:-1]


def in_bash(*words: str) -> list[str]:
    typed = " ".join(f"'{word}'" for word in words)
    return output(
        *("bash", "--norc", "-c"),
        f'eval "$(_NSA_COMPLETE=source_bash nsa)"; COMP_WORDS=({typed}); '
        f'COMP_CWORD={len(words) - 1}; _nsa_completion nsa; printf "%s\\n" "${{COMPREPLY[@]}}"',
    )


@pytest.mark.skipif(not shutil.which("bash"), reason="no bash")
@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("nsa", "su"), ["summarize"]),
        (("nsa", "cache", "pr"), ["prune"]),
        (("nsa", "ask", "--pass"), ["--password"]),
        (("nsa", "ask", "--attention", ""), ["nsa", "dense"]),
        (("nsa", "ask", "--model", "smol"), ["smollm2-135m"]),
        (("nsa", "config", "get", "max_"), ["max_tokens"]),
        (("nsa", "ask", "cont"), [""]),  # bash completes file names where nsa offers nothing
    ],
)
@pytest.mark.usefixtures("shells")
def test_bash(words: tuple[str, ...], offered: list[str]) -> None:
    assert in_bash(*words) == offered


PROMPT = "PS1='re''ady> '"
"""A prompt that differs from the command that sets it, which a terminal shows, too."""


def type_in(shell: Any, lines: tuple[str, ...], typed: str, wanted: str) -> None:
    """Type some lines into a shell at a terminal, then a text and Tab; wait for what it shows."""
    for line in (PROMPT, *lines):
        shell.type(f"{line}\n")
        shell.read_until("ready> ")
    shell.type(f"{typed}\t")
    shell.read_until(wanted)


@pytest.mark.skipif(not shutil.which("zsh"), reason="no zsh")
@pytest.mark.parametrize(
    ("typed", "wanted"),
    [
        ("nsa su", "nsa summarize"),
        ("nsa ask --pass", "nsa ask --password"),
        ("nsa ask --attention d", "nsa ask --attention dense"),
        ("nsa ask cont", "nsa ask contract.docx"),
    ],
)
@pytest.mark.usefixtures("shells")
def test_zsh_at_a_terminal(terminal: Any, typed: str, wanted: str) -> None:
    lines = ("autoload -Uz compinit", "compinit -u", 'eval "$(_NSA_COMPLETE=source_zsh nsa)"')
    type_in(terminal("-f", "-i", program="zsh", TERM="dumb"), lines, typed, wanted)


@pytest.mark.skipif(not shutil.which("zsh"), reason="no zsh")
def test_the_first_tab_after_the_installation_in_zsh(
    shells: Path, terminal: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ZDOTDIR", raising=False)
    told = output("zsh", "-f", "-c", "nsa --install-completion; true")
    assert told[0].startswith("zsh completion installed in ")
    assert (shells / ".zfunc" / "_nsa").exists()
    (shells / ".zshrc").write_text("fpath+=~/.zfunc\nautoload -Uz compinit\ncompinit -u\n")
    type_in(terminal("-i", program="zsh", TERM="dumb"), (), "nsa su", "nsa summarize")


@pytest.mark.skipif(not shutil.which("bash"), reason="no bash")
@pytest.mark.parametrize(
    ("typed", "wanted"), [("nsa su", "nsa summarize"), ("nsa ask cont", "nsa ask contract.docx")]
)
@pytest.mark.usefixtures("shells")
def test_bash_at_a_terminal(terminal: Any, typed: str, wanted: str) -> None:
    lines = ('eval "$(_NSA_COMPLETE=source_bash nsa)"',)
    shell = terminal("--norc", "--noprofile", "-i", program="bash", TERM="dumb")
    type_in(shell, lines, typed, wanted)


@pytest.mark.skipif(not shutil.which("fish"), reason="no fish")
@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("nsa su", "summarize"),
        ("nsa ask --pass", "--password"),
        ("nsa ask --attention d", "dense"),
        ("nsa ask cont", "contract.docx"),
    ],
)
@pytest.mark.usefixtures("shells")
def test_fish(typed: str, offered: str) -> None:
    source = "_NSA_COMPLETE=source_fish nsa | source"
    found = output("fish", "--no-config", "-c", f"{source}; complete -C '{typed}'")
    assert [line.split("\t")[0] for line in found] == [offered]


def test_own_models_are_offered(tiny_model: Path, cache_folder: Path) -> None:  # noqa: ARG001
    aliases.add_name("mine", tiny_model)
    assert completion.model_names("m") == ["mine"]
    aliases.names_file().write_text("broken")
    assert completion.model_names("qwen2.5-coder-0") == ["qwen2.5-coder-0.5b"]


def test_any_text_has_no_completion() -> None:
    assert completion.for_metavar(None) is None
    assert completion.for_metavar("QUESTION") is None
    assert completion.for_metavar("FILE|ID") is None

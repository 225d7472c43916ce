"""Golden files of help texts and JSON shapes.

`NSA_TEST_GOLDEN=write` writes them; review the difference before a commit.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

WRITE = os.environ.get("NSA_TEST_GOLDEN") == "write"
GOLDEN = Path(__file__).parent / "golden"
COMMANDS = [
    *("", "ask", "find", "summarize", "chat", "batch", "serve", "doctor", "cache"),
    "cache list",
    *("cache show", "cache size", "cache rm", "cache prune", "models", "models list"),
    *(
        "models show",
        "models pull",
        "models add",
        "models rm",
        "config",
        "config list",
        "config get",
    ),
    *("config set", "config unset", "config path", "bench", "bench read", "bench kernels"),
    "eval",
    "train",
    "shards",
    "pretrain",
]
Run = Callable[..., tuple[int, str, str]]


def compare(name: str, text: str) -> None:
    path = GOLDEN / name
    if WRITE:
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert text == path.read_text()


@pytest.mark.parametrize("command", COMMANDS)
def test_help(nsa: Run, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "90")
    code, out, err = nsa(*command.split(), "--help", model=None)
    assert (code, err) == (0, "")
    compare(f"help-{command.replace(' ', '-') or 'nsa'}.txt", out)


@pytest.mark.parametrize("command", ["ask", "batch", "eval"])
def test_help_of_all_options(nsa: Run, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "90")
    code, out, err = nsa(command, "--help-all", model=None)
    assert (code, err) == (0, "")
    compare(f"help-all-{command}.txt", out)


def test_every_command_has_a_golden_file(nsa: Run) -> None:
    _, out, _ = nsa("--help")
    listed = [line.split()[0] for line in out.split("Commands:\n")[1].splitlines() if line]
    assert set(listed) == {command for command in COMMANDS if command and " " not in command}


def shape(value: Any) -> Any:
    """Keys and types of a value, without its contents."""
    if isinstance(value, dict):
        return {key: shape(member) for key, member in value.items()}
    if isinstance(value, list):
        shapes = [shape(item) for item in value]
        return [item for number, item in enumerate(shapes) if item not in shapes[:number]]
    return "null" if value is None else type(value).__name__


@pytest.mark.parametrize(
    "command",
    [
        ("ask", "TEXT", "Who?"),
        ("ask", "TEXT", "-a", "Who?", "-a", "When?"),
        ("ask", "MISSING", "Who?"),
        ("ask", "TABLE", "Total?"),
        ("find", "TEXT", "worker", "--top", "2"),
        ("summarize", "TEXT", "--length", "short"),
        ("cache", "list"),
        ("cache", "size"),
        ("models", "list"),
        ("models", "show", "smollm2-135m"),
        ("models", "show", "MODEL"),
        ("doctor",),
        ("config", "list"),
        ("eval", "needle", "--lengths", "1500", "--depths", "1", "--bm25"),
    ],
)
def test_the_shape_of_json(
    nsa: Run,
    text_file: Path,
    tiny_model: Path,
    command: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if command[0] in ("cache", "config"):
        nsa("ask", str(text_file), "Who?")
        monkeypatch.setenv("NSA_MAX_TOKENS", "9")
    words = {"TEXT": str(text_file), "MISSING": f"{text_file}.none"}
    words["MODEL"] = str(tiny_model)
    words["TABLE"] = str(text_file.with_suffix(".csv"))
    Path(words["TABLE"]).write_text("Item,Region,Amount\na,West,1\nb,East,2\n")
    if command[0] == "eval":
        pytest.importorskip("bm25s")
    _, out, _ = nsa(*(words.get(word, word) for word in command), "--json")
    name = "-".join(word.strip("-").lower().rstrip("?") for word in command)
    compare(f"json-{name}.json", json.dumps(shape(json.loads(out)), indent=1) + "\n")


@pytest.mark.parametrize("command", [("models", "list"), ("doctor",), ("find", "TEXT", "worker")])
def test_a_closed_pipe_ends_quietly(
    start_nsa: Any, text_file: Path, tiny_model: Path, command: tuple[str, ...]
) -> None:
    reader, writer = os.pipe()
    named = ("--model", str(tiny_model)) if command[0] == "find" else ()
    words = [str(text_file) if word == "TEXT" else word for word in command]
    process = start_nsa(*words, *named, stdout=writer)
    os.close(writer)
    os.close(reader)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 141
    assert "Traceback" not in err
    assert "BrokenPipe" not in err


@pytest.mark.long
def test_no_color_before_and_after_a_command(
    terminal: Any, text_file: Path, tiny_model: Path
) -> None:
    find = ("find", str(text_file), "worker", "--model", str(tiny_model), "-n", "1")
    for words in (("--no-color", *find), (*find, "--no-color")):
        code, shown = terminal(*words).end()
        assert code == 0
        assert "\x1b[35m" not in shown
        assert "31m" not in shown
    code, shown = terminal(*find, TERM="dumb").end()
    assert code == 0
    assert "\x1b[" not in shown

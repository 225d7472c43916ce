"""`-v` logs steps to standard error, before or after the command."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def reset_logger() -> Iterator[None]:
    """Reset the logger after a test."""
    yield
    log = logging.getLogger("nsa")
    log.handlers.clear()
    log.setLevel(logging.WARNING)


@pytest.mark.parametrize("flag", ["-v", "--verbose"])
def test_steps_are_logged(nsa: Run, text_file: Path, flag: str, tiny_model: Path) -> None:
    _, plain, silent = nsa("ask", str(text_file), "Who?", "--no-store")
    code, out, err = nsa("ask", str(text_file), "Who?", "--no-store", flag)
    assert (code, out) == (0, plain)
    assert "passage at" not in silent
    assert f"nsa: model {tiny_model} in {tiny_model}" in err
    assert f"nsa: {text_file}: {len(text_file.read_text()):,} characters in 1 pieces" in err
    assert "of them stored before; model loaded in" in err
    assert f"nsa: passage at {text_file}, line" in err
    assert "tokens of answer, the first after" in err


def test_before_a_command_and_with_quiet(
    nsa: Run, text_file: Path, tiny_model: Path, cache_folder: Path
) -> None:
    words = ("ask", str(text_file), "Who?", "--model", str(tiny_model), "--max-tokens", "4", "-q")
    code, _, err = nsa("-v", *words)
    assert code == 0
    [line] = [line for line in err.splitlines() if line.startswith("nsa: stored in ")]
    assert Path(line.removeprefix("nsa: stored in ")).parent == cache_folder / "readings"


def test_a_file_with_the_name_of_the_flag(nsa: Run) -> None:
    code, _, err = nsa("find", "--top", "1", "--", "-v", "worker", model=None)
    assert code == 3
    assert "-v does not exist" in err

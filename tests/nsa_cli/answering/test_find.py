"""`nsa find`, in a pipe and at a terminal."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., tuple[int, str, str]]
KEYS = ["source", "page", "page_label", "line_start", "line_end", "unit", "quote", "score"]


@pytest.fixture
def tree(tmp_path: Path, prose: Any) -> Path:
    """A folder of two texts."""
    folder = tmp_path / "tree"
    folder.mkdir()
    (folder / "a.txt").write_text(prose(60))
    (folder / "b.txt").write_text(prose(60, seed=7))
    return folder


def test_matches_in_json(nsa: Run, tree: Path) -> None:
    code, out, err = nsa("find", str(tree), "worker of line 44", "--json", "--top", "4")
    assert (code, err) == (0, "")
    shown = json.loads(out)
    assert list(shown) == ["query", "matches"]
    assert shown["query"] == "worker of line 44"
    assert 1 <= len(shown["matches"]) <= 4
    scores = [match["score"] for match in shown["matches"]]
    assert scores == sorted(scores, reverse=True)
    assert sum(scores) == pytest.approx(1, abs=0.001)
    for match in shown["matches"]:
        assert list(match) == KEYS
        lines = Path(match["source"]).read_text().splitlines()
        there = "\n".join(lines[match["line_start"] - 1 : match["line_end"]])
        assert match["quote"] in there


def test_matches_in_a_pipe(nsa: Run, tree: Path) -> None:
    code, out, err = nsa("find", str(tree), "worker of line 44")
    assert (code, err) == (0, "")
    for line in out.splitlines():
        found = re.fullmatch(r"(.+\.txt):(\d+): (The worker of line .+)", line)
        assert found is not None, line
        assert found[3] == Path(found[1]).read_text().splitlines()[int(found[2]) - 1]


def test_find_uses_the_kv_cache_of_ask(
    nsa: Run, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nsa("ask", str(tree), "Who?")
    monkeypatch.setattr("nsa_cli.kv_store.prefill.prefill", None)
    code, out, _ = nsa("find", str(tree), "line 3", "-n", "2")
    assert code == 0
    assert out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(("a.txt",), "no query for a.txt"), (("a.txt", " "), "the query is empty")],
)
def test_usage(nsa: Run, arguments: tuple[str, ...], message: str) -> None:
    code, out, err = nsa("find", *arguments)
    assert (code, out) == (2, "")
    assert err.startswith(f"nsa: {message}")


def test_at_a_terminal(terminal: Any, tree: Path, tiny_model: Path) -> None:
    code, shown = terminal(
        "find", str(tree), "worker of line 44", "--model", str(tiny_model), "-n", "2"
    ).end()
    assert code == 0
    assert "%" in shown
    assert "a.txt, line" in shown or "b.txt, line" in shown
    assert "\x1b[1;31mworker" in shown  # words of the query are highlighted
    code, shown = terminal(
        *("find", str(tree), "worker of line 44", "--model", str(tiny_model), "-n", "2"),
        NO_COLOR="1",
    ).end()
    assert code == 0
    assert "\x1b[1;31m" not in shown
    assert "\x1b[35m" not in shown

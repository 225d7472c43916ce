"""`nsa summarize`: statements with their sources."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nsa_cli.answering.statements import LENGTHS, first_sentence

Run = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("The pier cost 4,200\ncrowns. It was new.", "The pier cost 4,200 crowns."),
        ("Version 3.0 of it was built in Rust", "Version 3.0 of it was built in Rust"),
        ("No. It was not built at all. Ever.", "No. It was not built at all."),
        ("This text says that either side may end it.", "Either side may end it."),
        ("", ""),
    ],
)
def test_the_first_sentence(text: str, sentence: str) -> None:
    assert first_sentence(text) == sentence


def test_a_summary_in_json(nsa: Run, text_file: Path) -> None:
    code, out, err = nsa("summarize", str(text_file), "--json", "--length", "short")
    assert (code, err) == (0, "")
    shown = json.loads(out)
    assert list(shown) == ["statements", "model", "document_tokens", "reused_tokens"]
    assert 1 <= len(shown["statements"]) <= LENGTHS["short"]
    lines = text_file.read_text().splitlines()
    for statement in shown["statements"]:
        assert list(statement) == ["section", "place", "text", "citations"]
        assert (statement["section"], statement["place"]) == (None, None)
        [citation] = statement["citations"]
        there = "\n".join(lines[citation["line_start"] - 1 : citation["line_end"]])
        assert citation["quote"] in there


def test_a_summary_for_people(nsa: Run, text_file: Path) -> None:
    code, out, _ = nsa("summarize", str(text_file), "--focus", "the weather")
    assert code == 0
    statements, citations = out.rsplit("\n\n", 1)
    numbers = re.findall(r" \[(\d+)\]$", statements, re.MULTILINE)
    assert numbers == [str(number) for number in range(1, len(numbers) + 1)]
    assert len(citations.splitlines()) == len(numbers)


def test_an_outline_follows_the_documents_sections(
    nsa: Run, tmp_path: Path, prose: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.md"
    path.write_text(f"# First part\n\n{prose(40)}\n# Second part\n\n{prose(40, seed=3)}")
    monkeypatch.setattr(
        "nsa_cli.answering.statements.first_sentence", lambda text: f"It says {text!r}"
    )
    code, out, _ = nsa("summarize", str(path), "--outline", "--json")
    assert code == 0
    found = json.loads(out)["statements"]
    assert [statement["section"] for statement in found] == ["First part", "Second part"]
    assert [statement["place"]["line_start"] for statement in found] == [1, 44]
    for statement, last in zip(found, (43, 999), strict=True):
        for citation in statement["citations"]:
            assert statement["place"]["line_start"] <= citation["line_start"] <= last
    _, out, _ = nsa("summarize", str(path), "--outline")
    assert f"Second part ({path}, line 44)\n  It says" in out


def test_missing_sections_are_reported(nsa: Run, text_file: Path) -> None:
    code, _, err = nsa("summarize", str(text_file), "--outline", "--length", "short")
    assert code == 0
    assert "no headings found in" in err


def test_a_short_text(nsa: Run, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("The pier cost 4,200 crowns.\n")
    code, out, _ = nsa("summarize", str(tmp_path / "a.txt"), "--json")
    assert code == 0
    assert len(json.loads(out)["statements"]) <= 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "no document"),
        (("a.txt", "--length", "huge"), "invalid value for --length: 'huge'"),
        (("a.txt", "--focus", " "), "--focus is empty"),
    ],
)
def test_usage(nsa: Run, arguments: tuple[str, ...], message: str) -> None:
    code, out, err = nsa("summarize", *arguments)
    assert (code, out) == (2, "")
    assert err.startswith(f"nsa: {message}")


def test_at_a_terminal(terminal: Any, text_file: Path, tiny_model: Path) -> None:
    code, shown = terminal(
        "summarize", str(text_file), "--model", str(tiny_model), "--length", "short"
    ).end()
    assert code == 0
    assert re.search(r"\[1\] \S*log\.txt", shown.replace("\r\n", ""))

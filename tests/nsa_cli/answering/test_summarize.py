"""`nsa summarize`: overview and statements with their sources."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nsa_cli.config.summary_length import LENGTHS
from nsa_cli.results import DocumentSummary

Run = Callable[..., tuple[int, str, str]]
WITHOUT_TORCH = "import sys\nsys.modules['torch'] = None\nfrom nsa_cli.__main__ import main\nmain()"


def test_a_summary_in_json(nsa: Run, text_file: Path) -> None:
    code, out, err = nsa("summarize", str(text_file), "--json", "--length", "short")
    assert (code, err) == (0, "")
    shown = json.loads(out)
    assert {"statements", "model", "document_tokens", "reused_tokens"} <= shown.keys()
    assert shown["documents"][0]["source"] == str(text_file)
    assert shown["documents"][0]["overview"] == shown["overview"]
    lines = text_file.read_text().splitlines()
    assert shown["statements"]
    for statement in (*shown["statements"], *shown["overview"]):
        assert (statement["section"], statement["place"]) == (None, None)
        for citation in statement["citations"]:
            there = "\n".join(lines[citation["line_start"] - 1 : citation["line_end"]])
            assert citation["quote"] in there
        if statement["verbatim"]:
            assert statement["text"] == statement["citations"][0]["quote"]
            assert statement["citations"][0]["verified"]


def test_a_summary_for_people(nsa: Run, text_file: Path) -> None:
    code, out, _ = nsa("summarize", str(text_file))
    assert code == 0
    text, citations = out.rsplit("\n\n", 1)
    numbers = {int(number) for number in re.findall(r"\[(\d+)\]", text)}
    assert numbers == set(range(1, len(citations.splitlines()) + 1))


def test_a_longer_summary_says_more(nsa: Run, text_file: Path) -> None:
    words = {}
    for length in ("60", "short", "long"):
        _, out, _ = nsa("summarize", str(text_file), "--json", "--length", length)
        made = json.loads(out)["statements"]
        words[length] = sum(len(statement["text"].split()) for statement in made)
    assert words["60"] < words["short"] < words["long"] <= LENGTHS["long"]


def test_an_outline_has_every_section(nsa: Run, tmp_path: Path, prose: Any) -> None:
    path = tmp_path / "a.md"
    path.write_text(f"# First part\n\n{prose(40)}\n# Second part\n\n{prose(40, seed=3)}")
    code, out, _ = nsa("summarize", str(path), "--outline", "--length", "short", "--json")
    assert code == 0
    found = json.loads(out)["statements"]
    assert {statement["section"] for statement in found} == {"First part", "Second part"}
    assert {statement["place"]["line_start"] for statement in found} == {1, 44}
    for statement in found:
        first, last = (1, 43) if statement["section"] == "First part" else (44, 999)
        for citation in statement["citations"]:
            assert first <= citation["line_start"] <= last
    _, out, _ = nsa("summarize", str(path), "--outline", "--length", "short")
    assert f"Second part ({path}, line 44)\n- The worker" in out


def test_missing_sections_are_reported(nsa: Run, text_file: Path) -> None:
    code, _, err = nsa("summarize", str(text_file), "--outline", "--length", "short")
    assert code == 0
    assert "no headings found in" in err


def test_a_short_text(nsa: Run, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("The new pier cost 4,200 crowns.\n")
    code, out, _ = nsa("summarize", str(tmp_path / "a.txt"))
    assert code == 0
    assert out.splitlines() == [
        "The new pier cost 4,200 crowns. [1]",
        "",
        f"[1] {tmp_path}/a.txt, line 1: “The new pier cost 4,200 crowns.”",
    ]


def test_dates_and_obligations_are_kept(nsa: Run, tmp_path: Path, prose: Any) -> None:
    kept = "The tenant must leave the harbor office by 31 March 2028."
    path = tmp_path / "lease.txt"
    path.write_text(f"{prose(30)}{kept}\n{prose(30, seed=5)}")
    _, out, _ = nsa("summarize", str(path), "--json", "--length", "short")
    assert kept in [statement["text"] for statement in json.loads(out)["statements"]]


def test_a_focus_chooses_what_is_said(nsa: Run, tmp_path: Path, prose: Any) -> None:
    path = tmp_path / "log.txt"
    rain = "Heavy rain flooded the quay on 4 May 2021."
    path.write_text(f"{prose(60)}{rain}\n{prose(60, seed=5)}")
    code, out, _ = nsa("summarize", str(path), "--focus", "rain and floods", "--json")
    assert code == 0
    statements = json.loads(out)["statements"]
    assert [each["text"] for each in statements if each["verbatim"]] == [rain]


def test_a_focus_on_nothing_says_so(nsa: Run, tmp_path: Path, prose: Any) -> None:
    path = tmp_path / "log.txt"
    path.write_text(prose(20))
    code, out, err = nsa("summarize", str(path), "--focus", "zeppelins", "--json")
    assert code == 0
    assert [each for each in json.loads(out)["statements"] if each["verbatim"]] == []
    if not json.loads(out)["statements"]:
        assert "has no sentence about “zeppelins” that a summary could cite" in err


def test_a_text_without_sentences_says_so(nsa: Run, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("the\n")
    code, out, err = nsa("summarize", str(tmp_path / "a.txt"))
    assert (code, out) == (0, "")
    assert err == f"nsa: {tmp_path}/a.txt has no sentence that a summary could cite\n"


def test_a_folder_has_a_paragraph_for_each_file_and_one_for_all(
    nsa: Run, tmp_path: Path, prose: Any
) -> None:
    folder = tmp_path / "minutes"
    folder.mkdir()
    (folder / "a.txt").write_text(f"Mira Lund opened the meeting on 3 May 2021.\n{prose(12)}")
    (folder / "b.txt").write_text(f"Jonas Berg must repair the crane.\n{prose(12, seed=9)}")
    (folder / "c.pdf").write_bytes(b"%PDF-1.4\nbroken")
    code, out, err = nsa("summarize", str(folder), "--json", "--length", "short")
    assert code == 0
    assert "c.pdf" in err
    assert "left out" in err
    shown = json.loads(out)
    assert [Path(each["source"]).name for each in shown["documents"]] == ["a.txt", "b.txt"]
    for document in shown["documents"]:
        cited = [c["source"] for each in document["overview"] for c in each["citations"]]
        assert set(cited) == {document["source"]}
    cited = [c["source"] for each in shown["overview"] for c in each["citations"]]
    assert {Path(each).name for each in cited} == {"a.txt", "b.txt"}
    assert shown["document_tokens"] == sum(d["document_tokens"] for d in shown["documents"])
    _, out, _ = nsa("summarize", str(folder), "--length", "short")
    assert f"\n\n{folder / 'a.txt'}\n\n" in out
    assert "\n- " not in out


def test_a_folder_without_text_fails(nsa: Run, tmp_path: Path) -> None:
    folder = tmp_path / "minutes"
    folder.mkdir()
    for name in ("a.pdf", "b.pdf"):
        (folder / name).write_bytes(b"%PDF-1.4\nbroken")
    code, out, err = nsa("summarize", str(folder))
    assert (code, out) == (3, "")
    assert "b.pdf" in err


def test_markdown_has_footnotes(nsa: Run, tmp_path: Path, prose: Any) -> None:
    path = tmp_path / "a_b.md"
    path.write_text(f"# First *part*\n\n{prose(40)}\n# Second\n\n{prose(40, seed=3)}")
    code, out, _ = nsa("summarize", str(path), "--format", "markdown", "--length", "short")
    assert code == 0
    assert out.startswith(f"# {str(path).replace('_', chr(92) + '_')}\n\n")
    assert re.search(r"^## First \\\*part\\\* \(", out, re.MULTILINE)
    marks = set(re.findall(r"\[\^(\d+)\](?!:)", out))
    assert marks == set(re.findall(r"^\[\^(\d+)\]: ", out, re.MULTILINE))
    assert marks


BEFORE = "nsa: summarized before; --no-store summarizes again\n"


def test_the_same_summary_again_needs_no_torch(nsa: Run, text_file: Path, tiny_model: Path) -> None:
    words = ("summarize", str(text_file), "--length", "short")
    code, out, err = nsa(*words)
    assert (code, err) == (0, "")
    run = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, *words, "--model", str(tiny_model)],
        capture_output=True,
        text=True,
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, out, BEFORE)
    text_file.write_text(text_file.read_text() + "One line more.\n")
    assert nsa(*words)[2] == ""


def test_a_summary_that_other_rules_checked_is_written_anew(
    nsa: Run, text_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("summarize", str(text_file), "--length", "short")
    assert [nsa(*words)[2] for _ in range(2)] == ["", BEFORE]
    monkeypatch.setattr("nsa_cli.summaries.once.SUPPORT_RULES", 10**6)
    assert [nsa(*words)[2] for _ in range(2)] == ["", BEFORE]


def test_a_folder_is_summarized_once(nsa: Run, tmp_path: Path, prose: Any) -> None:
    folder = tmp_path / "minutes"
    folder.mkdir()
    for number, name in enumerate(("a.txt", "b.txt")):
        (folder / name).write_text(prose(30, seed=number))
    words = ("summarize", str(folder), "--length", "short", "--json")
    _, out, err = nsa(*words)
    assert err == ""
    code, again, err = nsa(*words)
    assert (code, err) == (0, BEFORE)
    before, after = json.loads(out), json.loads(again)
    for key in ("overview", "statements"):
        assert before[key] == after[key]
    assert after["reused_tokens"] == after["document_tokens"]
    (folder / "b.txt").write_text(prose(30, seed=7))
    code, _, err = nsa(*words)
    assert code == 0
    assert err.startswith("nsa: 1 of 2 documents summarized before")


def test_lines_that_were_left_out_are_told_again(
    nsa: Run, text_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nsa_cli.summaries import make

    def lossy(*given: Any) -> DocumentSummary:
        return replace(made(*given), warnings=("half of its lines are read",))

    made = make.summarize_document
    monkeypatch.setattr(make, "summarize_document", lossy)
    words = ("summarize", str(text_file), "--length", "short")
    assert nsa(*words)[2] == ""  # the log itself told it
    assert "half of its lines are read\n" in nsa(*words)[2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "no document"),
        (("a.txt", "--length", "huge"), "invalid value for --length: 'huge'"),
        (("a.txt", "--length", "3"), "invalid value for --length: '3'"),
        (("a.txt", "--focus", " "), "--focus is empty"),
        (("a.txt", "--format", "html"), "invalid value for --format: 'html'"),
    ],
)
def test_usage(nsa: Run, arguments: tuple[str, ...], message: str) -> None:
    code, out, err = nsa("summarize", *arguments)
    assert (code, out) == (2, "")
    assert err.startswith(f"nsa: {message}")


def test_json_is_no_markdown(nsa: Run) -> None:
    code, out, _ = nsa("summarize", "a.txt", "--format", "markdown", "--json")
    assert code == 2
    assert json.loads(out)["error"]["message"] == "--json conflicts with --format"


def test_at_a_terminal(terminal: Any, text_file: Path, tiny_model: Path) -> None:
    code, shown = terminal(
        "summarize", str(text_file), "--model", str(tiny_model), "--length", "short"
    ).end()
    assert code == 0
    assert re.search(r"\[1\] \S*log\.txt", shown.replace("\r\n", ""))

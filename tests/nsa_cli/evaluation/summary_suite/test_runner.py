"""`nsa eval summaries` with a tiny model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from nsa_cli.evaluation.summary_suite.meetings import read_meetings
from nsa_cli.evaluation.summary_suite.ways import chunk_texts

Run = Callable[..., tuple[int, str, str]]


class Words:
    """A tokenizer whose tokens are words."""

    def encode(self, text: str) -> list[int]:
        return list(range(len(text.split())))


def test_chunks_hold_all_the_text_in_order(meetings_file: Path) -> None:
    document = read_meetings(meetings_file, held_out=False)[2].document
    chunks = list(chunk_texts(Words(), document, 60))
    assert len(chunks) > 5
    assert all(len(chunk.split()) <= 60 for chunk in chunks)
    assert "".join("".join(chunks).split()) == "".join(document.text.split())


def test_summaries_are_made_once_and_reported(
    nsa: Run, meetings_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nsa_cli.evaluation.summary_suite.ways.CHUNK_TOKENS", 250)
    monkeypatch.setattr("nsa_cli.evaluation.summary_suite.ways.BEGINNING_TOKENS", 250)
    out = tmp_path / "rows.jsonl"
    command = ("eval", "summaries", "--data", str(meetings_file), "--out", str(out), "--limit", "2")
    code, shown, err = nsa(*command, "--length", "60", "--json", "--max-tokens", "8")
    assert code == 0, err
    systems = {each["way"]: each for each in json.loads(shown)["systems"]}
    assert list(systems) == ["nsa", "nsa (overview)", "beginning", "map-reduce"]
    assert systems["nsa"]["supported"]["value"] == 1.0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(rows) == 6
    read = {(row["meeting"], row["way"]): row["read_tokens"] for row in rows}
    assert read["two", "beginning"] < 400 < read["two", "map-reduce"]
    before = out.read_text()
    code, again, _ = nsa(*command, "--length", "60", "--json", "--max-tokens", "8")
    assert out.read_text() == before
    assert json.loads(again)["systems"] == json.loads(shown)["systems"]
    code, text, _ = nsa(*command, "--length", "60", "--report")
    assert code == 0
    assert "map-reduce" in text
    assert out.read_text() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--ways", "nsa,chunks"), "invalid value for --ways: 'chunks'"),
        (("--report",), "--report needs a file"),
        (("--length", "vast"), "invalid value for --length: 'vast'"),
        (("--answer-blocks", "all"), "the suite summaries takes one number of --answer-blocks"),
        (("--plot", "a.png"), "--plot is not for the suite summaries"),
    ],
)
def test_usage(nsa: Run, meetings_file: Path, arguments: tuple[str, ...], message: str) -> None:
    code, out, err = nsa("eval", "summaries", "--data", str(meetings_file), *arguments)
    assert (code, out) == (2, "")
    assert message in err


def test_a_file_is_needed(nsa: Run) -> None:
    code, _, err = nsa("eval", "summaries")
    assert code == 2
    assert "summaries needs a file" in err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@pytest.mark.parametrize("suite", ["needle", "documents", "summaries"])
def test_a_device_is_no_file_for_rows(nsa: Run, meetings_file: Path, suite: str) -> None:
    data = () if suite == "needle" else ("--data", str(meetings_file))
    code, _, err = nsa("eval", suite, *data, "--out", "/dev/full")
    assert (code, err) == (2, "nsa: /dev/full is a device, not a file. Name a file with --out.\n")


def test_rows_of_other_prompts_are_made_again(
    nsa: Run, meetings_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "rows.jsonl"
    command = ("eval", "summaries", "--data", str(meetings_file), "--out", str(out))
    command += ("--limit", "1", "--ways", "nsa", "--length", "60", "--json")
    assert nsa(*command)[0] == 0
    assert nsa(*command)[0] == 0
    assert len(out.read_text().splitlines()) == 1
    monkeypatch.setattr("nsa_cli.summaries.prompts.ABOUT", "What is it about?")
    code, shown, _ = nsa(*command)
    assert code == 0
    assert len(out.read_text().splitlines()) == 2
    settings = {each["setting"] for each in json.loads(shown)["systems"]}
    assert len(settings) == 2
    assert all(", 60 words, prompts " in setting for setting in settings)

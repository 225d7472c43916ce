"""The file of rows: appended, resumed, and never lost."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from nsa_cli.evaluation.document_suite.rows import AnswerRow, AnswerRows, CitedPage
from nsa_models.errors import NsaError, UsageError


def row(number: int, way: str = "nsa") -> AnswerRow:
    cited = CitedPage(source="a", page=number, line=3, quote="It is so.", verified=True)
    return AnswerRow(
        question=f"a-{number:02d}",
        digest=f"{number:064d}",
        set_digest="0" * 64,
        way=way,
        setting="model",
        answer="It is so.",
        citations=(cited,),
        found=(),
        finish_reason="stop",
        read_tokens=100,
        answer_tokens=4,
        read_seconds=1.5,
        answer_seconds=0.5,
        commit="unknown",
        device="cpu",
    )


def test_rows_come_back(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    file = AnswerRows(path)
    for each in (row(1), row(2), row(2, "gold")):
        file.add(each, {"right": True})
    again = AnswerRows(path)
    assert again.rows == file.rows == (row(1), row(2), row(2, "gold"))
    assert again.has(row(2, "gold").key)
    assert not again.has(row(1, "gold").key)
    assert json.loads(path.read_text().splitlines()[0])["scores"] == {"right": True}


def test_rows_of_an_earlier_version_have_no_support(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    AnswerRows(path).add(replace(row(1), support=0.75), {})
    kept = json.loads(path.read_text())
    assert AnswerRows(path).rows[0].support == kept.pop("support") == 0.75
    path.write_text(json.dumps(kept) + "\n")
    assert AnswerRows(path).rows == (row(1),)


def test_a_row_that_was_cut_is_asked_again(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    file = AnswerRows(path)
    file.add(row(1), {})
    file.add(row(2), {})
    text = path.read_bytes()
    path.write_bytes(text[:-40])
    again = AnswerRows(path)
    assert again.rows == (row(1),)
    again.add(row(3), {})
    assert AnswerRows(path).rows == (row(1), row(3))
    assert path.read_bytes().startswith(text[:-40])


def test_another_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\n{"b": 2}\n')
    with pytest.raises(UsageError, match="has no rows of documents"):
        AnswerRows(path)


def test_no_file_keeps_rows_in_memory() -> None:
    file = AnswerRows(None)
    file.add(row(1), {})
    assert file.rows == (row(1),)


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(NsaError, match="cannot be written"):
        AnswerRows(tmp_path / "none" / "rows.jsonl").add(row(1), {})

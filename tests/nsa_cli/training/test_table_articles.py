"""Tables with questions become articles."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nsa_cli.training.table_articles import read_table_articles
from nsa_models.errors import DataError

TABLE: dict[str, Any] = {
    "title": "report 1",
    "table": [["", "2019", "2018"], ["Sales", "1,452.4", "1,146.2"]],
    "paragraphs": ["Sales are in millions."],
    "questions": [
        {"question": "Sales in 2019?", "answers": ["1,452.4"], "kind": "span", "scale": "million"},
        {"question": "The change?", "answers": ["306.2"], "kind": "arithmetic", "scale": ""},
        {"question": "Both?", "answers": ["1,452.4", "1,146.2"], "kind": "multi-span", "scale": ""},
        {"question": "The sum?", "answers": ["2,598.6"], "kind": "table", "scale": ""},
    ],
}


def written(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_only_questions_with_one_stated_answer_are_taken(tmp_path: Path) -> None:
    [article] = read_table_articles(written(tmp_path / "t.jsonl", TABLE))
    [part] = article.paragraphs
    assert part.questions == (("Sales in 2019?", ("1,452.4",)),)
    lines = part.text.split("\n")
    assert lines[0] == "Sales are in millions."
    assert all(cell in lines[2] for cell in ("Sales", "1,452.4", "1,146.2"))


def test_cells_are_parted_in_several_ways(tmp_path: Path) -> None:
    articles = read_table_articles(written(tmp_path / "t.jsonl", *[TABLE] * 40))
    rows = {article.paragraphs[0].text.split("\n")[2] for article in articles}
    assert {"Sales | 1,452.4 | 1,146.2", "Sales  1,452.4  1,146.2"} <= rows


def test_a_very_long_table_is_left_out(tmp_path: Path) -> None:
    long = {**TABLE, "table": [["a long row of cells"] * 100] * 3}
    assert len(read_table_articles(written(tmp_path / "t.jsonl", long, TABLE))) == 1


@pytest.mark.parametrize("row", [{"title": "x"}, {**TABLE, "questions": [{"question": "?"}]}, []])
def test_another_form_is_refused(tmp_path: Path, row: Any) -> None:
    path = written(tmp_path / "t.jsonl", TABLE, row)
    with pytest.raises(DataError, match="line 2: not a table with questions"):
        read_table_articles(path)

"""Tables and meetings as questions of the suite."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nsa_cli.evaluation.document_suite.matching import judge
from nsa_cli.evaluation.document_suite.tables import read_data
from nsa_models.errors import DataError, UsageError
from nsa_models.tasks import is_held_out

TABLE = {
    "title": "report a",
    "table": [["", "2019", "2018"], ["Sales", "1,496.5", "1,202.9"]],
    "paragraphs": ["In millions."],
    "questions": [
        {"question": "Sales?", "answers": ["1,496.5"], "scale": "million", "kind": "span"},
        {"question": "Growth?", "answers": ["24.41"], "scale": "percent", "kind": "arithmetic"},
        {"question": "Years?", "answers": ["2019", "2018"], "scale": "", "kind": "multi-span"},
    ],
}
MEETING = {
    "title": "meeting",
    "turns": [["Ada", "Good morning."], ["Bob", ""], ["Cy", "We buy it."]],
    "questions": [
        {"question": "Summarize", "answers": ["They buy it."], "turns": None},
        {"question": "What did Cy say?", "answers": ["Cy buys."], "turns": [[1, 2]]},
    ],
}


def write(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_table(tmp_path: Path) -> None:
    found, documents = read_data(write(tmp_path / "a.jsonl", TABLE), held_out=False)
    [document] = documents.values()
    assert document.text == "In millions.\n | 2019 | 2018\nSales | 1,496.5 | 1,202.9"
    sales, growth, years = found.questions
    assert [each.kind for each in found.questions] == ["lookup", "computed", "lookup"]
    assert judge("1,496.5 million", sales.groups).right
    assert judge("$1,496.5", sales.groups).right
    assert judge("It grew by 24.4%", growth.groups).right
    assert not judge("2019", years.groups).right
    assert judge("2018 and 2019", years.groups).right
    assert sales.places == (("00001", (1,)),)


def test_a_meeting(tmp_path: Path) -> None:
    found, documents = read_data(write(tmp_path / "a.jsonl", MEETING), held_out=False)
    [document] = documents.values()
    assert [piece.page for piece in document.pieces] == [1, 2, 3]
    assert document.pieces[0].unit == "turn"
    assert [each.places for each in found.questions] == [(), (("00001", (2, 3)),)]
    assert {each.kind for each in found.questions} == {"summary"}


def test_the_part_that_training_omits(tmp_path: Path) -> None:
    rows = [{**TABLE, "title": f"report {number}"} for number in range(80)]
    found, documents = read_data(write(tmp_path / "a.jsonl", *rows), held_out=True)
    titles = [each.title for each in found.documents.values()]
    assert titles == [row["title"] for row in rows if is_held_out(str(row["title"]))]
    assert 0 < len(titles) == len(documents) < 20


@pytest.mark.parametrize("row", [{"title": "a"}, {**TABLE, "questions": [{"question": "x"}]}, []])
def test_another_form_is_refused(tmp_path: Path, row: Any) -> None:
    with pytest.raises(DataError, match=r"a.jsonl, line 1: neither a table nor a meeting"):
        read_data(write(tmp_path / "a.jsonl", row), held_out=False)


def test_no_question(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no question"):
        read_data(write(tmp_path / "a.jsonl", {**TABLE, "questions": []}), held_out=False)


def test_the_command(nsa: Any, tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", TABLE, MEETING)
    code, shown, err = nsa(
        *("eval", "documents", "--data", str(path), "--ways", "nsa,gold,find", "--json")
    )
    assert code == 0, err
    result = json.loads(shown)
    assert (result["questions"], result["documents"]) == (5, 2)
    [read, _, gold] = result["systems"]
    assert read["f1"] is not None
    assert read["right"]["of"] == 3
    assert gold["questions"] == 4
    code, shown, _ = nsa("eval", "documents", "--data", str(path), "--ways", "nsa,find")
    assert "F1" in shown
    assert max(map(len, shown.splitlines())) <= 80

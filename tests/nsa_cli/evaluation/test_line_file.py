"""JSON Lines files that results are appended to."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest

from nsa_cli.evaluation.line_file import LineFile, RowFile
from nsa_models.errors import NsaError, UsageError


@dataclass(frozen=True)
class Said:
    """A row of a made-up suite."""

    text: str

    @property
    def key(self) -> tuple[str, str, str]:
        return self.text, "", ""


def said(found: dict[str, Any]) -> Said:
    return Said(**found)


def rows_in(path: Path) -> RowFile[Said]:
    return RowFile(path, said, "words")


def test_objects_are_appended(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    file = LineFile(path)
    assert file.objects == []
    file.append({"a": "ä"})
    LineFile(path).append({"b": 2})
    assert path.read_text(encoding="utf-8") == '{"a": "ä"}\n{"b": 2}\n'
    assert LineFile(path).objects == [{"a": "ä"}, {"b": 2}]


def test_a_line_that_was_cut_is_left_out_and_ended(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\n[3]\n{"b":')
    file = LineFile(path)
    assert file.objects == [{"a": 1}]
    file.append({"c": 3})
    assert path.read_text() == '{"a": 1}\n[3]\n{"b":\n{"c": 3}\n'
    assert LineFile(path).objects == [{"a": 1}, {"c": 3}]


def test_no_file_keeps_nothing() -> None:
    file = LineFile(None)
    file.append({"a": 1})
    assert file.objects == []


def test_a_folder_that_is_missing_is_told(tmp_path: Path) -> None:
    file = LineFile(tmp_path / "none" / "rows.jsonl")
    with pytest.raises(NsaError, match="cannot be written"):
        file.append({"a": 1})


def test_a_line_ends_at_a_line_feed_only(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    row = Said("one\u2028two\x85three\r\n")
    rows_in(path).append(row, asdict(row))
    assert rows_in(path).rows == (row,)


@pytest.mark.parametrize(
    "text",
    ['{"a": 1}\n', "[1]\n", "notes\n", '{\n  "text": "a"\n}\n', '{"a": 1}\n{"text": "b'],
)
def test_a_file_of_something_else_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(text)
    with pytest.raises(UsageError, match=r"rows\.jsonl has no rows of words"):
        rows_in(path)
    assert path.read_text() == text


@pytest.mark.parametrize("text", ["", "\n", '{"text": "a', '{"te\n{"text": "b'])
def test_a_file_of_rows_that_were_cut_is_continued(tmp_path: Path, text: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(text)
    file = rows_in(path)
    assert file.rows == ()
    file.append(Said("c"), {"text": "c"})
    assert rows_in(path).rows == (Said("c"),)
    assert rows_in(path).has(Said("c").key)


def test_a_folder_is_no_file_of_rows(tmp_path: Path) -> None:
    with pytest.raises(NsaError, match=r"cannot read .*: Is a directory"):
        rows_in(tmp_path)

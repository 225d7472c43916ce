"""JSON Lines files that results are appended to."""

from __future__ import annotations

from pathlib import Path

import pytest

from nsa_cli.evaluation.line_file import LineFile
from nsa_models.errors import NsaError


def test_objects_are_appended(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    file = LineFile(path)
    assert list(file.objects()) == []
    file.append({"a": "ä"})
    LineFile(path).append({"b": 2})
    assert path.read_text(encoding="utf-8") == '{"a": "ä"}\n{"b": 2}\n'
    assert list(LineFile(path).objects()) == [{"a": "ä"}, {"b": 2}]


def test_a_line_that_was_cut_is_left_out_and_ended(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\n[3]\n{"b":')
    file = LineFile(path)
    assert list(file.objects()) == [{"a": 1}]
    file.append({"c": 3})
    assert path.read_text() == '{"a": 1}\n[3]\n{"b":\n{"c": 3}\n'
    assert list(LineFile(path).objects()) == [{"a": 1}, {"c": 3}]


def test_no_file_keeps_nothing() -> None:
    file = LineFile(None)
    file.append({"a": 1})
    assert list(file.objects()) == []


def test_a_folder_that_is_missing_is_told(tmp_path: Path) -> None:
    file = LineFile(tmp_path / "none" / "rows.jsonl")
    with pytest.raises(NsaError, match="cannot be written"):
        file.append({"a": 1})

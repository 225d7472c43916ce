"""Meetings with reference summaries."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nsa_cli.evaluation.summary_suite.meetings import chosen, read_meetings
from nsa_models.errors import DataError, UsageError
from nsa_models.tasks import is_held_out


def test_turns_become_a_transcript_without_notes(meetings_file: Path) -> None:
    first = read_meetings(meetings_file, held_out=False)[1]
    lines = first.document.text.splitlines()
    assert lines[0] == "Chair: We meet on 3 May 2021 to plan the harbor."
    assert lines[1].endswith("4,200 crowns, and I've asked Mira Lund to test it.")
    assert [piece.page for piece in first.document.pieces] == [1, 2, 3, 4]
    assert first.reference.startswith("Chair opened on 3 May 2021.")


def test_the_shortest_meetings_are_chosen_first(meetings_file: Path) -> None:
    found = read_meetings(meetings_file, held_out=False)
    assert [each.title for each in chosen(found, only=(), limit=2)] == ["one", "two"]
    assert [each.title for each in chosen(found, only=("three",), limit=None)] == ["three"]
    with pytest.raises(UsageError, match="no meeting 'four'"):
        chosen(found, only=("four",), limit=None)


def test_the_held_out_part_is_chosen_by_title(tmp_path: Path, meetings_file: Path) -> None:
    row = json.loads(meetings_file.read_text().splitlines()[0])
    titles = [f"meeting {number}" for number in range(60)]
    path = tmp_path / "many.jsonl"
    path.write_text("".join(json.dumps({**row, "title": title}) + "\n" for title in titles))
    found = [each.title for each in read_meetings(path, held_out=True)]
    assert found == [title for title in titles if is_held_out(title)]
    assert 0 < len(found) < 30


def test_the_digest_changes_with_what_is_compared(tmp_path: Path, meetings_file: Path) -> None:
    row = json.loads(meetings_file.read_text().splitlines()[0])
    changed = json.loads(json.dumps(row))
    changed["questions"][1]["answers"] = ["Another summary."]
    path = tmp_path / "two.jsonl"
    path.write_text(json.dumps(row) + "\n" + json.dumps(changed) + "\n")
    one, other = read_meetings(path, held_out=False)
    assert one.digest != other.digest


@pytest.mark.parametrize("line", ['{"title": "a"}', '{"title": "a", "turns": [1], "questions": 2}'])
def test_another_form_is_refused(tmp_path: Path, line: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(line + "\n")
    with pytest.raises(DataError, match="line 1: not a meeting with a summary"):
        read_meetings(path, held_out=False)


def test_meetings_without_summaries_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"title": "a", "turns": [["A", "b"]], "questions": []}\n')
    with pytest.raises(UsageError, match="has no meeting with a summary"):
        read_meetings(path, held_out=False)

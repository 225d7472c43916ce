"""Scores of summaries, rows and the report."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from nsa_cli.evaluation.summary_suite.meetings import Meeting, read_meetings
from nsa_cli.evaluation.summary_suite.report import OVERVIEW, coverage_ratio, report, scored
from nsa_cli.evaluation.summary_suite.rows import RowSentence, SummaryRow, SummaryRows
from nsa_cli.evaluation.summary_suite.scores import (
    reference_facts,
    rouge_lsum,
    score,
    without_labels,
)
from nsa_models.errors import UsageError


@pytest.fixture
def meeting(meetings_file: Path) -> Meeting:
    return read_meetings(meetings_file, held_out=False)[1]


def sentence(text: str, quote: str = "", *, overview: bool = True) -> RowSentence:
    return RowSentence(text=text, quotes=(quote,), verified=bool(quote), overview=overview)


def row(meeting: Meeting, way: str, *sentences: RowSentence) -> SummaryRow:
    return SummaryRow(
        meeting=meeting.title,
        digest=meeting.digest,
        way=way,
        setting="model, 240 words",
        sentences=sentences,
        read_tokens=10,
        written_tokens=5,
        seconds=1.0,
        commit="c",
        device="cpu",
    )


def test_facts_of_the_reference(meeting: Meeting) -> None:
    found = {(fact.kind, fact.text) for fact in reference_facts(meeting)}
    assert found == {
        ("name", "Chair"),
        ("name", "Mira Lund"),
        ("figure", "4,200"),
        ("date", "3 May 2021"),
    }


def test_coverage_and_support(meeting: Meeting) -> None:
    quote = "Engineer: The crane costs 4,200 crowns, and I've asked Mira Lund to test it."
    found = score(
        [
            sentence("The crane costs 4,200 crowns.", quote),
            sentence("Mira Lund repaired seven lighthouses in Norway.", quote),
            sentence("It was sunny."),
        ],
        meeting,
    )
    assert (found.facts, found.kept, found.sentences, found.words) == (4, 2, 3, 15)
    assert (found.verified, found.quoted) == (2, 1)
    assert (found.other_facts, found.other_kept) == (3, 2)


def test_a_speaker_before_a_turn_is_not_covered(meeting: Meeting) -> None:
    assert meeting.speakers == ("Chair", "Engineer")
    labels = score([sentence("Chair: Yes. Engineer: It broke, said Chair: it did.")], meeting)
    told = score([sentence("Engineer: The Chair agreed.")], meeting)
    assert (labels.kept, told.kept) == (0, 1)
    assert (told.other_facts, told.other_kept) == (3, 0)
    assert labels.words == 9


def test_labels_of_speakers_are_removed() -> None:
    speakers = ("Ann", "Ann Lee", "C++ (2)", "")
    text = "Ann Lee: Yes, Joann: no. C++ (2): See 10:30 and Ann:x. Ann: Ends."
    shown = " ".join(without_labels(text, speakers).split())
    assert shown == "Yes, Joann: no. See 10:30 and Ann:x. Ends."
    assert without_labels(text, ()) == text


def test_rouge() -> None:
    pytest.importorskip("rouge_score")
    assert rouge_lsum(["The crane broke."], ["The crane broke."]) == 1.0
    assert rouge_lsum(["Nothing in common"], ["The crane broke."]) == 0.0
    assert rouge_lsum(["Cranes broke."], ["A crane broke."]) == pytest.approx(0.8)


def test_a_file_of_rows_is_resumed(tmp_path: Path, meeting: Meeting) -> None:
    path = tmp_path / "rows.jsonl"
    one, two = row(meeting, "nsa", sentence("A.", "A.")), row(meeting, "beginning")
    file = SummaryRows(path)
    file.add(one)
    file.add(two)
    with path.open("a") as cut:
        cut.write('{"meeting": "x", "dig')
    again = SummaryRows(path)
    assert again.rows == (one, two)
    assert again.has(one.key)
    assert not again.has(("other", "nsa", one.setting))
    three = row(meeting, "map-reduce")
    again.add(three)
    assert SummaryRows(path).rows == (one, two, three)


def test_another_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\n{"b": 2}\n')
    with pytest.raises(UsageError, match="has no rows of summaries"):
        SummaryRows(path)


def test_the_report(meeting: Meeting) -> None:
    ours = row(
        meeting,
        "nsa",
        sentence("Mira Lund tests it.", "I've asked Mira Lund to test it."),
        sentence("The crane costs 4,200 crowns on 3 May 2021.", "q", overview=False),
    )
    theirs = row(meeting, "map-reduce", sentence("It costs 4,200."))
    other = replace(theirs, digest="changed")
    found = scored([ours, theirs, other], [meeting])
    assert [each.system for each in found] == ["nsa", OVERVIEW, "map-reduce"]
    shown = report(found, [meeting], seed=0)
    values = {each["way"]: each for each in shown["systems"]}
    assert values["nsa"]["coverage"]["value"] == 0.75
    assert values[OVERVIEW]["coverage"]["value"] == 0.25
    assert values["map-reduce"]["coverage"]["value"] == 0.25
    assert values["nsa"]["supported"]["value"] == 1.0
    assert values["map-reduce"]["supported"]["value"] == 0.0
    ratios = {(each["first"], each["second"]): each["coverage_ratio"] for each in shown["pairs"]}
    assert ratios == {("nsa", "map-reduce"): 3.0, (OVERVIEW, "map-reduce"): 1.0}


def test_no_ratio_without_common_meetings_or_facts(meeting: Meeting) -> None:
    ours = scored([row(meeting, "nsa", sentence("Mira Lund."))], [meeting])[:1]
    nothing = scored([row(meeting, "beginning", sentence("No."))], [meeting])
    assert coverage_ratio(ours, [], 0) is None
    assert coverage_ratio(ours, nothing, 0) == {
        "meetings": 1,
        "coverage_ratio": None,
        "low": None,
        "high": None,
    }

"""Speakers of transcripts."""

from __future__ import annotations

import pytest

from nsa_cli.summaries.speakers import (
    Speakers,
    list_of_speakers,
    lists_speakers,
    speaker_labels,
    without_fillers,
    without_opening,
)

TALK = (
    "Chair: We repair the crane first.\nClerk: Yes.\n"
    "Chair: Then the meeting ends.\nClerk: It costs 4,200 crowns.\n"
)


def test_a_transcript_has_speakers() -> None:
    speakers = Speakers(TALK)
    assert speakers.is_transcript
    assert speakers.names() == ["Chair", "Clerk"]
    start = TALK.index("It costs")
    assert speakers.label(start, start + 8) == (start - 1, "Clerk")


@pytest.mark.parametrize(
    "text",
    [
        "The chair spoke.\nThe clerk wrote.\n",
        "From: a\nTo: b\nFrom: c\nTo: d.\n",
        "ERROR: it failed.\nINFO: fine.\nERROR: again.\nINFO: good.\n",
        "Host: a1\nPort: 80\nHost: a2\nPort: 81\nHost: a3\nPort: 82\n",
        "Note: it rains.\nOther words.",
    ],
)
def test_other_texts_are_no_transcripts(text: str) -> None:
    assert not Speakers(text).is_transcript


def test_a_single_label_is_no_speaker() -> None:
    assert speaker_labels("Note: it rains.\nOther words.") == {}


@pytest.mark.parametrize(
    ("said", "plain"),
    [
        ("Um, the crane, uh, lifts the the boats.", "The crane lifts the boats."),
        ("It is, you know, a new crane.", "It is a new crane."),
        ("it should c come with a th three year plan", "It should come with a three year plan"),
        ("The err is not an umbrella.", "The err is not an umbrella."),
        ("A be better.", "A be better."),
        ("It has three um three wheels.", "It has three wheels."),
        ("Th Elderly people like red.", "Elderly people like red."),
        ("Wh - I had something in June.", "I had something in June."),
        ("If I had it, I would sell it.", "If I had it, I would sell it."),
        ("It costs 12 12 crowns.", "It costs 12 12 crowns."),
    ],
)
def test_fillers(said: str, plain: str) -> None:
    assert without_fillers(said) == plain


def test_the_list_of_speakers() -> None:
    assert list_of_speakers(["Chair", "Clerk"]) == "Speakers: Chair, Clerk."
    assert lists_speakers("Speakers: Chair, Clerk.")
    assert not lists_speakers("The speakers left.")


@pytest.mark.parametrize(
    ("said", "plain"),
    [
        ("Okay, so the crane is new.", "The crane is new."),
        ("Rightly the crane is new.", "Rightly the crane is new."),
        ("Yeah.", "Yeah."),
        ("And but", "But"),
    ],
)
def test_openings(said: str, plain: str) -> None:
    assert without_opening(said) == plain

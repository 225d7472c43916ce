"""Sentences of a document and what they are worth."""

from __future__ import annotations

import pytest

from nsa_cli.documents import Document, Piece
from nsa_cli.summaries.candidates import (
    Attended,
    Candidate,
    Candidates,
    Said,
    word_count,
)
from nsa_cli.summaries.parts import Part
from nsa_cli.summaries.spans import SentenceSpans
from nsa_cli.summaries.speakers import Speakers


def found(text: str, scores: Attended | None = None) -> list[Candidate]:
    piece = Piece(source="a.txt", page=None, page_label=None, start=0, end=len(text), first_line=1)
    document = Document(name="a.txt", text=text, pieces=(piece,))
    spans, speakers = SentenceSpans(document), Speakers(text)
    candidates = Candidates(document, spans, speakers, (), (), scores or Attended([], []))
    return candidates.of(Part(start=0, end=len(text)))


def best(text: str, said: Said | None = None) -> str:
    return max(found(text), key=lambda each: each.gain(said or Said())).text


def test_facts_raise_the_worth() -> None:
    text = (
        "The harbor office keeps many boats in good order. "
        "The harbor office paid 4,200 crowns for boats on 3 May 2021."
    )
    assert best(text).endswith("on 3 May 2021.")


@pytest.mark.parametrize(
    "other",
    [
        "And it says that the harbor crane lifts boats.",
        "Does the harbor crane lift boats for the office?",
        "Um, the harbor crane, uh, lifts boats.",
        "the harbor crane and boats of the office",
    ],
)
def test_whole_and_plain_sentences_are_worth_more(other: str) -> None:
    plain = "The harbor crane lifts boats for the office."
    assert best(f"{other}\n\n{plain}") == plain


def test_what_was_said_is_worth_less() -> None:
    text = "The harbor crane lifts heavy boats. The village baker sells warm bread."
    said = Said()
    said.add("The harbor crane lifts heavy boats.", [])
    assert best(text, said) == "The village baker sells warm bread."
    first = found(text)[0]
    assert first.repeats(said)
    assert not first.repeats(Said())


def test_a_new_figure_is_no_repetition() -> None:
    one, other = found("The pier cost 10 crowns in all. The pier cost 20 crowns in all.")
    said = Said()
    said.add(one.text, one.facts)
    assert one.repeats(said)
    assert not other.repeats(said)
    assert other.is_new(said)


def test_scraps_are_no_candidates() -> None:
    assert [each.text for each in found("Yes.\n\nT_ R_ I_ K_ A_ B_.\n\nSo it is, too.")] == []
    assert len(found("这是一个关于港口的很长的中文句子。")) == 1


def test_speakers_are_named() -> None:
    lines = [
        "Chair: We repair the harbor crane first. It costs 4,200 crowns in all.",
        "Clerk: Yes.",
    ]
    text = "\n".join([*lines, "Chair: The harbor planning meeting ends here.", "Clerk: Fine."])
    texts = [each.text for each in found(text)]
    assert texts == [
        "Chair: We repair the harbor crane first.",
        "Chair: It costs 4,200 crowns in all.",
        "Chair: The harbor planning meeting ends here.",
    ]


def test_attention_of_a_range() -> None:
    attended = Attended([(0, 0), (0, 10), (8, 20), (20, 30)], [9.0, 1.0, 3.0, 2.0])
    assert attended.of(0, 5) == 1.0
    assert attended.of(9, 12) == 3.0
    assert attended.of(22, 25) == 2.0
    assert attended.of(40, 50) == 0.0


def test_words() -> None:
    assert word_count("four words are here") == 4
    assert word_count("这是一个关于港口的很长的中文句子这是一个关于") == 1

"""Sentences of a document and what they are worth."""

from __future__ import annotations

import pytest

from nsa_cli.documents import Document, Piece
from nsa_cli.summaries.candidates import (
    Attended,
    Candidate,
    Candidates,
    Said,
    facts_told,
    word_count,
)
from nsa_cli.summaries.parts import Part
from nsa_cli.summaries.spans import SentenceSpans
from nsa_cli.summaries.speakers import Speakers


def found(text: str, scores: Attended | None = None, source: str = "a.txt") -> list[Candidate]:
    piece = Piece(source=source, page=None, page_label=None, start=0, end=len(text), first_line=1)
    document = Document(name=source, text=text, pieces=(piece,))
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
        "Chair: Okay, so the, um, harbor crane gets new wheels and new brakes before June.",
        "Clerk: Well, it costs 4,200 crowns in all.",
        "Clerk: Yes, we can do that.",
        "Chair: The plan of the harbor office for the cranes ends here with the brakes.",
        "Clerk: Fine.",
    ]
    assert [each.text for each in found("\n".join(lines))] == [
        "Chair: The harbor crane gets new wheels and new brakes before June.",
        "Clerk: It costs 4,200 crowns in all.",
        "Chair: The plan of the harbor office for the cranes ends here with the brakes.",
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


def test_the_number_of_a_section_is_no_fact() -> None:
    text = "Sections 16.1 (General Cap) and 16.2 apply to claims above 500 crowns."
    assert [fact.text for fact in facts_told(text)] == ["500"]


@pytest.mark.parametrize(
    "scrap",
    [
        "Total equity 3,332,595.36 4,160,936.84 of the harbor office and its boats.",
        "See the report of the harbor office about boats and cranes.",
        "© 2022 Harbor office, boats and cranes of the quay.",
        "Details of the harbor office are at https://quay.example/boats for all.",
        "“Boats” means the boats and cranes of the harbor office.",
        "and the boats of the harbor office lie at the quay.",
    ],
)
def test_what_is_no_sentence_of_the_text_counts_little(scrap: str) -> None:
    plain = "The boats and cranes of the harbor office lie at the quay."
    worths = {each.text: each.worth for each in found(f"{scrap}\n\n{plain}")}
    assert worths[scrap] < worths[plain] / 2


def test_a_log_tells_failures() -> None:
    lines = [
        f"2025-06-24 14:36:{second:02} INFO worker has read the next message"
        for second in range(10)
    ]
    error = "2025-06-24 14:36:30 ERROR worker failed to write message 77 to the disk"
    candidates = found("\n".join([*lines, error]))
    assert [each.text for each in candidates if each.facts] == [error]
    said = Said()
    said.add(candidates[0].text, candidates[0].facts)
    assert candidates[1].repeats(said)


def test_the_comment_of_a_function_has_no_lists() -> None:
    code = (
        '"""Close the port of the harbor server.\n\nArgs:\n    port: The port of the server.\n"""\n'
    )
    assert [each.text for each in found(code, source="port.py")] == [
        "Close the port of the harbor server."
    ]

"""An answer refers to earlier turns and has statistics."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from nsa_cli.engine.answer import _standalone, _with, answer_steps
from nsa_cli.engine.open_document import OpenDocument
from nsa_cli.events import AnswerText, Event, Progress, drain
from nsa_cli.results import Passage, Turn


@pytest.mark.parametrize(
    ("question", "retrieved"),
    [
        ("And when?", "Who paid for the pier? And when?"),
        ("何时？", "Who paid for the pier? 何时？"),
        ("And where was it built then?", "And where was it built then?"),
        ("Donaudampfschifffahrtsgesellschaft?", "Donaudampfschifffahrtsgesellschaft?"),
    ],
)
def test_a_short_follow_up_is_retrieved_with_the_previous_question(
    opened: OpenDocument, question: str, retrieved: str
) -> None:
    turn = Turn(question="Who paid for the pier?", answer="The guild.", passage=None)
    asked = opened.prompts.question(question)
    assert _standalone(opened.prompts, asked, [turn]).text == retrieved
    assert _standalone(opened.prompts, asked, []) is asked


def test_a_follow_up_of_a_follow_up_is_retrieved_with_the_question_of_both(
    opened: OpenDocument,
) -> None:
    asked = ["Is it old?", "Who paid for the new pier?", "And when?"]
    turns = [Turn(question=each, answer="Yes.", passage=None) for each in asked]
    found = _standalone(opened.prompts, opened.prompts.question("Where?"), turns)
    assert found.text == "Who paid for the new pier? And when? Where?"


def test_the_passage_of_the_last_turn_is_read_again() -> None:
    first, last = Passage(start=0, end=10, score=0.4), Passage(start=90, end=99, score=0.6)
    between = Passage(start=20, end=30, score=0.9)
    kept = Passage(start=20, end=30, score=0.0)
    assert _with([first, last], between) == [first, kept, last]
    assert _with([first, last], None) == [first, last]
    assert _with([first, last], Passage(start=9, end=12, score=1.0)) == [first, last]
    assert _with([first, last], Passage(start=10, end=12, score=1.0))[1].end == 12


def test_an_answer_has_statistics(opened: OpenDocument) -> None:
    question = opened.prompts.question("Who wrote report 17?")
    events: list[Event] = []
    steps = answer_steps(opened, question, opened.options)
    finished, turn = drain(steps, events.append)
    assert (
        "".join(event.text for event in events if isinstance(event, AnswerText)) == finished.answer
    )
    assert (turn.question, turn.answer) == (question.text, finished.answer)
    assert turn.passage is not None
    assert set(finished.attention) == {"reading", "answering"}
    stats = finished.stats
    assert stats.document_tokens == opened.tokens
    assert stats.question_tokens == len(question)
    assert 0 < stats.answer_tokens <= 4
    assert 0 < stats.cache_bytes_touched <= stats.cache_bytes
    steps = answer_steps(opened, question, opened.options, scores=opened.scores(question))
    again, _ = drain(steps, opened.emit)
    assert (again.answer, again.citations) == (finished.answer, finished.citations)


def test_what_happens_is_told_from_the_start_to_the_answer(
    asker: Any, text_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nsa_cli.kv_store.prefill._TOLD_SECONDS", 0)
    asker(text_file)
    told = []
    for event in asker.events:
        kind = event.stage if isinstance(event, Progress) else getattr(event, "name", "answer")
        if not told or told[-1] != kind:
            told.append(kind)
    assert told == ["loading", "reading", "searching", "passages", "answering", "answer"]
    read = [each.done for each in asker.events if getattr(each, "stage", "") == "reading"]
    assert read == sorted(read)
    assert sorted({*read}) == [0, 512, 1024, 1451, 1878]  # half of a chunk after one of two layers
    passages = [each for each in asker.events if getattr(each, "stage", "") == "passages"]
    assert passages[0].done == 0
    assert passages[-1].done == passages[-1].total
    assert re.fullmatch(r"Reading (a passage|\d+ passages)", passages[0].task)

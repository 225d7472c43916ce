"""Statements about short everyday texts: a lease, minutes, mails, rules, logs in four languages.

The rules were changed after they had been tried on these statements, so that the share of right
marks here is no measurement. `MISSED` names those with a wrong mark.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nsa_cli.retrieval.claims import is_supported
from nsa_cli.retrieval.polarity import is_refuted

_FILE = Path(__file__).parents[2] / "fixtures" / "everyday_texts.json"
_READ = json.loads(_FILE.read_text("utf-8"))
TEXTS: dict[str, str] = _READ["texts"]
STATEMENTS: list[tuple[str, str, str, bool]] = [tuple(each) for each in _READ["statements"]]

MISSED = {
    ("May confidential papers be taken home?", "No, confidential papers must stay in the office."),
    ("Is working from home on Tuesday allowed?", "Yes, employees are free to choose their days."),
    ("To whom did Paulina sell the bookshelf?", "Jo"),
    ("Are dogs allowed on the course?", "No, dogs have to stay outside."),
    (
        "Is the fee refunded in case of illness?",
        "No, the fee is not refunded, but you may start next year for half the price.",
    ),
    (
        "Is the notice period of the employee three months?",
        "Yes, the notice period is three months for the employee.",
    ),
    (
        "Does a child under six who travels alone ride free of charge?",
        "Yes, children under six ride free of charge.",
    ),
    ("Do folding bicycles need a ticket?", "Yes, folding bicycles need a ticket of their own."),
    (
        "Is money repaid for a delay caused by a storm?",
        "No, delays caused by storms give no right to repayment.",
    ),
    ("Can a car be booked by phone?", "No, the office takes no bookings by phone."),
    ("Is the massage included?", "No, the massage is not included."),
    ("Wer reinigt künftig das Treppenhaus?", "Die Firma Rein"),
    ("Dürfen Kinderwagen im Flur stehen?", "Nein, Kinderwagen dürfen nicht im Flur stehen."),
    ("When is the roof repaired?", "In autumn"),
    ("Who leads the courses?", "Jonas leads the courses."),
    ("Who gets the boat?", "Beatrice gets the boat."),
    ("Wo fährt der Bus ab?", "Vom Markt"),
    ("Who takes the early shift on Sunday?", "Ravi takes the early shift on Sunday."),
}
"""Question and answer of statements with a wrong mark."""


def _statements() -> list[object]:
    """Statements as parameters; a missed one that gets its right mark fails."""
    missed = pytest.mark.xfail(strict=True, reason="words alone do not tell")
    return [
        pytest.param(*each, marks=[missed] if (each[1], each[2]) in MISSED else [])
        for each in STATEMENTS
    ]


@pytest.mark.parametrize(("text", "question", "answer", "expected"), _statements())
def test_marks(text: str, question: str, answer: str, expected: bool) -> None:
    assert is_supported(answer, question, TEXTS[text]) is expected


@pytest.mark.parametrize(
    ("text", "question", "answer"), [each[:3] for each in STATEMENTS if each[3]]
)
def test_no_right_answer_is_refuted(text: str, question: str, answer: str) -> None:
    assert not is_refuted(answer, question, TEXTS[text])


def test_texts_refute_wrong_answers() -> None:
    wrong = [each for each in STATEMENTS if not each[3]]
    refuted = sum(is_refuted(answer, question, TEXTS[text]) for text, question, answer, _ in wrong)
    assert refuted >= len(wrong) // 4

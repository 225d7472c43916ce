"""A question for two values becomes one question for each."""

from __future__ import annotations

import pytest

from nsa_cli.retrieval.asked_parts import asked_parts


@pytest.mark.parametrize(
    ("question", "one", "two"),
    [
        (
            "How long is the notice according to the lease, and according to the house rules?",
            "How long is the notice according to the lease?",
            "How long is the notice according to the house rules?",
        ),
        (
            "How often is oil added according to the manual, and how often according to the plan?",
            "How often is oil added according to the manual?",
            "How often is oil added according to the plan?",
        ),
        (
            "By how many days was the work late according to the letter, and according to the log?",
            "By how many days was the work late according to the letter?",
            "By how many days was the work late according to the log?",
        ),
        (
            "When does the shop open? The poster and the letter disagree: give both.",
            "When does the shop open, according to the poster?",
            "When does the shop open, according to the letter?",
        ),
        (
            "Wann öffnet der Laden? Das Plakat und der Brief widersprechen sich: nenne beide.",
            "Wann öffnet der Laden, laut das Plakat?",
            "Wann öffnet der Laden, laut der Brief?",
        ),
        (
            "Quand ouvre le magasin ? L’avis et la lettre ne sont pas d’accord : donnez les deux.",
            "Quand ouvre le magasin, selon l’avis?",
            "Quand ouvre le magasin, selon la lettre?",
        ),
        (
            "The offer and its annex disagree on the roof's price. Which two prices do they give?",
            "Which roof's price is given by the offer?",
            "Which roof's price is given by its annex?",
        ),
        (
            "What do the offer and the bill each say about the scaffold?",
            "What does the offer say about the scaffold?",
            "What does the bill say about the scaffold?",
        ),
        (
            "The deposit is named in the lease and in the annex. Which sum does each give?",
            "The deposit is named in the lease. Which sum does it give?",
            "The deposit is named in the annex. Which sum does it give?",
        ),
        (
            "What does the first course cost, and what does the rescue course cost?",
            "What does the first course cost?",
            "What does the rescue course cost? (Asked about: What does the first course cost.)",
        ),
        (
            "For how long is milk kept: what does the label say, and what does the leaflet say?",
            "For how long is milk kept: what does the label say?",
            "For how long is milk kept: What does the leaflet say?",
        ),
        (
            "How warm may the room be when the machine runs, and how warm when it is off?",
            "How warm may the room be when the machine runs?",
            "How warm may the room be when it is off?",
        ),
        (
            "Which needs more votes: a new rule or the end of the club? Give both shares.",
            "Which share is given for a new rule? (Asked about: Which needs more votes.)",
            "Which share is given for the end of the club? (Asked about: Which needs more votes.)",
        ),
        (
            "Where is rent higher, in the tower or in the annex? State both rents.",
            "Which rent is given for the tower? (Asked about: Where is rent higher.)",
            "Which rent is given for the annex? (Asked about: Where is rent higher.)",
        ),
    ],
)
def test_a_question_for_two_values_has_two_parts(question: str, one: str, two: str) -> None:
    parts = asked_parts(question)
    assert parts is not None
    assert [each.question for each in parts] == [one, two]


@pytest.mark.parametrize(
    "question",
    [
        "How long is the notice according to the lease?",
        "Which house costs more, the tower or the annex, and by how much?",
        "By how many euros does the tower cost more than the annex?",
        "Who signed the lease, and when does it end?",
        "How many seats, and how many tables, are in the hall?",
        "What do the fees and the fines come to together?",
        "Is the tower or the annex older?",
        "What does the contract say about pets and guests?",
        "Which of the three, the tower, the annex or the barn, is oldest? Give both years.",
        "How is the boiler cleaned and how?",
    ],
)
def test_other_questions_have_no_parts(question: str) -> None:
    assert asked_parts(question) is None


def test_names_tell_the_parts_apart() -> None:
    parts = asked_parts("Is it late according to the log, and according to the letter?")
    assert parts is not None
    assert [each.name for each in parts] == ["according to the log", "according to the letter"]

"""The questions of this repository are those that were frozen, and their answers can be hit.

After a change that is meant: `python -m nsa_cli.evaluation.document_suite.freeze --again FOLDER`.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nsa_cli.evaluation.document_suite.matching import judge, says
from nsa_cli.evaluation.document_suite.questions import (
    FROZEN,
    QuestionSet,
    changes,
    read_frozen,
    read_questions,
)

FOLDER = Path(__file__).parents[3] / "evaluation" / "documents"


@pytest.fixture(scope="module")
def questions() -> QuestionSet:
    if not FOLDER.exists():
        pytest.skip("the questions are not in this tree")
    return read_questions(FOLDER)


def test_no_question_was_changed(questions: QuestionSet) -> None:
    assert changes(questions, read_frozen(FOLDER)) == []
    assert json.loads((FOLDER / FROZEN).read_text())["digest"] == questions.digest


def test_each_alternative_can_be_hit_and_is_not_wrong(questions: QuestionSet) -> None:
    for each in questions.questions:
        for alternative in (each for group in each.groups for each in group):
            assert says(alternative, alternative), (each.id, alternative)
            assert not any(says(alternative, wrong) for wrong in each.wrong), each.id
        if each.is_answerable:
            answer = ". ".join(group[0] for group in each.groups)
            assert judge(answer, each.groups, each.wrong).right, each.id

"""Question files, their order and their digest."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from nsa_cli.evaluation.document_suite import freeze
from nsa_cli.evaluation.document_suite.questions import (
    FROZEN,
    changes,
    chosen,
    read_frozen,
    read_questions,
)
from nsa_models.errors import DataError, UsageError


def test_a_folder_is_read(suite: Any) -> None:
    found = read_questions(suite.questions)
    assert list(found.documents) == ["lease", "report"]
    assert [each.id for each in found.questions] == [
        *("lease-01", "lease-02", "lease-03", "report-01", "report-02"),
    ]
    compared = found.questions[-1]
    assert compared.documents == ("report", "lease")
    assert compared.places == (("report", (2,)), ("lease", (1,)))
    assert compared.wrong == ("43",)
    assert not found.questions[2].is_answerable


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"id": "other"}, "its id is 'other'"),
        ({"id": "../x"}, "is not a file name"),
        ({"title": None, "questions": None}, "NoneType"),
        ({"questions": [{"id": "x"}]}, "'kind' is missing"),
    ],
)
def test_a_file_of_another_form_is_refused(suite: Any, changes: Any, says: str) -> None:
    suite.write("lease", **changes)
    with pytest.raises(DataError, match=says):
        read_questions(suite.questions)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"kind": "guess"}, "the kind 'guess'"),
        ({"answers": ["12"]}, "list of groups"),
        ({"answers": [[""]]}, "empty answer"),
        ({"answers": []}, "needs answers and pages"),
        ({"kind": "unanswerable"}, "needs answers and pages"),
        ({"pages": [[0]]}, "page below 1"),
        ({"document2": "report"}, "no pages of report"),
        ({"document2": "none", "pages2": [[1]]}, "needs none.json"),
        ({"id": "lease-02"}, "two questions have the id lease-02"),
    ],
)
def test_a_question_of_another_form_is_refused(suite: Any, change: Any, says: str) -> None:
    first, *others = suite.file("lease")["questions"]
    suite.write("lease", questions=[{**first, **change}, *others])
    with pytest.raises(DataError, match=says):
        read_questions(suite.questions)


def test_a_folder_without_files_is_refused(tmp_path: Any) -> None:
    with pytest.raises(DataError, match="has no question file"):
        read_questions(tmp_path)
    with pytest.raises(DataError, match="is not a folder"):
        read_questions(tmp_path / "none")


def test_the_order_is_seeded_and_keeps_documents_together(suite: Any) -> None:
    found = read_questions(suite.questions)
    orders = {tuple(each.id for each in chosen(found, seed=seed)) for seed in range(20)}
    assert len(orders) > 1
    for order in orders:
        names = [each.split("-")[0] for each in order if each != "report-02"]
        assert names in (["lease"] * 3 + ["report"], ["report"] + ["lease"] * 3)
        assert sorted(order) == [each.id for each in found.questions]
    assert chosen(found, seed=1) == chosen(found, seed=1)
    assert chosen(found, seed=1, limit=2) == chosen(found, seed=1)[:2]


def test_a_part_by_name_and_kind(suite: Any) -> None:
    found = read_questions(suite.questions)

    def only(*names: str) -> set[str]:
        return {each.id for each in chosen(found, only=names)}

    assert only("lease-02") == {"lease-02"}
    assert only("computed", "unanswerable") == {"report-01", "lease-03"}
    assert only("contract") == {each.id for each in found.questions}
    assert only("report") == {"report-01", "report-02"}
    assert only("lease") == {"lease-01", "lease-02", "lease-03", "report-02"}
    with pytest.raises(UsageError, match="no document, question or kind 'leese'"):
        only("leese")


def test_the_digest_changes_with_a_question_and_a_document(suite: Any) -> None:
    first = read_questions(suite.questions)
    assert replace(first, questions=first.questions[::-1]).digest == first.digest
    questions = suite.file("lease")["questions"]
    questions[0]["answers"] = [["13"]]
    suite.write("lease", questions=questions)
    second = read_questions(suite.questions)
    suite.write("report", sha256="0" * 64)
    third = read_questions(suite.questions)
    assert len({first.digest, second.digest, third.digest}) == 3


def test_frozen_questions_tell_a_change(suite: Any, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(suite.questions)
    assert freeze.main([folder]) == 0
    frozen = read_frozen(suite.questions)
    assert (suite.questions / FROZEN).exists()
    assert changes(read_questions(suite.questions), frozen) == []
    questions = suite.file("lease")["questions"]
    questions[0]["question"] = "Which?"
    suite.write("lease", questions=questions[:-1])
    suite.write("report", sha256="0" * 64)
    assert changes(read_questions(suite.questions), frozen) == [
        *("lease-01 was changed", "report was changed", "lease-03 was removed"),
    ]
    capsys.readouterr()
    assert freeze.main([folder]) == 1
    assert "lease-01 was changed" in capsys.readouterr().err
    assert freeze.main([folder, "--again"]) == 0
    assert freeze.main([folder]) == 0
    assert freeze.main([]) == 2
    assert freeze.main([f"{folder}/none"]) == 3

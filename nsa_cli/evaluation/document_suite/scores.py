"""What a row is worth: whether the answer is right, and the gold pages cited and found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from nsa_cli.evaluation.document_suite.matching import judge
from nsa_cli.evaluation.document_suite.questions import Question
from nsa_cli.evaluation.document_suite.rows import AnswerRow, CitedPage
from nsa_cli.evaluation.metrics import score

TOP = 3
"""Citations of an answer that count."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredRow:
    """A row with its question and scores.

    Attributes:
        row: The row.
        question: Its question.
        right: Whether the answer is right; None if it is not judged so, as a summary.
        declined: Whether the answer says that the document does not say.
        f1: Harmonic mean of precision and recall of words, for a summary; else None.
        cited_first: Whether the first citation is a gold page; None without gold pages.
        cited: Whether the first three citations hold a gold page, for a comparison all of them.
        found_first: The same as `cited_first` for the passages found; None without passages.
        found: The same as `cited` for the first three passages found.
        verified: Whether the first citation is verified.
    """

    row: AnswerRow
    question: Question
    right: bool | None
    declined: bool
    f1: float | None
    cited_first: bool | None
    cited: bool | None
    found_first: bool | None
    found: bool | None
    verified: bool

    def as_json(self) -> dict[str, Any]:
        """The scores, without row and question, as JSON."""
        scores = asdict(self)
        return {name: value for name, value in scores.items() if name not in ("row", "question")}


def scored(row: AnswerRow, question: Question) -> ScoredRow:
    """Score a row."""
    verdict = judge(row.answer, question.groups, question.wrong)
    answers, summary = row.way != "find", question.kind == "summary"
    has_places, has_found = bool(question.places), bool(row.found) and bool(question.places)
    gold = [each for group in question.groups for each in group]
    return ScoredRow(
        row=row,
        question=question,
        right=verdict.right if answers and not summary else None,
        declined=answers and verdict.declined,
        f1=score(row.answer, gold).f1 if summary and answers else None,
        cited_first=hits(question, row.citations[:1], every=False)
        if answers and has_places
        else None,
        cited=_among(question, row.citations) if answers and has_places else None,
        found_first=hits(question, row.found[:1], every=False) if has_found else None,
        found=_among(question, row.found) if has_found else None,
        verified=bool(row.citations) and row.citations[0].verified,
    )


def _among(question: Question, pages: Sequence[CitedPage]) -> bool:
    return hits(question, pages[:TOP], every=question.kind == "compare")


def hits(question: Question, pages: Sequence[CitedPage], *, every: bool) -> bool:
    """Whether pages are among the gold pages of a question.

    Args:
        question: The question.
        pages: Pages of files.
        every: Whether each group of pages is needed, or one of them is enough.
    """
    cited = {(each.source, each.page) for each in pages}
    groups = [any((name, page) in cited for page in group) for name, group in question.places]
    return all(groups) if every else any(groups)

"""Scores of a summary beside a reference: ROUGE-Lsum, coverage, support.

Source: Lin 2004, "ROUGE: A Package for Automatic Evaluation of Summaries", by `rouge-score`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from nsa_cli.evaluation.summary_suite.meetings import Meeting
from nsa_cli.evaluation.summary_suite.rows import RowSentence
from nsa_cli.retrieval.claims import is_supported
from nsa_cli.retrieval.facts import Fact, facts_of, kept, name_words
from nsa_cli.retrieval.sentences import content_words
from nsa_cli.summaries.checks import sentences_of

_KINDS = ("name", "figure", "date")


@dataclass(frozen=True, slots=True, kw_only=True)
class SummaryScore:
    """Scores of a summary.

    Attributes:
        words: Its words.
        sentences: Its sentences.
        rouge: F1 of ROUGE-Lsum with stems; None without the package.
        facts: Names, figures and dates of the reference.
        kept: Those of them that the summary has; a name before a turn does not count.
        other_facts: Those that are no names of speakers.
        other_kept: Those of them that the summary has.
        verified: Sentences that the passage of a citation supports, as answers are checked.
        quoted: Sentences that the quotes of their citations alone support.
        verbatim: Sentences of the document itself.
    """

    words: int
    sentences: int
    rouge: float | None
    facts: int
    kept: int
    other_facts: int
    other_kept: int
    verified: int
    quoted: int
    verbatim: int


def score(sentences: Sequence[RowSentence], meeting: Meeting) -> SummaryScore:
    """Score a summary.

    Args:
        sentences: Its sentences.
        meeting: The meeting with its reference.
    """
    text = " ".join(each.text for each in sentences)
    facts = reference_facts(meeting)
    had = kept(facts, without_labels(text, meeting.speakers))
    speakers = content_words(" ".join(meeting.speakers))
    return SummaryScore(
        words=len(text.split()),
        sentences=len(sentences),
        rouge=rouge_lsum([each.text for each in sentences], sentences_of(meeting.reference)),
        facts=len(facts),
        kept=len(had),
        other_facts=sum(not _is_speaker(fact, speakers) for fact in facts),
        other_kept=sum(not _is_speaker(fact, speakers) for fact in had),
        verified=sum(each.verified for each in sentences),
        quoted=sum(is_supported(each.text, "", "\n".join(each.quotes)) for each in sentences),
        verbatim=sum(each.verbatim for each in sentences),
    )


def reference_facts(meeting: Meeting) -> list[Fact]:
    """Return the names, figures and dates of a reference, each once."""
    names = name_words(meeting.document.text)
    return [fact for fact in facts_of(meeting.reference, names) if fact.kind in _KINDS]


def _is_speaker(fact: Fact, speakers: set[str]) -> bool:
    return fact.kind == "name" and content_words(fact.text) <= speakers


def without_labels(text: str, speakers: Sequence[str]) -> str:
    """Return a text without the names of speakers before what they say, such as `Chair:`."""
    names = "|".join(map(re.escape, sorted(filter(None, speakers), key=len, reverse=True)))
    return re.sub(rf"(?<!\w)(?:{names}):(?=\s)", "", text) if names else text


def rouge_lsum(sentences: Sequence[str], reference: Sequence[str]) -> float | None:
    """Return the F1 of ROUGE-Lsum with stems; None if `rouge-score` is not installed."""
    scorer = _scorer()
    if scorer is None:
        return None
    found = scorer.score("\n".join(reference), "\n".join(sentences))
    return float(found["rougeLsum"].fmeasure)


@cache
def _scorer() -> Any:
    try:
        from rouge_score.rouge_scorer import RougeScorer
    except ImportError:
        return None
    return RougeScorer(["rougeLsum"], use_stemmer=True)

"""Reports of the suite: means, shares and ratios with intervals, as JSON and as tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from nsa_cli.evaluation.metrics import wilson
from nsa_cli.evaluation.report_table import new_table, print_table
from nsa_cli.evaluation.summary_suite.meetings import Meeting
from nsa_cli.evaluation.summary_suite.rows import WAYS, SummaryRow
from nsa_cli.evaluation.summary_suite.scores import SummaryScore, score

OVERVIEW = "nsa (overview)"
"""The overview paragraph of the way nsa alone."""

_NO_RATIO: dict[str, Any] = {"coverage_ratio": None, "low": None, "high": None}
_SYSTEMS = ("nsa", OVERVIEW, *WAYS[1:])
_SHARES = ("coverage", "supported", "supported_by_quote", "verbatim")
_SAMPLES = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredSummary:
    """A row with its scores.

    Attributes:
        row: The row.
        system: Its way, or `OVERVIEW`.
        score: Its scores.
    """

    row: SummaryRow
    system: str
    score: SummaryScore


def scored(rows: Sequence[SummaryRow], meetings: Sequence[Meeting]) -> list[ScoredSummary]:
    """Score the rows of some meetings; rows of others, and of changed meetings, are left out."""
    known = {each.digest: each for each in meetings}
    found = []
    for row in rows:
        meeting = known.get(row.digest)
        if meeting is None:
            continue
        whole = score(row.sentences, meeting)
        found.append(ScoredSummary(row=row, system=row.way, score=whole))
        if row.way == "nsa":
            overview = score([each for each in row.sentences if each.overview], meeting)
            found.append(ScoredSummary(row=row, system=OVERVIEW, score=overview))
    return found


def report(
    found: Sequence[ScoredSummary], meetings: Sequence[Meeting], seed: int
) -> dict[str, Any]:
    """Return the whole report as JSON.

    Args:
        found: The scored rows.
        meetings: The meetings that were asked for.
        seed: Seed of the bootstrap.
    """
    settings = list(dict.fromkeys(each.row.setting for each in found))
    groups = {
        (setting, system): own
        for setting in settings
        for system in _SYSTEMS
        if (own := [s for s in found if s.row.setting == setting and s.system == system])
    }
    return {
        "meetings": len(meetings),
        "seed": seed,
        "commits": sorted({each.row.commit for each in found}),
        "devices": sorted({each.row.device for each in found}),
        "systems": [_system(setting, system, own) for (setting, system), own in groups.items()],
        "pairs": [
            {"setting": setting, "first": system, "second": other, **ratio}
            for (setting, system), own in groups.items()
            if system in ("nsa", OVERVIEW)
            for other in WAYS[1:]
            if (ratio := coverage_ratio(own, groups.get((setting, other), []), seed))
        ],
    }


def coverage_ratio(
    first: Sequence[ScoredSummary], second: Sequence[ScoredSummary], seed: int
) -> dict[str, Any] | None:
    """Return the coverage of one system divided by that of another, on the same meetings.

    Args:
        first: Summaries by one.
        second: Summaries by the other.
        seed: Seed of the bootstrap over meetings.

    Returns:
        The number of meetings, the ratio and its 95 % interval; None values where the second
        keeps nothing, and None without a common meeting.

    Source: Efron and Tibshirani 1993, "An Introduction to the Bootstrap".
    """
    other_kept = {each.row.digest: each.score.kept for each in second}
    pairs = [(s.score.kept, other_kept[s.row.digest]) for s in first if s.row.digest in other_kept]
    if not pairs:
        return None
    counts = np.array(pairs, float)
    drawn = np.random.default_rng(seed).integers(len(pairs), size=(_SAMPLES, len(pairs)))
    sums = counts[drawn].sum(axis=1)
    ratios = sums[:, 0] / np.maximum(sums[:, 1], 1e-9)
    kept, others_kept = counts.sum(axis=0).tolist()
    if not others_kept:
        return {"meetings": len(pairs), **_NO_RATIO}
    low, high = np.quantile(ratios, [0.025, 0.975]).tolist()
    ratio = {"coverage_ratio": kept / others_kept, "low": low, "high": high}
    return {"meetings": len(pairs), **ratio}


def _system(setting: str, system: str, own: Sequence[ScoredSummary]) -> dict[str, Any]:
    def average(value: Callable[[ScoredSummary], float]) -> float:
        return mean(map(value, own))

    rouge = [each.score.rouge for each in own if each.score.rouge is not None]
    sentences = sum(each.score.sentences for each in own)
    return {
        "setting": setting,
        "way": system,
        "meetings": len(own),
        "words": average(lambda each: each.score.words),
        "rouge_lsum": mean(rouge) if len(rouge) == len(own) else None,
        "coverage": _share(
            sum(each.score.kept for each in own), sum(each.score.facts for each in own)
        ),
        "coverage_without_speakers": _share(
            sum(each.score.other_kept for each in own), sum(each.score.other_facts for each in own)
        ),
        "supported": _share(sum(each.score.verified for each in own), sentences),
        "supported_by_quote": _share(sum(each.score.quoted for each in own), sentences),
        "verbatim": _share(sum(each.score.verbatim for each in own), sentences),
        "read_tokens": average(lambda each: each.row.read_tokens),
        "seconds": average(lambda each: each.row.seconds),
    }


def _share(count: int, total: int) -> dict[str, Any]:
    low, high = wilson(count / total if total else 0.0, total)
    return {"value": count / total if total else None, "of": total, "low": low, "high": high}


def print_report(result: dict[str, Any]) -> None:
    """Print a report as tables, those of each setting together."""
    console = Console(highlight=False, emoji=False)
    for setting in dict.fromkeys(each["setting"] for each in result["systems"]):
        console.print(setting, markup=False, style="bold")
        systems = [each for each in result["systems"] if each["setting"] == setting]
        print_table(_systems_table(systems), console)
        console.print()
        pairs = _pairs_table([s for s in result["pairs"] if s["setting"] == setting])
        if pairs.row_count:
            print_table(pairs, console)
            console.print()
    if any(each["rouge_lsum"] is None for each in result["systems"]):
        console.print("ROUGE needs `pip install rouge-score`", markup=False)


def _systems_table(systems: Sequence[dict[str, Any]]) -> Table:
    table = new_table(
        (
            *("\nway", "\nn", "\nwords", "ROUGE\nLsum", "coverage\n%"),
            *("supported\n%", "by quote\n%", "verbatim\n%", "\ns"),
        )
    )
    for each in systems:
        rouge = "–" if each["rouge_lsum"] is None else f"{100 * each['rouge_lsum']:.1f}"
        table.add_row(
            *(each["way"], str(each["meetings"]), f"{each['words']:.0f}", rouge),
            *(_percent(each[name]) for name in _SHARES),
            f"{each['seconds']:.1f}",
        )
    return table


def _pairs_table(pairs: Sequence[dict[str, Any]]) -> Table:
    table = new_table(("coverage of", "divided by that of", "n", "ratio", "95 %"), left=2)
    for each in pairs:
        if each["coverage_ratio"] is not None:
            table.add_row(
                *(each["first"], each["second"], str(each["meetings"])),
                *(f"{each['coverage_ratio']:.2f}", f"{each['low']:.2f}–{each['high']:.2f}"),
            )
    return table


def _percent(share: dict[str, Any]) -> str:
    return "–" if share["value"] is None else f"{100 * share['value']:.0f}"

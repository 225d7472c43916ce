"""Reports of the suite: shares with intervals, by way, kind and pair, as JSON and as tables."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from statistics import mean
from typing import Any

from rich.console import Console
from rich.table import Table

from nsa_cli.evaluation.document_suite.questions import KINDS, Question, QuestionSet
from nsa_cli.evaluation.document_suite.rows import WAYS, AnswerRow
from nsa_cli.evaluation.document_suite.scores import ScoredRow, scored
from nsa_cli.evaluation.metrics import wilson
from nsa_cli.evaluation.paired import paired_difference
from nsa_cli.evaluation.report_table import new_table, print_table

Share = dict[str, Any]
System = tuple[str, str]
"""Setting and way."""


def scored_rows(rows: Iterable[AnswerRow], questions: Iterable[Question]) -> list[ScoredRow]:
    """Score the rows of some questions; rows of others, and of changed questions, are left out."""
    known = {each.digest: each for each in questions}
    return [scored(row, known[row.digest]) for row in rows if row.digest in known]


def report(
    questions: QuestionSet, asked: Sequence[Question], rows: Sequence[ScoredRow], seed: int
) -> dict[str, Any]:
    """Return the whole report as JSON.

    Args:
        questions: The set of questions.
        asked: Those that were asked.
        rows: Their answers.
        seed: Seed of order and bootstrap.
    """
    systems = _by_system(rows)
    measured = [_system(key, group) for key, group in systems.items()]
    commits = sorted({row.row.commit for row in rows})
    return {
        "accuracy": measured[0]["right"]["value"] if measured else None,
        "suite": questions.name,
        "digest": questions.digest,
        "documents": len({name for each in asked for name in each.documents}),
        "questions": len(asked),
        "questions_of_the_suite": len(questions.questions),
        "answers": len(rows),
        "seed": seed,
        "commits": commits,
        "devices": sorted({row.row.device for row in rows}),
        "systems": measured,
        "pairs": _pairs(systems, seed),
    }


def _by_system(rows: Sequence[ScoredRow]) -> dict[System, list[ScoredRow]]:
    """Group rows by setting, in the order of the rows, and by way, in the order of `WAYS`."""
    systems: dict[System, list[ScoredRow]] = {}
    for row in rows:
        systems.setdefault((row.row.setting, row.row.way), []).append(row)
    settings = list(dict.fromkeys(setting for setting, _ in systems))
    ordered = itertools.product(settings, WAYS)
    return {system: systems[system] for system in ordered if system in systems}


def _system(key: System, rows: Sequence[ScoredRow]) -> dict[str, Any]:
    """Measure one setting and way."""
    setting, way = key
    answerable = [row for row in rows if row.question.is_answerable]
    unanswerable = [row for row in rows if not row.question.is_answerable]
    return {
        "setting": setting,
        "way": way,
        "questions": len(rows),
        "right": _share(rows, "right"),
        "answerable_right": _share(answerable, "right"),
        "answerable_declined": _share([r for r in answerable if r.right is not None], "declined"),
        "unanswerable_declined": _share(unanswerable, "right"),
        "cited_first": _share(rows, "cited_first"),
        "cited_among_3": _share(rows, "cited"),
        "found_first": _share(rows, "found_first"),
        "found_among_3": _share(rows, "found"),
        "verified": _share([row for row in rows if row.right is not None], "verified"),
        "right_when_verified": _share([row for row in rows if row.verified], "right"),
        "f1": _mean(rows, lambda row: row.f1),
        "kinds": _by_kind(rows, "kind"),
        "document_kinds": _by_kind(rows, "document_kind"),
        "read_seconds": _mean(_first_of_document(rows), lambda row: row.row.read_seconds),
        "answer_seconds": _mean(rows, lambda row: row.row.answer_seconds),
        "read_tokens": _mean(rows, lambda row: row.row.read_tokens),
        "answer_tokens": _mean(rows, lambda row: row.row.answer_tokens),
    }


def _by_kind(rows: Sequence[ScoredRow], name: str) -> dict[str, dict[str, Share]]:
    """Shares of each kind of questions or documents; `name` is a field of `Question`."""
    found = sorted({getattr(row.question, name) for row in rows})
    groups = {kind: [row for row in rows if getattr(row.question, name) == kind] for kind in found}
    return {
        kind: {
            "right": _share(own, "right"),
            "cited_first": _share(own, "cited_first"),
            "cited_among_3": _share(own, "cited"),
            "found_first": _share(own, "found_first"),
            "found_among_3": _share(own, "found"),
        }
        for kind, own in groups.items()
    }


def _share(rows: Sequence[ScoredRow], name: str) -> Share:
    """Share of the rows that have a score, with its 95 % interval; `value` is None without any."""
    values = [value for row in rows if (value := getattr(row, name)) is not None]
    if not values:
        return {"value": None, "low": None, "high": None, "of": 0}
    low, high = wilson(mean(values), len(values))
    shown = {"value": mean(values), "low": low, "high": high}
    return {**{each: round(value, 4) for each, value in shown.items()}, "of": len(values)}


def _mean(rows: Sequence[ScoredRow], value: Callable[[ScoredRow], float | None]) -> float | None:
    values = [found for row in rows if (found := value(row)) is not None]
    return round(mean(values), 3) if values else None


def _first_of_document(rows: Sequence[ScoredRow]) -> list[ScoredRow]:
    """One row for each document: it is read once for all its questions."""
    return list({row.question.documents: row for row in reversed(rows)}.values())


def _pairs(systems: dict[System, list[ScoredRow]], seed: int) -> list[dict[str, Any]]:
    """Compare ways of the same setting, and settings of the same way, on common questions."""
    judged = {
        system: {row.question.digest: row.right for row in rows if row.right is not None}
        for system, rows in systems.items()
    }
    found = []
    for one, other in itertools.combinations(judged, 2):
        common = [digest for digest in judged[one] if digest in judged[other]]
        if not common or (one[0] != other[0] and one[1] != other[1]):
            continue
        sides = [[bool(judged[system][digest]) for digest in common] for system in (one, other)]
        names = [{"setting": setting, "way": way} for setting, way in (one, other)]
        difference = asdict(paired_difference(*sides, seed=seed))
        rounded = {
            name: round(value, 4) if isinstance(value, float) else value
            for name, value in difference.items()
        }
        found.append({"first": names[0], "second": names[1], **rounded})
    return found


def print_report(result: dict[str, Any]) -> None:
    """Print the tables of a report."""
    console = Console(highlight=False, emoji=False)
    console.print(
        f"{result['suite']}: {result['questions']} of {result['questions_of_the_suite']} questions "
        f"about {result['documents']} documents, {result['answers']} answers",
        markup=False,
    )
    console.print(f"digest {result['digest']}\n", markup=False, soft_wrap=True)
    systems = result["systems"]
    settings = list(dict.fromkeys(each["setting"] for each in systems))
    letters = dict.fromkeys(settings, "")
    if len(settings) > 1:
        letters = {setting: f"{chr(65 + at)} " for at, setting in enumerate(settings)}
    for setting, letter in letters.items():
        own = [each for each in systems if each["setting"] == setting]
        console.print(f"{letter}{setting}", markup=False, style="bold")
        for table in (
            *(_answers_table(own), _kinds_table(own), _documents_table(own), _costs_table(own)),
        ):
            if table.row_count:
                print_table(table, console)
                console.print()
    if result["pairs"]:
        console.print("the same questions", style="bold")
        print_table(_pairs_table(result["pairs"], letters), console)


def _answers_table(systems: Sequence[dict[str, Any]]) -> Table:
    table = new_table(
        (
            *("\nway", "\nn", "right\n%", "\n95 %", "answerable:\nright", "answerable:\ndeclined"),
            *("unanswerable:\ndeclined", "verified:\nright"),
        )
    )
    for each in systems:
        if each["right"]["value"] is None and each["f1"] is None:
            continue
        table.add_row(
            *(each["way"], str(each["questions"])),
            *(_percent(each["right"]), _interval(each["right"])),
            *(_percent(each["answerable_right"]), _percent(each["answerable_declined"])),
            _percent(each["unanswerable_declined"]),
            _percent(each["right_when_verified"], of=True),
        )
    return table


def _costs_table(systems: Sequence[dict[str, Any]]) -> Table:
    table = new_table(
        (
            *("\nway", "pages\n@1/@3", "read\ns", "answer\ns", "read\ntokens"),
            "answer\ntokens",
        )
    )
    for each in systems:
        pages = "cited" if each["way"] != "find" else "found"
        first, among = each[f"{pages}_first"], each[f"{pages}_among_3"]
        table.add_row(
            *(each["way"], f"{_percent(first)}/{_percent(among)}"),
            *(f"{each['read_seconds']:.1f}", f"{each['answer_seconds']:.1f}"),
            *(f"{each['read_tokens']:,.0f}", f"{each['answer_tokens']:.0f}"),
        )
    return table


def _kinds_table(systems: Sequence[dict[str, Any]]) -> Table:
    kinds = [kind for kind in KINDS if any(kind in each["kinds"] for each in systems)]
    table = new_table(("way", *kinds))
    for each in systems:
        cells = []
        for kind in kinds:
            own = each["kinds"].get(kind)
            cells.append("" if own is None else _kind_cell(each, kind, own))
        table.add_row(each["way"], *cells)
    return table


def _documents_table(systems: Sequence[dict[str, Any]]) -> Table:
    """Right answers and gold pages among three, by kind of document."""
    kinds = sorted({kind for each in systems for kind in each["document_kinds"]})
    table = new_table(("documents: right %, page @3", *(each["way"] for each in systems)))
    for kind in kinds:
        cells = []
        for each in systems:
            own = each["document_kinds"].get(kind)
            pages = "cited_among_3" if each["way"] != "find" else "found_among_3"
            cells.append("" if own is None else f"{_percent(own['right'])} {_percent(own[pages])}")
        table.add_row(kind, *cells)
    return table


def _kind_cell(system: dict[str, Any], kind: str, own: dict[str, Any]) -> str:
    if kind == "summary" and system["f1"] is not None:
        return f"F1 {100 * system['f1']:.0f}"
    return _percent(own["found_among_3" if system["way"] == "find" else "right"], of=True)


def _pairs_table(pairs: Sequence[dict[str, Any]], letters: dict[str, str]) -> Table:
    """A table of differences; `letters` are those of the settings."""
    table = new_table(("first", "second", "n", "points", "95 %", "better/worse", "p"), left=2)
    for each in pairs:
        low, high = 100 * each["low"], 100 * each["high"]
        table.add_row(
            *(letters[side["setting"]] + side["way"] for side in (each["first"], each["second"])),
            *(str(each["questions"]), f"{100 * each['difference']:+.1f}"),
            f"{low:+.1f} to {high:+.1f}",
            *(f"{each['better']}/{each['worse']}", f"{each['p']:.3f}"),
        )
    return table


def _percent(share: Share, *, of: bool = False) -> str:
    if share["value"] is None:
        return "–"
    text = f"{100 * share['value']:.0f}"
    return f"{text} of {share['of']}" if of else text


def _interval(share: Share) -> str:
    if share["value"] is None:
        return "–"
    return f"{100 * share['low']:.0f}–{100 * share['high']:.0f}"

"""Reports of an evaluation: rows of counts and shares, tables and heat maps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from nsa_cli.evaluation.metrics import wilson
from nsa_cli.evaluation.report_table import new_table, print_table
from nsa_cli.evaluation.runner import QuestionResult

if TYPE_CHECKING:
    from nsa_cli.evaluation.loss import LossRow

ReportRow = dict[str, Any]
"""Counts and shares of a group of questions, as JSON."""

_TOP = 3
"""Lowest rank that counts as found; an answer has as many citations."""

_SHADES = ((0.25, "on red"), (0.5, "on dark_orange3"), (0.75, "on yellow4"), (1.01, "on green4"))
"""Upper limit of the share and color of heat-map cells."""


def rows_of(records: Iterable[QuestionResult]) -> list[ReportRow]:
    """A row for each suite, setting, length and needle depth, in the order of the records."""
    groups: dict[tuple[Any, ...], list[QuestionResult]] = {}
    for record in records:
        key = (record.suite, record.setting, record.length, record.depth)
        groups.setdefault(key, []).append(record)
    return [
        {
            "suite": suite,
            **asdict(setting),
            "length": length,
            **({} if depth is None else {"depth": round(depth, 4)}),
            **measures(group),
        }
        for (suite, setting, length, depth), group in groups.items()
    ]


def measures(records: Sequence[QuestionResult]) -> ReportRow:
    """Counts and shares of questions, each share with a 95 % interval."""
    count = len(records)

    def share(right: Callable[[QuestionResult], bool | float]) -> ReportRow:
        total = sum(right(record) for record in records)
        low, high = wilson(total / count, count)
        return {
            "value": round(total / count, 4),
            "low": round(low, 4),
            "high": round(high, 4),
        }

    def within(rank: str, top: int) -> ReportRow:
        return share(lambda record: 0 < (getattr(record, rank) or 0) <= top)

    found: ReportRow = {"questions": count}
    for name in ("exact_match", "contains_gold", "recall", "f1"):
        found[name] = share(attrgetter(f"score.{name}"))
    ranked = (
        "citation",
        "passage",
        *(["bm25"] if any(each.bm25_asked for each in records) else []),
    )
    for name in ranked:
        for top in (1, _TOP):
            found[f"{name}_hit_{top}"] = within(f"{name}_rank", top)
    found["tokens"] = round(sum(record.tokens for record in records) / count)
    found["answer_seconds"] = round(sum(record.answer_seconds for record in records) / count, 2)
    return found


def summary(records: Sequence[QuestionResult]) -> ReportRow:
    """The share of correct answers of the first setting, and the measures of all settings."""
    first = [record for record in records if record.setting == records[0].setting]
    settings = list(dict.fromkeys(record.setting for record in records))
    return {
        "accuracy": measures(first)["contains_gold"]["value"],
        "questions": len(first),
        "settings": [
            {
                **asdict(setting),
                **measures([record for record in records if record.setting == setting]),
            }
            for setting in settings
        ],
    }


def items_of(records: Iterable[QuestionResult]) -> list[ReportRow]:
    """Every question with its answer and scores, as JSON."""
    items = map(asdict, records)
    return [{**item.pop("setting"), **item.pop("score"), **item} for item in items]


def print_report(records: Sequence[QuestionResult]) -> None:
    """Print a table for each model, with all depths together, and heat maps of the needle suite."""
    console = Console(highlight=False, emoji=False)
    for weights in dict.fromkeys(record.setting.weights for record in records):
        console.print(weights, markup=False, style="bold")
        print_table(_table([each for each in records if each.setting.weights == weights]), console)
        console.print()
    needles = [record for record in records if record.depth is not None]
    for setting in dict.fromkeys(record.setting for record in needles):
        heading = f"needle: {setting.weights}, {setting.attention}, blocks {setting.blocks}"
        console.print(heading, markup=False, style="bold")
        console.print(heat_map([each for each in needles if each.setting == setting]))


def _table(records: Sequence[QuestionResult]) -> Table:
    """The table of one model."""
    bm25 = any(record.bm25_asked for record in records)
    heads = (
        *("\nsuite", "\nread", "\nblocks", "\ntokens", "\nn", "gold\n%", "\n95 %", "EM\n%"),
        *("F1\n%", "cited\n@1/@3", "block\n@1/@3", *(["BM25\n@1/@3"] if bm25 else [])),
    )
    table = new_table(heads, left=2)
    for row in rows_of(record.without_depth() for record in records):
        gold = row["contains_gold"]
        table.add_row(
            *(row["suite"], row["attention"], row["blocks"], _short(row["length"])),
            *(str(row["questions"]), _percent(gold["value"])),
            f"{_percent(gold['low'])}–{_percent(gold['high'])}",
            *(_percent(row["exact_match"]["value"]), _percent(row["f1"]["value"])),
            *(_pair(row, "citation_hit"), _pair(row, "passage_hit")),
            *([_pair(row, "bm25_hit")] if bm25 else []),
        )
    return table


def heat_map(records: Sequence[QuestionResult]) -> Table:
    """Correct answers of all answers by depth and length, for one setting."""
    rows = rows_of(records)
    lengths = sorted({row["length"] for row in rows})
    heads = ("depth", *(f"{length:,}" for length in lengths))
    table = Table(*heads, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    cells = {(row["depth"], row["length"]): row for row in rows}
    for depth in sorted({row["depth"] for row in rows}):
        shown = [Text(f"{depth:.0%}")]
        for length in lengths:
            row = cells.get((depth, length))
            if row is None:
                shown.append(Text(""))
                continue
            share, count = row["contains_gold"]["value"], row["questions"]
            shade = next(style for below, style in _SHADES if share < below)
            shown.append(Text(f" {round(share * count)}/{count} ", style=shade))
        table.add_row(*shown)
    return table


def print_loss(rows: Sequence[LossRow], *, models: int) -> None:
    """Print the loss by position."""
    heads = [
        *([] if models == 1 else ["model"]),
        *("attention", "length", "positions", "windows", "loss", "95 %", "perplexity"),
    ]
    table = Table(*heads, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for row in rows:
        interval = row["interval"]
        table.add_row(
            *([] if models == 1 else [row["model"]]),
            *(row["attention"], f"{row['length']:,}"),
            f"{row['first_position']:,}–{row['last_position']:,}",
            str(row["windows"]),
            f"{row['loss']:.3f}",
            "" if interval is None else f"{interval[0]:.3f}–{interval[1]:.3f}",
            f"{row['perplexity']:.2f}",
        )
    print_table(table, Console(highlight=False, emoji=False))


def _short(length: int) -> str:
    """A number of tokens, in units of 1,024 if it is a multiple."""
    return f"{length // 1024}k" if length % 1024 == 0 else f"{length:,}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f}"


def _pair(row: ReportRow, name: str) -> str:
    return "/".join(_percent(row[f"{name}_{top}"]["value"]) for top in (1, _TOP))


def versions() -> dict[str, Any]:
    """Return the date and the versions of a result."""
    import torch

    from nsa_cli import __version__
    from nsa_cli.system import today

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    return {
        "date": today(),
        "versions": {"nsa": __version__, "torch": torch.__version__, "device": device},
    }

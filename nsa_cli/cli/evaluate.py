"""`nsa eval`."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nsa_cli.cli import console
from nsa_cli.cli import options as shared
from nsa_models.errors import NsaError, UsageError
from nsa_models.hub.registry import DEFAULT_MODEL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nsa_cli.config.options import Options
    from nsa_cli.evaluation.runner import Blocks
    from nsa_cli.evaluation.suites import Plan

HELP = """Measure how questions are answered whose answers are known.

\b
    nsa eval needle --lengths 16384 --depths 5 --json
    nsa eval similar values --answer-blocks 16,64,all --bm25
    nsa eval questions --data questions.jsonl --attention nsa,dense
    nsa eval loss --data books.jsonl --lengths 32768 --plot loss.png

\b
Suites:
    needle       one fact at some depths of a text
    similar      24 facts of one shape, each asked for
    values       keys with four values each, all of them asked for
    variables    values that variables hand on
    aggregation  what is said most often, and how often
    questions    about paragraphs among others, from a file (--data)
    loss         language-model loss by position, of a file (--data); alone
"""

_SUITES = ("needle", "similar", "values", "variables", "aggregation", "questions", "loss")
_WINDOWS = 4
"""Of the loss, of each length, unless `--limit` says another number."""


def evaluate(
    suites: Annotated[
        list[str], typer.Argument(metavar="SUITE", help="One or more of the suites above.")
    ],
    lengths: Annotated[
        str, typer.Option("--lengths", help="Tokens of text and question, with commas.")
    ] = "4096,16384",
    depths: Annotated[
        int, typer.Option("--depths", min=1, help="Depths at which the needle is hidden.")
    ] = 5,
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit",
            min=1,
            help="Questions of a suite at one length, and depth; windows of the loss.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Makes other texts.")] = 0,
    data: Annotated[
        Path | None, typer.Option("--data", help="JSON Lines, for questions and loss.")
    ] = None,
    held_out: Annotated[
        bool,
        typer.Option("--held-out", help="Only the articles of --data that training leaves out."),
    ] = False,
    haystack: Annotated[
        str | None,
        typer.Option("--haystack", help="A text to hide in; Python's documentation unless given."),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option("--model", "-m", help="As in ask; may be given several times."),
    ] = None,
    attention: Annotated[
        str, typer.Option("--attention", help="nsa, dense, or both with a comma.")
    ] = "nsa",
    answer_blocks: Annotated[
        str | None,
        typer.Option(
            "--answer-blocks", help="Such as 16,64,all; what the model is set to unless given."
        ),
    ] = None,
    bm25: Annotated[
        bool, typer.Option("--bm25", help="Rank the same passages by BM25 too.")
    ] = False,
    max_tokens: shared.MaxTokens = 48,
    device: shared.Device = "auto",
    quantize: shared.Quantize = None,
    adapter: shared.Adapter = None,
    no_adapter: shared.NoAdapter = False,
    memory: shared.Memory = None,
    yarn: shared.Yarn = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="A JSON file for rows, and every question with its answer."),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="A PNG file for heat maps and lines.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only the result.")] = False,
    json: shared.Json = False,
) -> None:
    """Measure how questions are answered whose answers are known."""
    chosen = _suites(suites)
    wanted = tuple(dict.fromkeys(shared.numbers("--lengths", lengths)))
    kinds = _attentions(attention)
    budgets = _budgets(answer_blocks)
    needs_file = [name for name in chosen if name in ("questions", "loss")]
    if data is None and needs_file:
        raise UsageError(f"{needs_file[0]} needs a file", hint="name it with --data")
    if data is not None and not needs_file:
        raise UsageError("--data is for questions and loss", hint="hide in a text by --haystack")
    from nsa_cli.output.plots import check_plot

    check_plot(plot)
    _check_folder(out)
    options = [
        shared.options(
            model=name,
            device=device,
            pages=None,
            ocr=None,
            password=None,
            store=False,
            cache_limit=0.0,
            quantize=quantize,
            adapter=adapter,
            no_adapter=no_adapter,
            memory=memory,
            yarn=yarn,
            dense=kind == "dense",
            max_tokens=max_tokens,
        )
        for name in dict.fromkeys(model or [DEFAULT_MODEL])
        for kind in kinds
    ]
    if chosen == ("loss",):
        assert data is not None
        _loss(data, wanted, limit or _WINDOWS, seed, options, out, plot, quiet=quiet, json=json)
        return
    from nsa_cli.evaluation.suites import Plan, load_articles, load_haystack

    hides = chosen != ("questions",)
    found, about = load_haystack(haystack, max(wanted), seed) if hides else ([], None)
    plan = Plan(
        suites=chosen,
        lengths=wanted,
        depths=depths,
        limit=limit,
        seed=seed,
        haystack=found,
        articles=load_articles(data, held_out=held_out) if data is not None else (),
    )
    _questions(plan, about, options, budgets, out, plot, bm25=bm25, quiet=quiet, json=json)


def _questions(
    plan: Plan,
    haystack: dict[str, Any] | None,
    options: Sequence[Options],
    budgets: Sequence[Blocks],
    out: Path | None,
    plot: Path | None,
    *,
    bm25: bool,
    quiet: bool,
    json: bool,
) -> None:
    """Ask, and show what came of it; what is there is written even when it is interrupted."""
    from nsa_cli.evaluation.plot import save_plot
    from nsa_cli.evaluation.report import items_of, print_report, rows_of, summary
    from nsa_cli.evaluation.runner import evaluate as asked
    from nsa_cli.output.batch_progress import BatchRenderer, each_hundredth

    records = []
    progress = BatchRenderer("Evaluation", each_hundredth(), quiet=quiet)
    if haystack is not None and haystack["characters"] < 4 * max(plan.lengths):
        progress.note(f"{haystack['name']} is shorter than the longest text, and is repeated in it")
    try:
        for record in asked(plan, options, budgets, progress, bm25=bm25):
            records.append(record)  # noqa: PERF402 - those before an interruption are kept
    finally:
        progress.close()
        if out is not None and records:
            result = {**summary(records), "rows": rows_of(records), "answers": items_of(records)}
            _write(out, {**result, "seed": plan.seed, "haystack": haystack, **_versions()})
    rows = rows_of(records)
    if plot is not None:
        save_plot(rows, plot)
    if json:
        result = {**summary(records), "rows": rows, "seed": plan.seed, "haystack": haystack}
        console.print_json({**result, **_versions()})
    else:
        print_report(records)


def _loss(
    data: Path,
    lengths: tuple[int, ...],
    limit: int,
    seed: int,
    options: Sequence[Options],
    out: Path | None,
    plot: Path | None,
    *,
    quiet: bool,
    json: bool,
) -> None:
    """Measure the loss, and show it."""
    from nsa_cli.evaluation.loss import LossPlan, load_texts, measure_loss, overall
    from nsa_cli.evaluation.plot import save_loss_plot
    from nsa_cli.evaluation.report import print_loss
    from nsa_cli.output.batch_progress import BatchRenderer, each_hundredth

    plan = LossPlan(texts=load_texts(str(data)), lengths=lengths, limit=limit, seed=seed)
    progress = BatchRenderer("Evaluation", each_hundredth(), quiet=quiet)
    try:
        rows = list(measure_loss(plan, options, progress))
    finally:
        progress.close()
    result = {"loss": overall(rows), "rows": rows, "seed": seed, **_versions()}
    if out is not None:
        _write(out, result)
    if plot is not None:
        save_loss_plot(rows, plot)
    if json:
        console.print_json(result)
    else:
        print_loss(rows, models=len({each.model for each in options}))


def _suites(names: Sequence[str]) -> tuple[str, ...]:
    """Suites, each once.

    Raises:
        UsageError: If there is no such suite, or the loss is not alone.
    """
    for name in names:
        if name not in _SUITES:
            close = difflib.get_close_matches(name, _SUITES, n=1)
            hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(_SUITES)}"
            raise UsageError(f"there is no suite {name!r}", hint=hint)
    chosen = tuple(dict.fromkeys(names))
    if "loss" in chosen and len(chosen) > 1:
        raise UsageError("loss is measured alone", hint="run it and the other suites apart")
    return chosen


def _attentions(said: str) -> list[str]:
    """Kinds of attention, separated by commas."""
    kinds = list(dict.fromkeys(said.split(",")))
    if not set(kinds) <= {"nsa", "dense"}:
        raise UsageError(f"--attention is {said!r}", hint="say nsa, dense or nsa,dense")
    return kinds


def _budgets(said: str | None) -> list[Blocks]:
    """Budgets of blocks, separated by commas."""
    if said is None:
        return ["model"]
    try:
        budgets = [None if each == "all" else int(each) for each in said.split(",")]
    except ValueError as error:
        raise UsageError(f"--answer-blocks is {said!r}", hint="say such as 16,64,all") from error
    if any(budget is not None and budget < 1 for budget in budgets):
        raise UsageError(f"--answer-blocks is {said!r}", hint="numbers are at least 1")
    return list(dict.fromkeys(budgets))


def _check_folder(out: Path | None) -> None:
    """Refuse a file that could not be written, before anything is measured."""
    if out is not None and not out.parent.is_dir():
        raise UsageError(f"there is no folder {out.parent}", hint="make it, or name another")


def _write(path: Path, result: dict[str, Any]) -> None:
    """Write a result as JSON, whole or not at all."""
    import json as codec

    partial = path.with_name(f"{path.name}.part")
    try:
        partial.write_text(codec.dumps(result, ensure_ascii=False, indent=1) + "\n", "utf-8")
        partial.replace(path)
    except OSError as error:
        raise NsaError(f"{path} cannot be written: {error.strerror or error}") from error


def _versions() -> dict[str, Any]:
    """What the result was made with."""
    import torch

    from nsa_cli import __version__

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    return {"versions": {"nsa": __version__, "torch": torch.__version__, "device": device}}

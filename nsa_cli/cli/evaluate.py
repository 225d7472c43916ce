"""`nsa eval`."""

from __future__ import annotations

import difflib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from nsa_cli.cli import console, options, values
from nsa_cli.cli.errors import interruptible
from nsa_cli.config.options import ATTENTIONS, Options
from nsa_cli.system import refuse_device
from nsa_models.errors import UsageError
from nsa_models.hub.registry import DEFAULT_MODEL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nsa_cli.evaluation.loss import LossPlan
    from nsa_cli.evaluation.runner import Blocks
    from nsa_cli.evaluation.suites import Plan

HELP = """Measure answers to questions with known answers.

\b
    nsa eval needle --lengths 16384 --depths 5 --json
    nsa eval similar values --answer-blocks 16,64,all --bm25
    nsa eval questions --data questions.jsonl --attention nsa,dense
    nsa eval loss --data books.jsonl --lengths 32768 --plot loss.png
    nsa eval summaries --data meetings.jsonl --held-out --out rows.jsonl
    nsa eval documents --data questions --documents pdfs --ways nsa,chunks --out rows.jsonl

\b
Suites:
    needle       one fact at several depths of a text
    similar      24 facts of the same form, each asked for
    values       keys with four values each, all asked for
    variables    values assigned from variable to variable
    aggregation  the most frequent word, and its frequency
    questions    questions about one paragraph among others, from --data
    loss         language-model loss by position, of the texts in --data; runs alone
    documents    questions about real documents, from --data; runs alone
    summaries    summaries of the meetings in --data, beside reference summaries; runs alone

\b
Ways of the suite documents, with the same model and instruction; the way nsa is that of
`nsa ask`, find that of `nsa find`, without an answer:
    words        the same, with no question answered by an expression
    more         the same from 2,048 tokens, not 1,024
    blocks       from the four best blocks of 64 tokens with their neighbors
    pages        from the stored pages that fit 2,048 tokens; pages-ranked, pages-kept and
                 pages-passages choose, place and end them otherwise
    chunks       8 chunks of 200 words by BM25 in the prompt, nothing else read
    gold         the pages that hold the answer in the prompt
    dense        the whole text in the prompt, where it fits the context

\b
Ways of the suite summaries, with the same model; the way nsa is that of `nsa summarize`:
    beginning    the first 4,096 tokens in the prompt
    map-reduce   each 2,048 tokens summarized, then these summaries
"""

_SUITES = (
    "needle",
    "similar",
    "values",
    "variables",
    "aggregation",
    "questions",
    "loss",
    "documents",
    "summaries",
)
_ALONE = ("loss", "documents", "summaries")
"""Suites that run alone."""

_WINDOWS = 4
"""Windows of the loss for each length, without `--limit`."""


class _Output(NamedTuple):
    """Where and how results are shown."""

    out: Path | None
    plot: Path | None
    json: bool
    quiet: bool


@options.takes(*options.WEIGHTS, "answer_model", "yarn", max_tokens=48)
def evaluate(
    ctx: typer.Context,
    opts: Options,
    suites: Annotated[
        list[str], typer.Argument(metavar="SUITE", help="One or more of the suites above.")
    ],
    lengths: options.Lengths = "4096,16384",
    depths: Annotated[
        int, options.option("--depths", "N", "Depths at which to hide the needle.", min=1)
    ] = 5,
    limit: Annotated[
        int | None,
        options.option(
            *(
                "--limit",
                "N",
                "Questions per suite, length and depth, or in all; windows of the loss.",
            ),
            min=1,
        ),
    ] = None,
    seed: Annotated[int, options.seed_option(min=0)] = 0,
    data: Annotated[
        Path | None,
        options.option(
            *("--data", "PATH"),
            "JSON Lines for questions, loss and summaries; question files for documents.",
        ),
    ] = None,
    documents: Annotated[
        Path | None,
        options.option("--documents", "FOLDER", "PDFs of the suite documents, named by id."),
    ] = None,
    ways: Annotated[
        str | None,
        options.option(
            *("--ways", "WAY,WAY,...", "Ways of documents or summaries, comma-separated."),
            show_default="nsa,chunks, or all of summaries",
        ),
    ] = None,
    length: options.Length = "medium",
    only: Annotated[
        str | None,
        options.option(
            *(
                "--only",
                "ID,ID,...",
                "Only these documents, questions, kinds of either, or titles.",
            ),
        ),
    ] = None,
    held_out: Annotated[
        bool, options.option("--held-out", None, "Use the articles of --data that training omits.")
    ] = False,
    haystack: Annotated[
        str | None,
        options.option(
            *("--haystack", "FILE", "Text to hide facts in."), show_default="Python's documentation"
        ),
    ] = None,
    bm25: Annotated[
        bool, options.option("--bm25", None, "Rank the passages by BM25, too.")
    ] = False,
    signals: Annotated[
        bool,
        options.option(
            *("--signals", None, "Measure likelihoods with and without the text of documents.")
        ),
    ] = False,
    report: Annotated[
        bool,
        options.option("--report", None, "Ask nothing; report the rows of --out."),
    ] = False,
    out: Annotated[
        Path | None,
        options.option(
            "--out -o", "FILE", "File for rows and answers; documents and summaries resume it."
        ),
    ] = None,
    plot: Annotated[
        Path | None, options.option("--plot", "FILE", "PNG file for heat maps and curves.")
    ] = None,
    model: Annotated[
        list[str] | None,
        options.option(
            *("--model -m", "MODEL", "Model name, folder, .gguf file or Hugging Face id."),
        ),
    ] = None,
    attention: Annotated[
        str,
        options.option(
            *("--attention", "NAME,NAME,...", "nsa, dense or both, comma-separated."),
            options.ADVANCED,
        ),
    ] = "nsa",
    answer_blocks: Annotated[
        str | None,
        options.option(
            *(
                "--answer-blocks",
                "N,N,...",
                "Blocks that a question attends to, such as 16,64,all.",
            ),
            options.ADVANCED,
            show_default="as the model is configured",
        ),
    ] = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Measure answers to questions with known answers."""
    chosen = _suites(suites)
    wanted = tuple(dict.fromkeys(values.numbers("--lengths", lengths)))
    kinds = list(dict.fromkeys(attention.split(",")))
    for kind in kinds:
        values.check_choice("--attention", kind, ATTENTIONS)
    budgets = _budgets(answer_blocks)
    needs_file = [name for name in chosen if name in ("questions", *_ALONE)]
    if data is None and needs_file:
        raise UsageError(f"{needs_file[0]} needs a file", hint="name it with --data")
    if data is not None and not needs_file:
        raise UsageError(
            "--data is for the suites questions, loss, documents and summaries",
            hint="use --haystack for a text",
        )
    from nsa_cli.output.plots import check_plot

    check_plot(plot)
    if chosen != ("documents",):
        opts = _without_answer_model(ctx, opts)
    if out is not None:
        if not out.parent.is_dir():
            raise UsageError(f"folder {out.parent} does not exist", hint="create it first")
        refuse_device(out)
    settings = [
        replace(opts, model=name, dense=kind == "dense", store=False, cache_limit_bytes=0)
        for name in dict.fromkeys(model or [DEFAULT_MODEL])
        for kind in kinds
    ]
    if chosen == ("documents",) and data is not None:
        from nsa_cli.cli.evaluate_documents import DocumentsRequest, run

        source = ctx.get_parameter_source("max_tokens")
        request = DocumentsRequest(
            data=data,
            documents=documents,
            ways="nsa,chunks" if ways is None else ways,
            only=only,
            limit=limit,
            seed=seed,
            held_out=held_out,
            signals=signals,
            report=report,
            out=out,
            plot=plot,
            json=json,
            quiet=quiet,
        )
        run(request, settings, budgets, is_default=source is None or source.name == "DEFAULT")
        return
    if chosen == ("summaries",) and data is not None:
        from nsa_cli.cli.evaluate_summaries import SummariesRequest
        from nsa_cli.cli.evaluate_summaries import run as summarized

        wanted_ways = None if ways is None else tuple(dict.fromkeys(ways.split(",")))
        summarized(
            SummariesRequest(
                data=data,
                ways=wanted_ways,
                length=length,
                only=only,
                limit=limit,
                seed=seed,
                held_out=held_out,
                report=report,
                out=out,
                plot=plot,
                json=json,
                quiet=quiet,
            ),
            settings,
            budgets,
        )
        return
    output = _Output(out=out, plot=plot, json=json, quiet=quiet)
    is_loss = chosen == ("loss",)
    written = out is not None and not is_loss
    with interruptible("finished answers are in --out" if written else "nothing was stored"):
        if is_loss:
            from nsa_cli.evaluation.loss import LossPlan, load_texts

            texts = load_texts(str(data))
            _loss(
                LossPlan(texts=texts, lengths=wanted, limit=limit or _WINDOWS, seed=seed),
                *(settings, output),
            )
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
        _questions(plan, about, settings, budgets, output, bm25=bm25)


def _without_answer_model(ctx: typer.Context, opts: Options) -> Options:
    """Return options without a second model, which a setting may name.

    Raises:
        UsageError: If the command line names it.
    """
    source = ctx.get_parameter_source("answer_model")
    if source is not None and source.name == "COMMANDLINE":
        raise UsageError("--answer-model is for the suite documents", hint="leave it out")
    return replace(opts, answer_model=None)


def _questions(
    plan: Plan,
    haystack: dict[str, Any] | None,
    settings: Sequence[Options],
    budgets: Sequence[Blocks],
    output: _Output,
    *,
    bm25: bool,
) -> None:
    """Ask and show the results; write finished answers even after an interruption."""
    from nsa_cli.evaluation.plot import save_plot
    from nsa_cli.evaluation.report import items_of, print_report, rows_of, summary, versions
    from nsa_cli.evaluation.runner import evaluate as asked
    from nsa_cli.output.batch_progress import BatchRenderer, each_hundredth

    records = []
    progress = BatchRenderer("Evaluation", each_hundredth(), quiet=output.quiet)
    if haystack is not None and haystack["characters"] < 4 * max(plan.lengths):
        progress.note(f"{haystack['name']} is shorter than the longest text, and is repeated in it")
    try:
        for record in asked(plan, settings, budgets, progress, bm25=bm25):
            records.append(record)  # noqa: PERF402 - those before an interruption are kept
    finally:
        progress.close()
        result = {"seed": plan.seed, "haystack": haystack, **versions()}
        if output.out is not None and records:
            rows, items = rows_of(records), items_of(records)
            _write(output.out, {**summary(records), "rows": rows, "answers": items, **result})
    rows = rows_of(records)
    if output.plot is not None:
        save_plot(rows, output.plot)
    if output.json:
        console.print_json({**summary(records), "rows": rows, **result})
    else:
        print_report(records)


def _loss(plan: LossPlan, settings: Sequence[Options], output: _Output) -> None:
    """Measure the loss and show the results."""
    from nsa_cli.evaluation.loss import measure_loss, overall
    from nsa_cli.evaluation.plot import save_loss_plot
    from nsa_cli.evaluation.report import print_loss, versions
    from nsa_cli.output.batch_progress import BatchRenderer, each_hundredth

    progress = BatchRenderer("Evaluation", each_hundredth(), quiet=output.quiet)
    try:
        rows = list(measure_loss(plan, settings, progress))
    finally:
        progress.close()
    result = {"loss": overall(rows), "rows": rows, "seed": plan.seed, **versions()}
    if output.out is not None:
        _write(output.out, result)
    if output.plot is not None:
        save_loss_plot(rows, output.plot)
    if output.json:
        console.print_json(result)
    else:
        print_loss(rows, models=len({each.model for each in settings}))


def _suites(names: Sequence[str]) -> tuple[str, ...]:
    """Return each suite once.

    Raises:
        UsageError: If a suite is unknown, or the loss is not alone.
    """
    for name in names:
        if name not in _SUITES:
            close = difflib.get_close_matches(name, _SUITES, n=1)
            hint = f"did you mean {close[0]}?" if close else f"use {', '.join(_SUITES)}"
            raise UsageError(f"no suite {name!r}", hint=hint)
    chosen = tuple(dict.fromkeys(names))
    for name in _ALONE:
        if name in chosen and len(chosen) > 1:
            raise UsageError(f"the suite {name} runs alone", hint="run the other suites separately")
    return chosen


def _budgets(text: str | None) -> list[Blocks]:
    """Parse numbers of blocks, separated by commas; None is the model's number."""
    if text is None:
        return ["model"]
    try:
        budgets = [None if each == "all" else int(each) for each in text.split(",")]
    except ValueError as error:
        hint = "separate numbers by commas, such as 16,64,all"
        raise values.invalid("--answer-blocks", text, hint) from error
    if any(budget is not None and budget < 1 for budget in budgets):
        raise values.invalid("--answer-blocks", text, "numbers must be at least 1")
    return list(dict.fromkeys(budgets))


def _write(path: Path, result: dict[str, Any]) -> None:
    """Write a result as JSON."""
    import json

    console.write_text(path, json.dumps(result, ensure_ascii=False, indent=1) + "\n")

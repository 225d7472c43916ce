"""`nsa batch`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nsa_cli.cli import console, options, values
from nsa_cli.cli.errors import interruptible
from nsa_cli.config.options import AUTO, Options
from nsa_cli.config.summary_length import SummaryLength
from nsa_models.errors import UsageError

if TYPE_CHECKING:
    from nsa_cli.batch.dry_run import DocumentSurvey
    from nsa_cli.batch.run import Outcome
    from nsa_cli.batch.work import Work
    from nsa_cli.results import Estimate

HELP = """Ask about, or summarize, each document of a folder separately.

\b
    nsa batch contracts/ --ask "Who may terminate it?" --out answers.jsonl
    nsa batch contracts/ --ask "Who may terminate it?" --out answers.jsonl --resume
    nsa batch papers/*.pdf --questions questions.txt --summarize --out papers.csv

The output has one row per document and question, as JSON Lines or CSV. A document that fails gets
a row with the reason, also one that is empty or binary; the batch continues and exits with code 5.
"""

FORMATS = ("jsonl", "csv")
ENDINGS = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv"}
"""The format of each ending of --out."""

FAILED = 5


@options.takes(*options.DOCUMENTS, *options.ANSWERS, *options.MODEL, answer_model=AUTO)
def batch(
    ctx: typer.Context,
    opts: Options,
    sources: options.Paths,
    ask: options.Questions = None,
    questions: Annotated[
        Path | None, options.option("--questions", "FILE", "Text file with a question per line.")
    ] = None,
    template: options.Template = None,
    param: options.Params = None,
    summarize: Annotated[
        bool, options.option("--summarize", None, "Summarize each document.")
    ] = False,
    length: options.Length = "medium",
    focus: options.Focus = None,
    out: Annotated[
        Path | None,
        options.option("--out -o", "FILE", "File for the rows.", show_default="standard output"),
    ] = None,
    format_: Annotated[
        str | None,
        options.option(
            "--format", "|".join(FORMATS), "Format of the rows.", show_default="by --out"
        ),
    ] = None,
    resume: Annotated[
        bool, options.option("--resume", None, "Continue --out; finished rows are not repeated.")
    ] = False,
    jobs: Annotated[
        int,
        options.option(
            *("--jobs -j", "N", "Processes, as far as memory allows; rows come as they finish."),
            options.MACHINE,
            min=1,
        ),
    ] = 1,
    ray: Annotated[
        str | None,
        options.option("--ray", "ADDRESS", "Run on a Ray cluster; auto finds it.", options.MACHINE),
    ] = None,
    dry_run: options.DryRun = False,
    quiet: options.Quiet = False,
) -> None:
    """Ask about, or summarize, each document of a folder separately."""
    ask, opts = options.with_template(ctx, template, param, ask, opts)
    format_ = _format(out, format_)
    asked = _questions(ask, questions)
    if not asked and not summarize:
        raise UsageError("no question", hint="use --ask, --questions or --summarize")
    SummaryLength.parse(length)
    if resume and out is None:
        raise UsageError("--resume needs --out", hint="name the file to continue")
    if ray is not None and jobs > 1:
        raise UsageError("--jobs conflicts with --ray", hint="use one of them")
    if "-" in sources:
        raise UsageError("nsa batch does not read standard input", hint="name files or folders")
    from nsa_cli.batch.work import Work

    work = Work(questions=tuple(asked), summary=summarize, length=length, focus=focus)
    if dry_run:
        _show_survey(sources, work, opts, out, format_, resume=resume, quiet=quiet)
        return
    from nsa_cli.batch.result_file import ResultFile
    from nsa_cli.batch.run import run_batch
    from nsa_cli.output.batch_progress import BatchRenderer, each_document

    rows = ResultFile(out, format_, resume=resume)
    renderer = BatchRenderer("All documents", each_document, quiet=quiet)
    hint = "run it again to continue; finished documents are stored"
    try:
        with interruptible("continue with --resume; finished rows are in --out" if out else hint):
            outcome = run_batch(sources, work, opts, rows, renderer, jobs=jobs, ray=ray)
    finally:
        renderer.close()
        rows.close()
    _show_outcome(outcome, quiet=quiet)
    if outcome.failed:
        raise typer.Exit(FAILED)


def _format(out: Path | None, format_: str | None) -> str:
    """The format of the rows, by --format or by the ending of --out.

    Raises:
        UsageError: If no rows are written with this ending.
    """
    if format_ is not None:
        values.check_choice("--format", format_, FORMATS)
        return format_
    ending = "" if out is None else out.suffix.lower()
    if ending and ending not in ENDINGS:
        raise UsageError(
            f"nsa batch does not write {ending} files: {out}",
            hint=f"name one of {', '.join(ENDINGS)}, or give --format jsonl or csv",
        )
    return ENDINGS.get(ending, "jsonl")


def _show_outcome(outcome: Outcome, *, quiet: bool) -> None:
    """Print a table of rows by result, and a line about documents and time, to standard error."""
    if quiet:
        return
    from nsa_cli.output.layout import documents_in_words

    shown = [
        ("done before", outcome.rows_before, ""),
        ("answered", outcome.rows, ""),
        *((f"failed: {each.code}", each.rows, each.document) for each in outcome.failures),
    ]
    rows = [(f"{count:,}", result, first) for result, count, first in shown if count]
    if outcome.failures:
        console.print_rows(("ROWS", "RESULT", "FIRST"), rows, right=(0,), paths=(2,), error=True)
    else:
        console.print_rows(("ROWS", "RESULT"), [row[:2] for row in rows], right=(0,), error=True)
    before = f", {outcome.done_before} of them done before" if outcome.done_before else ""
    took = _duration(outcome.seconds)
    documents = documents_in_words(outcome.documents)
    console.note(f"{documents}{before}, {outcome.failed} failed, {took}")


def _show_survey(
    sources: list[str],
    work: Work,
    opts: Options,
    out: Path | None,
    format_: str,
    *,
    resume: bool,
    quiet: bool,
) -> None:
    """Print what each document would take, and the total; exit with code 5 if one fails."""
    from nsa_cli.batch.dry_run import survey_batch
    from nsa_cli.batch.result_file import finished_rows
    from nsa_cli.output.batch_progress import BatchRenderer, each_document
    from nsa_cli.output.layout import documents_in_words

    done = finished_rows(out, format_, resume=resume)
    renderer = BatchRenderer("All documents", each_document, quiet=quiet)
    try:
        found = list(survey_batch(sources, work, opts, done, out, renderer))
    finally:
        renderer.close()
    estimates = [each.estimate for each in found if each.estimate is not None]
    sums = [sum(values) for values in zip(*map(_amounts, estimates), strict=True)] or [0, 0, 0.0]
    rows = sum(each.rows for each in found)
    table = [(each.path, f"{each.rows:,}", *_cells(each)) for each in found]
    total = ("total", f"{rows:,}", f"{sums[0]:,}", f"{sums[1]:,}", _about(sums[2]))
    heads = ("DOCUMENT", "ROWS", "TOKENS", "TO READ", "TIME")
    console.print_rows(heads, [*table, total], right=(1, 2, 3), paths=(0,))
    failing = [each for each in found if each.error is not None]
    for each in failing:
        assert each.error is not None
        console.note(each.error["message"], quiet=quiet)
    disk = max((each.disk_free_bytes for each in estimates), default=0)
    kept = sum(each.disk_bytes for each in estimates)
    room = f", {kept / 1e9:.2f} GB on disk, {disk / 1e9:.2f} GB free" if kept else ""
    documents = documents_in_words(len(found))
    told = f"{documents}, {len(failing)} would fail{room}; nothing was read by the model"
    console.note(told, quiet=quiet)
    if failing:
        raise typer.Exit(FAILED)


def _amounts(found: Estimate) -> tuple[int, int, float]:
    """Tokens, tokens to read, and seconds of reading and answering."""
    seconds = found.seconds + found.answer_seconds
    return found.tokens, found.tokens - found.reused_tokens, seconds


def _cells(found: DocumentSurvey) -> tuple[str, str, str]:
    """Tokens, tokens to read, and the time or the reason for its absence."""
    if found.estimate is None:
        return "", "", f"fails: {found.error['code']}" if found.error else "done before"
    tokens, new, seconds = _amounts(found.estimate)
    return f"{tokens:,}", f"{new:,}", _about(seconds)


def _about(seconds: float) -> str:
    return f"about {_duration(max(1.0, seconds))}" if seconds else ""


def _duration(seconds: float) -> str:
    """A duration in words; tenths of a second below ten seconds that are not whole."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds % 1 and seconds < 10 else f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes / 60:,.1f} h"


def _questions(asked: list[str], file: Path | None) -> list[str]:
    """Return all questions once; skip empty lines of the file and those that begin with #."""
    lines: list[str] = []
    if file is not None:
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            from nsa_cli.documents.errors import UnreadableError

            raise UnreadableError(
                f"{file} cannot be read: {why}", hint="name a text file with a question per line"
            ) from error
    found = [line.strip() for line in [*asked, *lines]]
    if any(not line for line in found[: len(asked)]):
        raise UsageError("the question is empty", hint="type a question")
    return list(dict.fromkeys(line for line in found if line and not line.startswith("#")))

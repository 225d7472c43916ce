"""`nsa batch`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nsa_cli.cli import console, options, values
from nsa_cli.cli.errors import interruptible
from nsa_cli.config.options import LENGTHS, Options
from nsa_models.errors import UsageError

HELP = """Ask about, or summarize, each document of a folder separately.

\b
    nsa batch contracts/ --ask "Who may terminate it?" --out answers.jsonl
    nsa batch contracts/ --ask "Who may terminate it?" --out answers.jsonl --resume
    nsa batch papers/*.pdf --questions questions.txt --summarize --out papers.csv

The output has one row per document and question, as JSON Lines or CSV. A document that fails gets
a row with the reason; the batch continues and exits with code 5.
"""

FORMATS = ("jsonl", "csv")
FAILED = 5


@options.takes(*options.DOCUMENTS, *options.ANSWERS, *options.MODEL, "answer_model")
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
    quiet: options.Quiet = False,
) -> None:
    """Ask about, or summarize, each document of a folder separately."""
    ask, opts = options.with_template(ctx, template, param, ask, opts)
    if format_ is None:
        format_ = "csv" if out is not None and out.suffix.lower() == ".csv" else "jsonl"
    values.check_choice("--format", format_, FORMATS)
    asked = _questions(ask, questions)
    if not asked and not summarize:
        raise UsageError("no question", hint="use --ask, --questions or --summarize")
    values.check_choice("--length", length, LENGTHS)
    if resume and out is None:
        raise UsageError("--resume needs --out", hint="name the file to continue")
    if ray is not None and jobs > 1:
        raise UsageError("--jobs conflicts with --ray", hint="use one of them")
    if "-" in sources:
        raise UsageError("nsa batch does not read standard input", hint="name files or folders")
    from nsa_cli.batch.result_file import ResultFile
    from nsa_cli.batch.run import run_batch
    from nsa_cli.batch.work import Work
    from nsa_cli.output.batch_progress import BatchRenderer, each_document

    work = Work(questions=tuple(asked), summary=summarize, length=length, focus=focus)
    rows = ResultFile(out, format_, resume=resume)
    renderer = BatchRenderer("All documents", each_document, quiet=quiet)
    hint = "run it again to continue; finished documents are stored"
    try:
        with interruptible("continue with --resume; finished rows are in --out" if out else hint):
            outcome = run_batch(sources, work, opts, rows, renderer, jobs=jobs, ray=ray)
    finally:
        renderer.close()
        rows.close()
    before = f", {outcome.done_before} of them done before" if outcome.done_before else ""
    console.note(f"{outcome.documents} documents{before}, {outcome.failed} failed", quiet=quiet)
    if outcome.failed:
        raise typer.Exit(FAILED)


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

"""`nsa batch`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nsa_cli.cli import console
from nsa_cli.cli import options as shared
from nsa_models.errors import UnreadableError, UsageError
from nsa_models.hub.registry import DEFAULT_MODEL

HELP = """Ask about, or sum up, each document of a folder by itself.

\b
    nsa batch contracts/ --ask "Who may terminate it?" --out answers.jsonl
    nsa batch contracts/ --ask "Who may terminate it?" --out answers.jsonl --resume
    nsa batch papers/*.pdf --questions questions.txt --summarize --out papers.csv

One row per document and question, as JSON Lines or CSV. A document that fails has a row that says
why, and does not end the others; the exit code is then 5.
"""

FAILED = 5


def batch(
    ctx: typer.Context,
    sources: shared.Paths,
    ask: Annotated[
        list[str] | None,
        typer.Option("--ask", "-a", help="A question; may be repeated."),
    ] = None,
    questions: Annotated[
        Path | None, typer.Option("--questions", help="A file with a question on each line.")
    ] = None,
    summarize: Annotated[bool, typer.Option("--summarize", help="Sum up each document.")] = False,
    length: Annotated[
        str, typer.Option("--length", "-l", help="Of summaries: short, medium or long.")
    ] = "medium",
    focus: Annotated[
        str | None, typer.Option("--focus", help="What summaries look at in particular.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="A file; standard output without it.")
    ] = None,
    format_: Annotated[
        str | None, typer.Option("--format", help="jsonl or csv; by the name of --out.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with --out; nothing is done twice.")
    ] = False,
    template: shared.Template = None,
    param: shared.Params = None,
    jobs: Annotated[
        int,
        typer.Option(
            "--jobs",
            "-j",
            min=1,
            help="Processes at once, as far as memory goes; rows then come as they are done.",
        ),
    ] = 1,
    ray: Annotated[
        str | None,
        typer.Option(
            "--ray", metavar="ADDRESS", help="Use the machines of a Ray cluster; auto finds it."
        ),
    ] = None,
    model: shared.Model = DEFAULT_MODEL,
    pages: shared.Pages = None,
    ocr: shared.Ocr = None,
    every_line: shared.EveryLine = False,
    max_tokens: shared.MaxTokens = 256,
    system: shared.System = None,
    password: shared.Password = None,
    device: shared.Device = "auto",
    store: shared.Store = True,
    cache_limit: shared.CacheLimit = shared.CACHE_LIMIT_GB,
    quantize: shared.Quantize = None,
    adapter: shared.Adapter = None,
    no_adapter: shared.NoAdapter = False,
    memory: shared.Memory = None,
    quiet: shared.Quiet = False,
) -> None:
    """Ask about, or sum up, each document of a folder by itself."""
    ask, system = shared.with_template(ctx, template, param, ask, system)
    options = shared.options(
        model=model,
        device=device,
        pages=pages,
        ocr=ocr,
        every_line=every_line,
        password=password,
        store=store,
        cache_limit=cache_limit,
        quantize=quantize,
        adapter=adapter,
        no_adapter=no_adapter,
        memory=memory,
        system=system,
        max_tokens=max_tokens,
    )
    kind = _kind(format_, out)
    asked = _questions(ask, questions)
    if not asked and not summarize:
        raise UsageError("nothing is asked", hint="say --ask, --questions or --summarize")
    if length not in ("short", "medium", "long"):
        raise UsageError(f"--length is {length!r}", hint="say short, medium or long")
    if resume and out is None:
        raise UsageError("--resume needs --out", hint="name the file to go on with")
    if ray is not None and jobs > 1:
        raise UsageError("--jobs is for one machine", hint="leave it out with --ray")
    if "-" in sources:
        raise UsageError("- is no document of a batch", hint="name files or folders")
    from nsa_cli.batch.result_file import ResultFile
    from nsa_cli.batch.run import run_batch
    from nsa_cli.batch.work import Work
    from nsa_cli.output.batch_progress import BatchRenderer, each_document

    work = Work(questions=tuple(asked), summary=summarize, length=length, focus=focus)
    rows = ResultFile(out, kind, resume=resume)
    renderer = BatchRenderer("All documents", each_document, quiet=quiet)
    try:
        outcome = run_batch(sources, work, options, rows, renderer, jobs=jobs, ray=ray)
    finally:
        renderer.close()
        rows.close()
    before = f", {outcome.done_before} of them done before" if outcome.done_before else ""
    console.note(f"{outcome.documents} documents{before}, {outcome.failed} failed", quiet=quiet)
    if outcome.failed:
        raise typer.Exit(FAILED)


def _kind(wanted: str | None, out: Path | None) -> str:
    if wanted is None:
        return "csv" if out is not None and out.suffix.lower() == ".csv" else "jsonl"
    if wanted not in ("jsonl", "csv"):
        raise UsageError(f"--format is {wanted!r}", hint="say jsonl or csv")
    return wanted


def _questions(asked: list[str], file: Path | None) -> list[str]:
    """All questions, each once; lines of the file that are empty or begin with # are none."""
    lines: list[str] = []
    if file is not None:
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise UnreadableError(
                f"{file} cannot be read: {why}", hint="name a text file, a question on each line"
            ) from error
    found = [line.strip() for line in [*asked, *lines]]
    if any(not line for line in found[: len(asked)]):
        raise UsageError("the question is empty", hint="say what you want to know")
    return list(dict.fromkeys(line for line in found if line and not line.startswith("#")))

"""`nsa ask`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from nsa_cli.cli import console, options
from nsa_cli.config.options import Options
from nsa_models.errors import UsageError

HELP = """Answer a question about documents, with citations.

\b
    nsa ask report.pdf "What was the operating margin in 2019?"
    nsa ask src "Where is the retry limit set?"
    nsa ask a.pdf b.pdf -a "Who signed it?" -a "When?"
    cat app.log | nsa ask - "Why did the worker die?"
    nsa ask app.log "What went wrong last?" --follow
"""


@options.takes(
    *options.DOCUMENTS, *options.ANSWERS, *options.MODEL, "attention", "answer_blocks", "yarn"
)
def ask(
    ctx: typer.Context,
    opts: Options,
    sources: options.Sources,
    question: Annotated[
        str, typer.Argument(metavar="QUESTION", help="Your question; with --ask, one more source.")
    ],
    more: options.Questions = None,
    template: options.Template = None,
    param: options.Params = None,
    dry_run: Annotated[
        bool, options.option("--dry-run", None, "Estimate time, disk and memory; read nothing.")
    ] = False,
    follow: Annotated[
        bool,
        options.option("--follow -f", None, "Ask again whenever the text grows, until Ctrl-C."),
    ] = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Answer a question about documents, with citations."""
    asked, opts = options.with_template(ctx, template, param, more, opts)
    named, questions = _divide([*sources, question], asked)
    if follow and ("-" in named or not opts.store or dry_run):
        raise UsageError(
            "--follow conflicts with -, --no-store and --dry-run", hint="leave them out"
        )
    with console.rendering(json=json, quiet=quiet) as renderer:
        from nsa_cli.answering.ask import ask as answer
        from nsa_cli.answering.dry_run import survey

        if dry_run:
            found = survey(named, questions, opts, renderer)
            renderer.sizes(found.sizes)
            renderer.estimate(found.estimate())
            return
        rounds = iter([answer(named, questions, opts, renderer)])
        if follow:
            from nsa_cli.answering.follow import follow as followed

            rounds = followed(named, questions, opts, renderer)
        for answers in rounds:
            if len(questions) == 1:
                renderer.finish(next(answers))
            else:
                renderer.finish_all(questions, answers)


def _divide(words: Sequence[str], more: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split the arguments into sources and questions; without `--ask` the last is the question."""
    *sources, last = words
    questions = list(more)
    if more:
        sources.append(last)
    elif not sources:
        raise UsageError(
            f"no question about {last}", hint=f'add one: nsa ask {last} "Who wrote it?"'
        )
    elif last.strip() and " " not in last and _exists(last):
        raise UsageError(f"no question: {last} is a file", hint="put the question after it")
    else:
        questions = [last]
    if not all(question.strip() for question in questions):
        raise UsageError("the question is empty", hint="type a question")
    return sources, questions


def _exists(name: str) -> bool:
    try:
        return Path(name).exists()
    except (OSError, ValueError):
        return False

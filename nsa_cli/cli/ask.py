"""`nsa ask`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from nsa_cli.cli import console, options, sources
from nsa_cli.config.options import AUTO, Options
from nsa_models.errors import UsageError

HELP = """Answer a question about documents, with citations.

\b
    nsa ask report.pdf "What was the operating margin in 2019?"
    nsa ask src "Where is the retry limit set?"
    nsa ask a.pdf b.pdf -a "Who signed it?" -a "When?"
    cat app.log | nsa ask "Why did the worker die?"
    nsa ask https://example.org/terms.html "Who may terminate it?"
    nsa ask app.log "What went wrong last?" --follow
"""


@options.takes(
    *(*options.DOCUMENTS, *options.ANSWERS, *options.MODEL),
    *("attention", "answer_blocks", "yarn", "server"),
    answer_model=AUTO,
)
def ask(
    ctx: typer.Context,
    opts: Options,
    named: options.Sources,
    question: Annotated[
        str | None,
        typer.Argument(metavar="QUESTION", help="Your question; with --ask, one more source."),
    ] = None,
    more: options.Questions = None,
    template: options.Template = None,
    param: options.Params = None,
    dry_run: options.DryRun = False,
    follow: Annotated[
        bool,
        options.option("--follow -f", None, "Ask again whenever the text grows, until Ctrl-C."),
    ] = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Answer a question about documents, with citations."""
    from nsa_cli.documents.names import is_url

    asked, opts = options.with_template(ctx, template, param, more, opts)
    words = named if question is None else [*named, question]
    named, questions = _divide(words, asked)
    if follow and ("-" in named or not opts.store or dry_run or any(map(is_url, named))):
        raise UsageError(
            "--follow conflicts with -, URLs, --no-store and --dry-run", hint="leave them out"
        )
    with console.rendering(json=json, quiet=quiet, opening=named) as renderer:
        from nsa_cli.answering.ask import ask as answer

        if dry_run:
            console.show_survey(named, questions, opts, renderer)
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
    """Split the arguments into documents and questions; with `--ask` all are documents."""
    if not all(question.strip() for question in more):
        raise UsageError("the question is empty", hint="type a question")
    if more:
        example = f'nsa ask report.pdf --ask "{more[0]}"'
        return sources.with_pipe(words, example), list(more)
    named, question = sources.divide(words, "ask", "question")
    return named, [question]

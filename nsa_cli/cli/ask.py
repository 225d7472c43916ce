"""`nsa ask`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from nsa_cli.cli import console
from nsa_cli.cli import options as shared
from nsa_models.errors import UsageError
from nsa_models.hub.registry import DEFAULT_MODEL

HELP = """Answer a question about documents, with the pages it stands on.

\b
    nsa ask report.pdf "What was the operating margin in 2019?"
    nsa ask src "Where is the retry limit set?"
    nsa ask a.pdf b.pdf -a "Who signed it?" -a "When?"
    cat app.log | nsa ask - "Why did the worker die?"
    nsa ask app.log "What went wrong last?" --follow
"""


def ask(
    ctx: typer.Context,
    sources: shared.Sources,
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="What you want to know.")],
    more: Annotated[
        list[str] | None,
        typer.Option(
            "--ask", "-a", help="A question, in the place of QUESTION; may be given several times."
        ),
    ] = None,
    template: shared.Template = None,
    param: shared.Params = None,
    model: shared.Model = DEFAULT_MODEL,
    json: shared.Json = False,
    pages: shared.Pages = None,
    ocr: shared.Ocr = None,
    every_line: shared.EveryLine = False,
    yarn: shared.Yarn = False,
    max_tokens: shared.MaxTokens = 256,
    temperature: shared.Temperature = 0.0,
    seed: shared.Seed = None,
    system: shared.System = None,
    password: shared.Password = None,
    attention: shared.Attention = "nsa",
    device: shared.Device = "auto",
    store: shared.Store = True,
    cache_limit: shared.CacheLimit = shared.CACHE_LIMIT_GB,
    answer_blocks: shared.AnswerBlocks = None,
    quantize: shared.Quantize = None,
    adapter: shared.Adapter = None,
    no_adapter: shared.NoAdapter = False,
    memory: shared.Memory = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Only say what reading takes: time, disk and memory."),
    ] = False,
    follow: Annotated[
        bool,
        typer.Option(
            "--follow", "-f", help="Ask again whenever the text grows, until Ctrl-C; for logs."
        ),
    ] = False,
    quiet: shared.Quiet = False,
) -> None:
    """Answer a question about documents, with the pages it stands on."""
    shared.check_attention(attention)
    asked, system = shared.with_template(ctx, template, param, more, system)
    options = shared.options(
        model=model,
        device=device,
        pages=pages,
        ocr=ocr,
        every_line=every_line,
        yarn=yarn,
        password=password,
        store=store,
        cache_limit=cache_limit,
        quantize=quantize,
        adapter=adapter,
        no_adapter=no_adapter,
        memory=memory,
        dense=attention == "dense",
        system=system,
        max_tokens=max_tokens,
        temperature=temperature,
        seed=seed,
        answer_blocks=answer_blocks,
    )
    named, questions = _divide([*sources, question], asked)
    if follow and ("-" in named or not store or dry_run):
        raise UsageError(
            "--follow needs files, and what was read of them",
            hint="leave out -, --no-store and --dry-run",
        )
    with console.rendering(json=json, quiet=quiet) as renderer:
        from nsa_cli.answering.ask import ask as answer
        from nsa_cli.answering.dry_run import survey

        if dry_run:
            found = survey(named, questions, options, renderer)
            renderer.sizes(found.sizes)
            renderer.estimate(found.estimate())
            return
        rounds = iter([answer(named, questions, options, renderer)])
        if follow:
            from nsa_cli.answering.follow import follow as followed

            rounds = followed(named, questions, options, renderer)
        for answers in rounds:
            if len(questions) == 1:
                renderer.finish(next(answers))
            else:
                renderer.finish_all(questions, answers)


def _divide(words: Sequence[str], more: Sequence[str]) -> tuple[list[str], list[str]]:
    """Sources and questions; without `--ask` the last word is the question."""
    *sources, last = words
    questions = list(more)
    if more:
        sources.append(last)
    elif not sources:
        raise UsageError(
            f"there is no question about {last}",
            hint=f'say what you want to know, such as nsa ask {last} "Who wrote it?"',
        )
    elif last.strip() and " " not in last and _exists(last):
        raise UsageError(
            f"there is no question: {last} is a file", hint="say the question after it"
        )
    else:
        questions = [last]
    if not all(question.strip() for question in questions):
        raise UsageError("the question is empty", hint="say what you want to know")
    return sources, questions


def _exists(name: str) -> bool:
    try:
        return Path(name).exists()
    except (OSError, ValueError):
        return False

"""The command line: commands are gathered here, what they need is imported when they run."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from nsa_cli import __version__
from nsa_cli.cli import (
    ask,
    batch,
    bench,
    cache,
    chat,
    config,
    doctor,
    evaluate,
    find,
    models,
    serve,
    summarize,
    train,
)
from nsa_cli.cli.errors import NO_COLOR_FLAG, VERBOSE_FLAG, VERBOSE_LETTER, Boundary

_EXAMPLES = """Ask long documents, read whole by Native Sparse Attention.

\b
    nsa ask report.pdf "What was the operating margin in 2019?"
    cat app.log | nsa ask - "Why did the worker die?"
    nsa find src "where are retries counted"
    nsa summarize contract.docx --outline
    nsa chat manual.pdf
    nsa batch papers/ --ask "Which data did they train on?" --out answers.csv
    nsa eval needle --lengths 16384
    nsa serve --root papers/

\b
Exit codes:
    0    answered
    1    error
    2    wrong usage
    3    the document cannot be read: missing, empty, binary, broken, encrypted, scanned
    4    it does not fit
    5    some documents of a batch failed
    130  interrupted
"""

app = typer.Typer(
    name="nsa",
    cls=Boundary,
    help=_EXAMPLES,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


_CONFIGURED = ("ask", "find", "summarize", "batch", "chat", "serve")
"""Commands whose options can be set in a file."""


def _without_color(wanted: bool) -> None:
    if wanted:
        os.environ["NO_COLOR"] = "1"


def _explain(wanted: bool) -> None:
    if wanted:
        from nsa_cli.output import logging

        logging.explain()


def _show_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"nsa {__version__}\n")
        raise typer.Exit


@app.callback()
def main(
    ctx: typer.Context,
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
    _no_color: Annotated[
        bool,
        typer.Option(NO_COLOR_FLAG, callback=_without_color, help="No colours; as NO_COLOR=1."),
    ] = False,
    _verbose: Annotated[
        bool,
        typer.Option(
            VERBOSE_FLAG, VERBOSE_LETTER, callback=_explain, help="Say what is done, and how long."
        ),
    ] = False,
) -> None:
    """Options before a command; what is set elsewhere stands in for flags."""
    helped = bool({"--help", "-h"} & set(sys.argv))
    if ctx.invoked_subcommand in _CONFIGURED and not helped:
        from nsa_cli.config import settings

        found = settings.effective()
        said = {name: setting.value for name, setting in found.items()}
        ctx.default_map = dict.fromkeys(_CONFIGURED, said)


app.command(help=ask.HELP)(ask.ask)
app.command(help=find.HELP)(find.find)
app.command(help=summarize.HELP)(summarize.summarize)
app.command(help=chat.HELP)(chat.chat)
app.command(help=batch.HELP)(batch.batch)
app.command(help=serve.HELP)(serve.serve)
app.command(help=doctor.HELP)(doctor.doctor)
app.command("train")(train.train_command)
app.command("eval", help=evaluate.HELP)(evaluate.evaluate)
app.add_typer(cache.cache, name="cache")
app.add_typer(models.models, name="models")
app.add_typer(config.config, name="config")
app.add_typer(bench.bench, name="bench")

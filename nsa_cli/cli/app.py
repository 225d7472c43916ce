"""The command line: each command imports what it needs when it runs."""

from __future__ import annotations

import os
import sys
from functools import cached_property
from typing import Annotated, Any

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
    pretrain,
    serve,
    summarize,
    train,
)
from nsa_cli.cli.command import App
from nsa_cli.cli.errors import NO_COLOR_FLAG, VERBOSE_FLAG, VERBOSE_LETTER, Boundary

_EXAMPLES = """Ask questions about long documents, read in full with Native Sparse Attention.

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
    4    the text does not fit the model or the memory
    5    some documents of a batch failed
    130  interrupted by Ctrl-C
    141  the reader of a pipe closed it
    143  ended by SIGTERM
"""

app = App(
    name="nsa",
    cls=Boundary,
    help=_EXAMPLES,
    pretty_exceptions_enable=False,
    add_completion=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_CONFIGURED = ("ask", "find", "summarize", "batch", "chat", "serve")
"""Commands whose options have defaults in the settings."""


class _Settings(dict[str, Any]):
    """Defaults from the settings, which are read when a command looks up the first one."""

    @cached_property
    def _values(self) -> dict[str, Any]:
        from nsa_cli.config import settings

        return {name: setting.value for name, setting in settings.effective().items()}

    def get(self, name: str, default: Any = None) -> Any:
        return self._values.get(name, default)


def _without_color(wanted: bool) -> None:
    if wanted:
        os.environ["NO_COLOR"] = "1"


def _log(wanted: bool) -> None:
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
        typer.Option(
            NO_COLOR_FLAG, callback=_without_color, help="Show no colors, as NO_COLOR=1 does."
        ),
    ] = False,
    _verbose: Annotated[
        bool,
        typer.Option(
            VERBOSE_FLAG, VERBOSE_LETTER, callback=_log, help="Log each step and its time."
        ),
    ] = False,
) -> None:
    """Set the defaults of commands from the settings."""
    ctx.default_map = dict.fromkeys(_CONFIGURED, _Settings())


app.command(help=ask.HELP)(ask.ask)
app.command(help=find.HELP)(find.find)
app.command(help=summarize.HELP)(summarize.summarize)
app.command(help=chat.HELP)(chat.chat)
app.command(help=batch.HELP)(batch.batch)
app.command(help=serve.HELP)(serve.serve)
app.command(help=doctor.HELP)(doctor.doctor)
app.command("train")(train.train_command)
app.command("shards")(pretrain.shards_command)
app.command("pretrain")(pretrain.pretrain_command)
app.command("eval", help=evaluate.HELP)(evaluate.evaluate)
app.add_typer(cache.cache, name="cache")
app.add_typer(models.models, name="models")
app.add_typer(config.config, name="config")
app.add_typer(bench.bench, name="bench")

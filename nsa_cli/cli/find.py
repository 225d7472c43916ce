"""`nsa find`."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated

import typer

from nsa_cli.cli import console, options, sources
from nsa_cli.config.options import Options

if TYPE_CHECKING:
    from rich.text import Text

    from nsa_cli.results import Match, MatchInContext

_INDENT = " " * 6

HELP = """Find the passages that match a query, best first.

\b
    nsa find src "where are retries counted"
    nsa find report.pdf "termination clause" --top 3
    nsa find logs/ "out of memory" | cut -d: -f1,2
    kubectl logs web | nsa find "timeout"

In a pipe each passage is one line, PATH:LINE: QUOTE; documents with pages have :pPAGE before the
line.
"""


@options.takes(*options.DOCUMENTS, *options.MODEL, "answer_blocks", "yarn", "server")
def find(
    opts: Options,
    named: options.Sources,
    query: Annotated[
        str | None, typer.Argument(metavar="QUERY", help="Words to search for.")
    ] = None,
    top: Annotated[int, options.option("--top -n", "N", "Maximum number of passages.", min=1)] = 10,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Find the passages that match a query, best first."""
    words = named if query is None else [*named, query]
    named, query = sources.divide(words, "find", "query")
    with console.rendering(json=json, quiet=quiet, opening=named) as renderer:
        from nsa_cli.answering.find import find as search
        from nsa_cli.engine.answer_model import beside_server
        from nsa_cli.output.renderers import print_json

        if dry_run:
            console.show_survey(named, [query], opts, renderer, answers=False)
            return
        own = beside_server(opts) if opts.server else opts
        matches = search(named, query, top, own, renderer)
        renderer.close()
        if json:
            print_json({"query": query, "matches": [asdict(each.match()) for each in matches]})
        elif sys.stdout.isatty():
            _show(matches, query)
        else:
            sys.stdout.writelines(f"{_line(match)}\n" for match in matches)
            sys.stdout.flush()
        if not matches and not json:
            console.note("no passage matches", quiet=quiet)


def _line(match: Match) -> str:
    """Return a passage as `path:line: quote`, which other tools can parse."""
    from nsa_cli.documents.location import printable

    page = f"p{match.page}:" if match.page is not None else ""
    quote = " ".join(match.quote.split())
    return f"{printable(match.source)}:{page}{match.line_start}: {quote}"


def _show(matches: Sequence[MatchInContext], query: str) -> None:
    """Print passages for a person: the quote in its context, with the query's words marked."""
    from rich.console import Console

    from nsa_cli.output.layout import columns

    console = Console(highlight=False, emoji=False)
    width = columns(sys.stdout) or console.width
    for match in matches:
        for text in shown(match, query, width):
            console.print(text, soft_wrap=True)


def shown(match: MatchInContext, query: str, width: int) -> tuple[Text, Text]:
    """Return the lines of one passage: where it is, and its quote in the text around it.

    Args:
        match: The passage.
        query: Words to mark.
        width: Cells of a line.
    """
    from rich.text import Text

    from nsa_cli.documents.location import place, printable, short
    from nsa_cli.output.layout import shorten_path, wrap
    from nsa_cli.retrieval.sentences import content_words

    source = shorten_path(printable(match.source), width // 2)
    head = Text(f"{match.score:4.0%}  ", style="dim")
    head.append(place(replace(match, source=source)), style="magenta")
    before, after = (" ".join(each.split()) for each in (match.before, match.after))
    quote = short(match.quote)
    whole = f"{_INDENT}{before} {quote} {after}" if before else f"{_INDENT}{quote} {after}"
    text = Text(wrap(whole.rstrip(), width, len(_INDENT)), style="dim")
    solid = [number for number, char in enumerate(text.plain) if not char.isspace()]
    first, count = (sum(not char.isspace() for char in each) for each in (before, quote))
    if count:  # line breaks and indents are all that differs
        text.stylize("not dim", solid[first], solid[first + count - 1] + 1)
    for word in sorted(content_words(query)):
        text.highlight_regex(rf"(?i)(?<!\w){re.escape(word)}", style="not dim bold red")
    return head, text

"""`nsa find`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from nsa_cli.cli import console, options, sources
from nsa_cli.config.options import Options

if TYPE_CHECKING:
    from nsa_cli.results import Match

HELP = """Find the passages that match a query, best first.

\b
    nsa find src "where are retries counted"
    nsa find report.pdf "termination clause" --top 3
    nsa find logs/ "out of memory" | cut -d: -f1,2
    kubectl logs web | nsa find "timeout"

In a pipe each passage is one line, PATH:LINE: QUOTE; documents with pages have :pPAGE before the
line.
"""


@options.takes(*options.DOCUMENTS, *options.MODEL, "answer_blocks", "yarn")
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
    with console.rendering(json=json, quiet=quiet) as renderer:
        from nsa_cli.answering.find import find as search
        from nsa_cli.output.renderers import print_json

        if dry_run:
            console.show_survey(named, [query], opts, renderer)
            return
        matches = search(named, query, top, opts, renderer)
        renderer.close()
        if json:
            print_json({"query": query, "matches": [asdict(match) for match in matches]})
        elif sys.stdout.isatty():
            _show(matches, query)
        else:
            sys.stdout.writelines(f"{_line(match)}\n" for match in matches)
            sys.stdout.flush()


def _line(match: Match) -> str:
    """Return a passage as `path:line: quote`, which other tools can parse."""
    from nsa_cli.documents.location import printable

    page = f"p{match.page}:" if match.page is not None else ""
    quote = " ".join(match.quote.split())
    return f"{printable(match.source)}:{page}{match.line_start}: {quote}"


def _show(matches: Sequence[Match], query: str) -> None:
    """Print passages for a person, with the query's words in bold."""
    from rich.console import Console
    from rich.text import Text

    from nsa_cli.documents.location import place, short
    from nsa_cli.retrieval.sentences import content_words

    console = Console(highlight=False, emoji=False)
    for match in matches:
        head = Text(f"{match.score:4.0%}  ", style="dim")
        head.append(place(match), style="magenta")
        quote = Text(short(match.quote))
        quote.highlight_words(sorted(content_words(query)), style="bold red", case_sensitive=False)
        console.print(head, soft_wrap=True)
        console.print(Text("      ") + quote, soft_wrap=True)

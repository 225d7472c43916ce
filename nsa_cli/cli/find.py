"""`nsa find`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from nsa_cli.cli import console
from nsa_cli.cli import options as shared
from nsa_models.errors import UsageError
from nsa_models.hub.registry import DEFAULT_MODEL

if TYPE_CHECKING:
    from nsa_cli.results import Match

HELP = """Find the passages that some words are about, best first.

\b
    nsa find src "where are retries counted"
    nsa find report.pdf "termination clause" --top 3
    nsa find logs/ "out of memory" | cut -d: -f1,2

In a pipe each passage is a line, PATH:LINE: QUOTE, with :pPAGE before the line where there are
pages.
"""


def find(
    sources: shared.Sources,
    query: Annotated[str, typer.Argument(metavar="QUERY", help="What to look for.")],
    top: Annotated[int, typer.Option("--top", "-n", min=1, help="Passages at most.")] = 10,
    model: shared.Model = DEFAULT_MODEL,
    json: shared.Json = False,
    pages: shared.Pages = None,
    ocr: shared.Ocr = None,
    every_line: shared.EveryLine = False,
    yarn: shared.Yarn = False,
    password: shared.Password = None,
    device: shared.Device = "auto",
    store: shared.Store = True,
    cache_limit: shared.CacheLimit = shared.CACHE_LIMIT_GB,
    answer_blocks: shared.AnswerBlocks = None,
    quantize: shared.Quantize = None,
    adapter: shared.Adapter = None,
    no_adapter: shared.NoAdapter = False,
    memory: shared.Memory = None,
    quiet: shared.Quiet = False,
) -> None:
    """Find the passages that some words are about, best first."""
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
        answer_blocks=answer_blocks,
    )
    if not sources:
        raise UsageError(f"nothing to look for in {query}", hint="say it after the source")
    if not query.strip():
        raise UsageError("the query is empty", hint="say what to look for")
    with console.rendering(json=json, quiet=quiet) as renderer:
        from nsa_cli.answering.find import find as search
        from nsa_cli.output.renderers import print_json

        matches = search(sources, query, top, options, renderer)
        renderer.close()
        if json:
            print_json({"query": query, "matches": [asdict(match) for match in matches]})
        elif sys.stdout.isatty():
            _show(matches, query)
        else:
            sys.stdout.writelines(f"{_line(match)}\n" for match in matches)
            sys.stdout.flush()


def _line(match: Match) -> str:
    """`path:line: quote`, as other tools read it."""
    from nsa_cli.documents.location import printable

    page = f"p{match.page}:" if match.page is not None else ""
    quote = " ".join(match.quote.split())
    return f"{printable(match.source)}:{page}{match.line_start}: {quote}"


def _show(matches: Sequence[Match], query: str) -> None:
    """Passages for a person, the words of the query in bold."""
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

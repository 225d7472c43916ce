"""`nsa summarize`."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from nsa_cli.cli import console
from nsa_cli.cli import options as shared
from nsa_models.errors import UsageError
from nsa_models.hub.registry import DEFAULT_MODEL

if TYPE_CHECKING:
    from nsa_cli.answering.summarize import Summary
    from nsa_cli.results import Citation

HELP = """Sum up documents, each statement with the place it stands on.

\b
    nsa summarize report.pdf
    nsa summarize contract.docx --focus "what the tenant owes"
    nsa summarize manual.pdf --outline > outline.txt
"""

_LENGTHS = ("short", "medium", "long")


def summarize(
    sources: shared.Sources,
    length: Annotated[
        str, typer.Option("--length", "-l", help="short, medium or long: 3, 6 or 12 statements.")
    ] = "medium",
    focus: Annotated[
        str | None, typer.Option("--focus", help="What to look at in particular.")
    ] = None,
    outline: Annotated[
        bool, typer.Option("--outline", help="A statement for each of the document's sections.")
    ] = False,
    model: shared.Model = DEFAULT_MODEL,
    json: shared.Json = False,
    pages: shared.Pages = None,
    ocr: shared.Ocr = None,
    every_line: shared.EveryLine = False,
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
    """Sum up documents, each statement with the place it stands on."""
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
    )
    if length not in _LENGTHS:
        raise UsageError(f"--length is {length!r}", hint="say short, medium or long")
    if focus is not None and not focus.strip():
        raise UsageError("--focus is empty", hint="say what to look at, or leave it out")
    with console.rendering(json=json, quiet=quiet) as renderer:
        from nsa_cli.answering.summarize import summarize as begin

        summed = begin(sources, options, renderer, length=length, focus=focus, outline=outline)
        renderer.close()
        (_print_object if json else _print_statements)(summed)


def _print_statements(summed: Summary) -> None:
    from nsa_cli.documents.location import place, short

    cited: list[Citation] = []
    for statement in summed.statements:
        if statement.section is not None and statement.place is not None:
            sys.stdout.write(f"{statement.section} ({place(statement.place)})\n  ")
        cited += statement.citations
        mark = f" [{len(cited)}]" if statement.citations else ""
        sys.stdout.write(f"{statement.text}{mark}\n")
        sys.stdout.flush()
    if cited:
        sys.stdout.write("\n")
    for number, citation in enumerate(cited, 1):
        mark = "" if citation.verified else " (not verified)"
        sys.stdout.write(f"[{number}] {place(citation)}: “{short(citation.quote)}”{mark}\n")
    sys.stdout.flush()


def _print_object(summed: Summary) -> None:
    console.print_json(
        {
            "statements": [asdict(statement) for statement in summed.statements],
            "model": summed.model,
            "document_tokens": summed.document_tokens,
            "reused_tokens": summed.reused_tokens,
        }
    )

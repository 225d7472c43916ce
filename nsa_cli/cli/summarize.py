"""`nsa summarize`."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

from nsa_cli.cli import console, options, sources, values
from nsa_cli.config.options import LENGTHS, Options
from nsa_models.errors import UsageError

if TYPE_CHECKING:
    from nsa_cli.answering.summarize import Summary
    from nsa_cli.results import Citation

HELP = """Summarize documents, each statement with a citation.

\b
    nsa summarize report.pdf
    nsa summarize contract.docx --focus "what the tenant owes"
    nsa summarize manual.pdf --outline > outline.txt
    git log | nsa summarize --length short
"""


@options.takes(*options.DOCUMENTS, *options.MODEL, "answer_model", "temperature", "seed")
def summarize(
    opts: Options,
    named: options.Sources,
    length: options.Length = "medium",
    focus: options.Focus = None,
    outline: Annotated[
        bool, options.option("--outline", None, "Write a statement for each section.")
    ] = False,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Summarize documents, each statement with a citation."""
    values.check_choice("--length", length, LENGTHS)
    if focus is not None and not focus.strip():
        raise UsageError("--focus is empty", hint="name a topic, or leave --focus out")
    named = sources.with_pipe(named, "nsa summarize report.pdf")
    with console.rendering(json=json, quiet=quiet) as renderer:
        from nsa_cli.answering.summarize import summarize as begin

        if dry_run:
            console.show_survey(named, [focus or ""], opts, renderer)
            return
        summary = begin(named, opts, renderer, length=length, focus=focus, outline=outline)
        renderer.close()
        (_print_object if json else _print_statements)(summary)


def _print_statements(summary: Summary) -> None:
    from nsa_cli.documents.location import place
    from nsa_cli.output.layout import columns, wrap
    from nsa_cli.output.renderers import citation_line

    width = columns(sys.stdout)
    cited: list[Citation] = []
    for statement in summary.statements:
        if statement.section is not None and statement.place is not None:
            sys.stdout.write(wrap(f"{statement.section} ({place(statement.place)})", width) + "\n")
        cited += statement.citations
        mark = f" [{len(cited)}]" if statement.citations else ""
        indent = "  " if statement.section is not None and statement.place is not None else ""
        sys.stdout.write(wrap(f"{indent}{statement.text}{mark}", width, len(indent)) + "\n")
        sys.stdout.flush()
    if cited:
        sys.stdout.write("\n")
    for number, citation in enumerate(cited, 1):
        sys.stdout.write(citation_line(number, citation, width) + "\n")
    sys.stdout.flush()


def _print_object(summary: Summary) -> None:
    console.print_json(
        {
            "statements": [asdict(statement) for statement in summary.statements],
            "model": summary.model,
            "document_tokens": summary.document_tokens,
            "reused_tokens": summary.reused_tokens,
        }
    )

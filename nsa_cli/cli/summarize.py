"""`nsa summarize`."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

from nsa_cli.cli import console, options, sources, values
from nsa_cli.config.options import Options
from nsa_cli.config.summary_length import SummaryLength, SummaryRequest
from nsa_models.errors import UsageError

if TYPE_CHECKING:
    from nsa_cli.answering.summarize import Summary

FORMATS = ("text", "markdown")

HELP = """Summarize documents, each sentence with a citation.

\b
    nsa summarize report.pdf
    nsa summarize contract.docx --focus "what the tenant owes"
    nsa summarize manual.pdf --outline > outline.txt
    nsa summarize minutes/ --format markdown > minutes.md
    git log | nsa summarize --length short
"""


@options.takes(*options.DOCUMENTS, *options.MODEL, "answer_model", "temperature", "seed")
def summarize(
    opts: Options,
    named: options.Sources,
    length: options.Length = "medium",
    focus: options.Focus = None,
    outline: Annotated[
        bool, options.option("--outline", None, "Write statements for each section.")
    ] = False,
    format_: Annotated[
        str, options.option("--format", "|".join(FORMATS), "Format of the summary.")
    ] = "text",
    dry_run: options.DryRun = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Summarize documents, each sentence with a citation."""
    wanted = SummaryLength.parse(length)
    values.check_choice("--format", format_, FORMATS)
    if json and format_ != "text":
        raise UsageError("--json conflicts with --format", hint="use one of them")
    if focus is not None and not focus.strip():
        raise UsageError("--focus is empty", hint="name a topic, or leave --focus out")
    named = sources.with_pipe(named, "nsa summarize report.pdf")
    with console.rendering(json=json, quiet=quiet, opening=named) as renderer:
        from nsa_cli.answering.summarize import summarize as summarized

        if dry_run:
            console.show_survey(named, [focus or ""], opts, renderer, answers=False)
            return
        request = SummaryRequest(length=wanted, focus=focus, outline=outline)
        summary = summarized(named, opts, renderer, request)
        renderer.close()
        if json:
            _print_object(summary)
            return
        from nsa_cli.output.layout import columns
        from nsa_cli.output.summary_page import SummaryPage

        page = SummaryPage(columns(sys.stdout), markdown=format_ == "markdown", outline=outline)
        sys.stdout.write(page.whole(summary.name, summary.overview, summary.documents))
        sys.stdout.flush()


def _print_object(summary: Summary) -> None:
    console.print_json(
        {
            "overview": [asdict(sentence) for sentence in summary.overview],
            "statements": [asdict(statement) for statement in summary.statements],
            "documents": [
                {
                    "source": document.source,
                    "overview": [asdict(sentence) for sentence in document.overview],
                    "document_tokens": document.document_tokens,
                    "reused_tokens": document.reused_tokens,
                }
                for document in summary.documents
            ],
            "model": summary.model,
            "document_tokens": summary.document_tokens,
            "reused_tokens": summary.reused_tokens,
        }
    )

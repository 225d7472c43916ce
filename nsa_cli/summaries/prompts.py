"""The requests that the model gets for a summary. No torch here."""

from __future__ import annotations

from nsa_cli.config.summary_length import SummaryLength, SummaryRequest

ABOUT = "What is this document about, and what are its main points?"
"""The question whose attention ranks the passages of a document."""


def statement_request(focus: str | None) -> str:
    """Return the request for sentences about a part."""
    about = f" about {focus.strip()}" if focus else ""
    return f"Summarize the text above{about} in three sentences. Keep the names, figures and dates."


def overview_request(length: SummaryLength, focus: str | None) -> str:
    """Return the request that the model gets with the statements."""
    about = f" about {focus.strip()}" if focus else ""
    count = length.overview_sentences
    form = "one sentence" if count == 1 else f"a paragraph of {count} sentences"
    return f"Summarize the notes above{about} in {form}. Keep the names, figures and dates."


def prompts_of(request: SummaryRequest) -> list[str]:
    """Return all that the model is asked for a summary."""
    return [
        *(request.focus or ABOUT, statement_request(request.focus)),
        overview_request(request.length, request.focus),
    ]

"""`nsa summarize` from the sources to the statements."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nsa_cli.asking import find_model, open_sources
from nsa_cli.documents import read_sources, title
from nsa_cli.events import AnswerText, Event, Note
from nsa_cli.options import Options

if TYPE_CHECKING:
    from nsa_cli.summary import Statement


@dataclass(frozen=True, slots=True, kw_only=True)
class Summed:
    """A summary that is being made.

    Attributes:
        statements: Come one by one.
        model: Its name or path.
        document_tokens: Tokens of the text.
        reused_tokens: Tokens that did not have to be read.
    """

    statements: Iterator[Statement]
    model: str
    document_tokens: int
    reused_tokens: int


def summarize(
    arguments: Sequence[str],
    options: Options,
    emit: Callable[[Event], None],
    *,
    length: str,
    focus: str | None,
    outline: bool,
) -> Summed:
    """Read the sources and begin to sum them up.

    Args:
        arguments: Paths, folders, globs, or `-` for standard input.
        options: How to read.
        emit: Receives everything worth showing; the statements are not among it.
        length: `short`, `medium` or `long`.
        focus: What to look at in particular.
        outline: Whether to go by the document's own sections.

    Raises:
        NsaError: Whatever goes wrong that the user can do something about.
    """
    sources = read_sources(arguments, on_note=lambda text: emit(Note(text=text)))
    where = find_model(options, emit)
    document = open_sources(sources, title(arguments, len(sources)), options, emit)
    from nsa_cli import summary
    from nsa_cli.outline import sections
    from nsa_cli.session import Session

    if outline and not sections(document):
        emit(Note(text=f"{document.name} has no headings that can be told; summed up by its parts"))
    session = Session(where, options, without_answers(emit))
    asked = session.prompter.room(summary.request(focus))
    text = session.read(document, summary.room(asked))
    return Summed(
        statements=summary.summarize(text, length=length, focus=focus, outline=outline),
        model=where.name,
        document_tokens=len(text.text.ids),
        reused_tokens=text.reused_tokens,
    )


def without_answers(emit: Callable[[Event], None]) -> Callable[[Event], None]:
    """Show everything but the text of answers as it comes."""

    def shown(event: Event) -> None:
        if not isinstance(event, AnswerText):
            emit(event)

    return shown

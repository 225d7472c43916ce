"""`nsa summarize` from the sources to the statements."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nsa_cli.config.options import Options
from nsa_cli.documents import read_sources, title
from nsa_cli.documents.sources import Source
from nsa_cli.engine.engine import Desk
from nsa_cli.events import Event, Note, without_answers

if TYPE_CHECKING:
    from nsa_cli.answering.statements import Statement
    from nsa_cli.engine.open_document import OpenText


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
    desk = Desk(options, without_answers(emit))
    text = open_for_summary(desk, sources, title(arguments, len(sources)), focus)
    from nsa_cli.answering import statements
    from nsa_cli.documents.outline import sections

    if outline and not sections(text.document):
        emit(Note(text=f"{text.document.name} has no headings that can be told; its parts serve"))
    return Summed(
        statements=statements.summarize(text, length=length, focus=focus, outline=outline),
        model=desk.where.name,
        document_tokens=text.tokens,
        reused_tokens=text.reused_tokens,
    )


def open_for_summary(
    desk: Desk, sources: Sequence[Source], name: str, focus: str | None
) -> OpenText:
    """Read sources with the room that statements need."""
    from nsa_cli.answering import statements

    return desk.open(
        sources, name, statements.room(desk.session.prompter.room(statements.request(focus)))
    )

"""`nsa summarize`, from the sources to the statements."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nsa_cli.answering.read import read
from nsa_cli.config.options import Options
from nsa_cli.documents import title
from nsa_cli.documents.outline import sections
from nsa_cli.documents.sources import Source
from nsa_cli.engine.engine import Engine
from nsa_cli.events import Emit, Note, without_answers

if TYPE_CHECKING:
    from nsa_cli.answering.statements import Statement
    from nsa_cli.engine.open_document import OpenDocument


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """A summary in the making.

    Attributes:
        statements: Its statements, one by one.
        model: Name or path of the model.
        document_tokens: Tokens of the document.
        reused_tokens: Tokens whose keys and values were stored.
    """

    statements: Iterator[Statement]
    model: str
    document_tokens: int
    reused_tokens: int


def summarize(
    arguments: Sequence[str],
    options: Options,
    emit: Emit,
    *,
    length: str,
    focus: str | None,
    outline: bool,
) -> Summary:
    """Prefill the sources and begin to summarize them.

    Args:
        arguments: Paths, folders, globs, URLs, or `-` for standard input.
        options: How to read.
        emit: Receives events; the statements are not among them.
        length: `short`, `medium` or `long`.
        focus: A topic to summarize, or None.
        outline: Whether the parts are the document's own sections.

    Raises:
        NsaError: If the sources cannot be read, or do not fit the model or the memory.
    """
    sources = read(arguments, options, emit)
    engine = Engine(options, without_answers(emit))
    opened = open_for_summary(engine, sources, title(arguments, len(sources)), focus)
    from nsa_cli.answering import statements

    if outline and not sections(opened.document):
        name = opened.document.name
        emit(Note(text=f"no headings found in {name}; summarizing equal parts instead"))
    return Summary(
        statements=statements.summarize(opened, length=length, focus=focus, outline=outline),
        model=engine.answers_with.name,
        document_tokens=opened.tokens,
        reused_tokens=opened.reused_tokens,
    )


def open_for_summary(
    engine: Engine, sources: Sequence[Source], name: str, focus: str | None
) -> OpenDocument:
    """Prefill sources with the room that statements need."""
    prompts = engine.prompts
    from nsa_cli.answering.statements import STATEMENT_TOKENS, request
    from nsa_cli.context.tokens import answer_room

    room = answer_room([prompts.question(request(focus))], STATEMENT_TOKENS)
    return engine.open(sources, name, room)

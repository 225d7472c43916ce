"""`nsa summarize`, from the sources to the summary of each and of all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nsa_cli.answering.read import read
from nsa_cli.config.options import Options
from nsa_cli.config.summary_length import SummaryRequest
from nsa_cli.documents import digest, title
from nsa_cli.documents.outline import sections
from nsa_cli.documents.sources import Source
from nsa_cli.engine.engine import Engine
from nsa_cli.events import Emit, Note, without_answers
from nsa_cli.summaries.once import summarize_all_once, summarize_once
from nsa_models.errors import NsaError, UsageError

if TYPE_CHECKING:
    from nsa_cli.results import DocumentSummary, Statement


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The summary of some documents.

    Attributes:
        name: Name of all documents together.
        overview: The sentences of the paragraph about all of them.
        documents: The summary of each.
        model: Name or path of the model.
    """

    name: str
    overview: tuple[Statement, ...]
    documents: tuple[DocumentSummary, ...]
    model: str

    @property
    def statements(self) -> tuple[Statement, ...]:
        """The statements about all documents, in order."""
        return tuple(each for document in self.documents for each in document.statements)

    @property
    def document_tokens(self) -> int:
        """Tokens of all documents."""
        return sum(document.document_tokens for document in self.documents)

    @property
    def reused_tokens(self) -> int:
        """Tokens of all documents whose keys and values were stored."""
        return sum(document.reused_tokens for document in self.documents)


def summarize(
    arguments: Sequence[str], options: Options, emit: Emit, request: SummaryRequest
) -> Summary:
    """Summarize sources: each file separately, and all of them.

    Args:
        arguments: Paths, folders, globs, URLs, or `-` for standard input.
        options: How to read.
        emit: Receives progress and notes.
        request: What is wanted.

    Raises:
        NsaError: If the sources cannot be read, or do not fit the model or the memory. A file of a
            folder that cannot be read is skipped with a note, unless no file remains.
    """
    sources = read(arguments, options, emit)
    name = title(arguments, len(sources))
    engine = Engine(options, without_answers(emit))
    read_ones: list[Source] = []
    made: list[DocumentSummary] = []
    last: NsaError | None = None
    for source in sources:
        try:
            made.append(_one(engine, source, request))
            read_ones.append(source)
        except NsaError as error:
            if source.named or len(sources) == 1:
                raise
            last = error
            emit(Note(text=f"{error.message}; left out"))
    if not made:
        raise last or UsageError(f"{name} holds nothing to summarize", hint="name another file")
    if any(each.is_kept for each in made):
        emit(Note(text=_known_before(made)))
    overview = made[0].overview
    if len(made) > 1:
        overview = summarize_all_once(engine, name, read_ones, made, request).overview
    if not any(document.statements for document in made):
        about = f" about “{request.focus}”" if request.focus else ""
        emit(Note(text=f"{name} has no sentence{about} that a summary could cite"))
    return Summary(
        name=name, overview=overview, documents=tuple(made), model=engine.answers_with.name
    )


def _one(engine: Engine, source: Source, request: SummaryRequest) -> DocumentSummary:
    """Summarize one file."""
    document = engine.parse([source], source.name, digest([source]))  # errors need no torch
    if request.outline and not sections(document):
        engine.emit(
            Note(text=f"no headings found in {document.name}; its topics serve as sections")
        )
    made = summarize_once(engine, source, request)
    for warning in made.warnings if made.is_kept else ():
        if warning not in document.warnings:  # those were emitted with the text
            engine.emit(Note(text=warning))
    return made


def _known_before(made: Sequence[DocumentSummary]) -> str:
    """Say how many of some documents were summarized before."""
    known = sum(each.is_kept for each in made)
    which = "" if known == len(made) else f"{known} of {len(made)} documents "
    return f"{which}summarized before; --no-store summarizes again"

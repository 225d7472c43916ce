"""`nsa summarize`, from the sources to the summary of each and of all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nsa_cli.answering.read import read
from nsa_cli.config.options import Options
from nsa_cli.config.summary_length import SummaryLength
from nsa_cli.documents import digest, title
from nsa_cli.documents.outline import sections
from nsa_cli.documents.sources import Source
from nsa_cli.engine.engine import Engine
from nsa_cli.events import Emit, Note, without_answers
from nsa_models.errors import NsaError, UsageError

if TYPE_CHECKING:
    from nsa_cli.results import DocumentSummary, Statement


@dataclass(frozen=True, slots=True, kw_only=True)
class SummaryRequest:
    """What is wanted of a summary.

    Attributes:
        length: How long it is.
        focus: A topic to summarize, or None.
        outline: Whether each section of a document has statements.
    """

    length: SummaryLength
    focus: str | None = None
    outline: bool = False


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
    made: list[DocumentSummary] = []
    last: NsaError | None = None
    for source in sources:
        try:
            made.append(_one(engine, source, request))
        except NsaError as error:
            if source.named or len(sources) == 1:
                raise
            last = error
            emit(Note(text=f"{error.message}; left out"))
    if not made:
        raise last or UsageError(f"{name} holds nothing to summarize", hint="name another file")
    overview = made[0].overview
    if len(made) > 1:
        overview = _over_all(engine, sources, made, request)
    if not any(document.statements for document in made):
        about = f" about “{request.focus}”" if request.focus else ""
        emit(Note(text=f"{name} has no sentence{about} that a summary could cite"))
    return Summary(
        name=name, overview=overview, documents=tuple(made), model=engine.answers_with.name
    )


def _one(engine: Engine, source: Source, request: SummaryRequest) -> DocumentSummary:
    """Summarize one file."""
    content = digest([source])
    engine.parse([source], source.name, content)  # errors need no torch
    from nsa_cli.summaries.make import open_for_summary, summarize_document

    opened = open_for_summary(engine, [source], source.name, request.focus, content)
    if request.outline and not sections(opened.document):
        name = opened.document.name
        engine.emit(Note(text=f"no headings found in {name}; its topics serve as sections"))
    return summarize_document(opened, request.length, focus=request.focus, outline=request.outline)


def _over_all(
    engine: Engine,
    sources: Sequence[Source],
    made: Sequence[DocumentSummary],
    request: SummaryRequest,
) -> tuple[Statement, ...]:
    """Return the paragraph about all files, made of the paragraph of each."""
    from nsa_cli.summaries.make import open_for_summary
    from nsa_cli.summaries.overview import overview

    found = [sentence for document in made for sentence in document.overview]
    opened = engine.opened
    if opened is None:  # the last file could not be read
        [source, *_] = [each for each in sources if each.name == made[-1].source]
        opened = open_for_summary(engine, [source], source.name, request.focus)
    return overview(opened, found, request.length, request.focus)

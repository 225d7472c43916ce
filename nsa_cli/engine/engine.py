"""One model at work on one set of sources after the other, as the commands share it."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from nsa_cli.caches.answers import Answers
from nsa_cli.caches.documents import Parsed
from nsa_cli.config.options import Options
from nsa_cli.documents import Document, PageRanges, digest, parse_sources
from nsa_cli.documents.sources import Source
from nsa_cli.events import AnswerText, Event, Finished, Note, Progress
from nsa_cli.output.logging import log
from nsa_models.hub.resolve import resolve_model

if TYPE_CHECKING:
    from nsa_cli.engine.open_document import OpenText
    from nsa_cli.engine.session import Session


class Desk:
    """A model, fetched at once and loaded when something must be read.

    Args:
        options: How to read and answer.
        emit: Receives everything worth showing, in order; results are not among it.

    Raises:
        ModelError: If the model cannot be had.
    """

    def __init__(self, options: Options, emit: Callable[[Event], None]) -> None:
        self.options = options
        self.emit = emit
        self.where = resolve_model(
            options.model,
            on_progress=lambda task, done, total: emit(
                Progress(task=task, done=done, total=total, unit="bytes")
            ),
            on_note=lambda text: emit(Note(text=text)),
            adapter=options.adapter,
        )
        log.info("%s lies in %s", self.where.name, self.where.folder)
        self._session: Session | None = None
        self._open: tuple[bytes, OpenText] | None = None

    @property
    def session(self) -> Session:
        """The model at work."""
        if self._session is None:
            # Libraries make a million objects that stay: looking through these is time lost.
            gc.disable()
            try:
                from nsa_cli.engine.session import Session
            finally:
                gc.enable()
            self._session = Session(self.where, self.options, self.emit)
        return self._session

    @property
    def opened(self) -> OpenText | None:
        """The text that is open."""
        return None if self._open is None else self._open[1]

    def answers(
        self, sources: Sequence[Source], name: str, questions: Sequence[str], began: float
    ) -> Iterator[Finished]:
        """Answer questions about sources, those asked before at once.

        Args:
            sources: What to ask about.
            name: Of all of them together.
            questions: What to ask.
            began: When the command began, on the monotonic clock, in seconds.

        Yields:
            An answer for each question, in order.

        Raises:
            NsaError: Whatever goes wrong that the user can do something about.
        """
        content = digest(sources)
        for question in questions:
            answers = Answers(content, name, question, self.where, self.options)
            remembered = answers.recall(time.monotonic() - began)
            if remembered is not None:
                self.emit(Note(text="answered before; --no-store asks anew"))
                self.emit(AnswerText(text=remembered.answer))
                yield remembered
                continue
            finished = self.open(sources, name, self.room(questions)).answer(question)
            answers.keep(finished)
            yield finished

    def room(self, questions: Sequence[str]) -> int:
        """Tokens that the longest of some questions and its answer need behind a text."""
        longest = max(self.session.prompter.room(question) for question in questions)
        return longest + self.options.max_tokens

    def open(self, sources: Sequence[Source], name: str, room: int) -> OpenText:
        """Read sources; what was opened last stays open.

        Args:
            sources: What to read.
            name: Of all of them together.
            room: Tokens that the longest question and its answer need behind the text.

        Raises:
            NsaError: If they cannot be read, or do not fit the model.
        """
        content = digest(sources)
        if self._open is not None and self._open[0] == content and self._open[1].room >= room:
            return self._open[1]
        self._open = None  # its memory goes before the next one's comes
        document = self.parse(sources, name, content)
        text = self.session.read(document, room)
        self._open = (content, text)
        return text

    def parse(self, sources: Sequence[Source], name: str, content: bytes) -> Document:
        """Sources as one document; what is odd about it is told.

        Args:
            sources: What to parse.
            name: Of all of them together.
            content: Their `digest`.

        Raises:
            NsaError: If what the user named cannot be read, or nothing is left.
        """
        began = time.monotonic()
        parsed = Parsed(content, name, self.options)
        found = parsed.recall()
        if found is None:
            document, notes = self._parse(sources, name)
            parsed.keep(document, notes, time.monotonic() - began)
        else:
            document, notes = found
            for text in notes:
                self.emit(Note(text=text))
        log.info(
            "%s: %s characters in %s pieces, opened in %.1f s",
            name,
            f"{len(document.text):,}",
            f"{len(document.pieces):,}",
            time.monotonic() - began,
        )
        single = len({piece.source for piece in document.pieces}) == 1
        for warning in document.warnings:
            where = f"{document.pieces[0].source}: " if single else ""
            self.emit(Note(text=where + warning))
        return document

    def _parse(self, sources: Sequence[Source], name: str) -> tuple[Document, list[str]]:
        """Sources as one document, and what was noted of them, which is told as well."""
        pages, notes = self.options.pages, list[str]()

        def note(text: str) -> None:
            notes.append(text)
            self.emit(Note(text=text))

        document = parse_sources(
            sources,
            name,
            password=self.options.password,
            pages=PageRanges.parse(pages) if pages is not None else None,
            ocr=self.options.ocr,
            on_page=lambda source, done, total: self.emit(
                Progress(task=f"Opening {source}", done=done, total=total, unit="pages")
            ),
            on_note=note,
        )
        return document, notes

"""The model's work, done by a running `nsa serve` if there is one, or else by this process."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from typing import TypeVar

from nsa_cli.engine.engine import Engine
from nsa_cli.engine.parse import Parsed
from nsa_cli.engine.work import Asking, Work, find_steps
from nsa_cli.events import AnswerFinished, AnswerText, Event, Note
from nsa_cli.output.logging import log
from nsa_cli.results import MatchInContext
from nsa_cli.warm.address import socket_path
from nsa_cli.warm.client import NoServerError, Session, connect
from nsa_models.errors import NsaError

Result = TypeVar("Result")
Steps = Generator[Event, None, Result]


@contextmanager
def work() -> Iterator[Work]:
    """Make what answers questions, until the block ends."""
    with ExitStack() as ended:
        yield lambda *about: ended.enter_context(closing(Elsewhere(*about)))


class Elsewhere:
    """Answers questions about a document by a running server, or by this process.

    Args:
        engine: The engine of this process.
        parsed: The document.
        questions: All questions.
    """

    def __init__(self, engine: Engine, parsed: Parsed, questions: Sequence[str]) -> None:
        self._here = Asking(engine, parsed, questions)
        self._server = _Server(engine, parsed, questions)

    def steps(self, number: int) -> Steps[AnswerFinished]:
        """Answer a question; as for `Asks`."""
        return self._server.first(
            lambda session: session.answer(number), lambda: self._here.steps(number)
        )

    def close(self) -> None:
        """Leave the server, which cancels what it still does."""
        self._server.close()


def find_elsewhere(
    engine: Engine, parsed: Parsed, query: str, top: int
) -> Steps[list[MatchInContext]]:
    """Find passages by a running server, or by this process; as for `find_steps`."""
    with closing(_Server(engine, parsed)) as server:
        return (
            yield from server.first(
                lambda session: session.find(query, top),
                lambda: find_steps(engine, parsed, query, top),
            )
        )


class _Server:
    """A server that runs with the same model and settings, until it fails.

    Args:
        engine: The engine of this process, with the model and the settings.
        parsed: The document to send.
        questions: All questions.
    """

    def __init__(self, engine: Engine, parsed: Parsed, questions: Sequence[str] = ()) -> None:
        self._session: Session | None = None
        if not engine.options.server:
            return
        path = socket_path(engine.folder, engine.answers_with, engine.options)
        self._session = connect(path)
        if self._session is None:
            return
        try:
            self._session.open(parsed.document, parsed.contents, engine.options, questions)
        except NoServerError as error:
            self._leave(error)

    def _leave(self, error: NoServerError) -> None:
        log.info("working without `nsa serve`: %s", error)
        self.close()

    def close(self) -> None:
        """End the session."""
        if self._session is not None:
            self._session.close()
        self._session = None

    def first(
        self, there: Callable[[Session], Steps[Result]], here: Callable[[], Steps[Result]]
    ) -> Steps[Result]:
        """Do some work by the server, or by this process when the server cannot.

        Args:
            there: The work of the server.
            here: The work of this process, which does not repeat the notes of the server.

        Raises:
            NsaError: If the work fails, or the server ends in the middle of an answer.
        """
        told, begun = set[str](), False

        def watch(event: Event) -> bool:
            nonlocal begun
            begun = begun or isinstance(event, AnswerText)
            if isinstance(event, Note):
                told.add(event.text)
            return True

        if self._session is not None:
            try:
                return (yield from _chosen(there(self._session), watch))
            except NoServerError as error:
                self._leave(error)
                if begun:
                    raise NsaError(
                        "`nsa serve` ended in the middle of the answer",
                        hint="ask again",
                        code="server_ended",
                    ) from error
        return (yield from _chosen(here(), lambda e: not (isinstance(e, Note) and e.text in told)))


def _chosen(steps: Steps[Result], choose: Callable[[Event], bool]) -> Steps[Result]:
    """Pass on the chosen events of some steps, and their result."""
    while True:
        try:
            event = next(steps)
        except StopIteration as end:
            result: Result = end.value
            return result
        if choose(event):
            yield event

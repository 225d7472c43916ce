"""The model's work, done by a running `nsa serve`, or by this process without one."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from typing import TypeVar

from nsa_cli.engine.parse import Parsed
from nsa_cli.engine.work import Asking, Opens, Work, find_steps
from nsa_cli.events import AnswerFinished, AnswerText, Emit, Event, Note
from nsa_cli.output.logging import log
from nsa_cli.results import MatchInContext
from nsa_cli.warm.address import is_available, socket_path
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

    def __init__(self, engine: Opens, parsed: Parsed, questions: Sequence[str]) -> None:
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
    engine: Opens, parsed: Parsed, query: str, top: int
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

    def __init__(self, engine: Opens, parsed: Parsed, questions: Sequence[str] = ()) -> None:
        self._engine = engine
        self._session: Session | None = None
        if not engine.options.server or not engine.is_ready or not is_available():
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
        begun = False
        if self._session is not None:
            steps, told = there(self._session), set[str]()
            try:
                while True:
                    event = next(steps)
                    begun = begun or isinstance(event, AnswerText)
                    if isinstance(event, Note):
                        told.add(event.text)
                    yield event
            except StopIteration as end:
                result: Result = end.value
                return result
            except NoServerError as error:
                self._leave(error)
                if begun:
                    raise NsaError(
                        "`nsa serve` ended in the middle of the answer",
                        hint="ask again",
                        code="server_ended",
                    ) from error
                self._engine.emit = _without(told, self._engine.emit)
        return (yield from here())


def _without(told: Collection[str], emit: Emit) -> Emit:
    """Return a receiver that does not repeat some notes."""

    def shown(event: Event) -> None:
        if not (isinstance(event, Note) and event.text in told):
            emit(event)

    return shown

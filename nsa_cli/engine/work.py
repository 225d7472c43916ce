"""What needs the model: answers to questions about a parsed document, and its passages."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING, Protocol

from nsa_cli.engine.parse import Parsed
from nsa_cli.events import AnswerFinished, Emit, Event, Progress
from nsa_cli.results import MatchInContext

if TYPE_CHECKING:
    from nsa_cli.config.options import Options
    from nsa_cli.context.prompt import PromptBuilder
    from nsa_cli.context.tokens import TokenizedQuestion
    from nsa_cli.engine.open_document import OpenDocument
    from nsa_models.model_folder import ModelFolder


class Opens(Protocol):
    """Opens documents; `Engine` does."""

    options: Options
    emit: Emit

    @property
    def folder(self) -> ModelFolder:
        """The model that reads."""

    @property
    def is_ready(self) -> bool:
        """Whether nothing has to be fetched to know the models."""

    @property
    def answers_with(self) -> ModelFolder:
        """The model that answers; its fingerprint covers the second model, if any."""

    @property
    def prompts(self) -> PromptBuilder:
        """Tokenizes documents and questions."""

    def open_parsed(self, parsed: Parsed, room: int) -> Generator[Progress, None, OpenDocument]:
        """Prefill a parsed document; see `Engine.open_parsed`."""


class Asks(Protocol):
    """Answers some questions about a document."""

    def steps(self, number: int) -> Generator[Event, None, AnswerFinished]:
        """Answer a question.

        Args:
            number: Its number among the questions, counted from 0.

        Yields:
            What happens.

        Returns:
            The answer.

        Raises:
            NsaError: If the document does not fit the model or the memory.
        """


Work = Callable[[Opens, Parsed, Sequence[str]], Asks]
"""Makes what answers questions about a document for an engine."""


class Asking:
    """Answers questions about a document by the engine's model.

    Args:
        engine: Reads the document, and answers.
        parsed: The document.
        questions: All questions; the document gets room for the longest.
    """

    def __init__(self, engine: Opens, parsed: Parsed, questions: Sequence[str]) -> None:
        self._engine = engine
        self._parsed = parsed
        self._questions = questions
        self._asked: list[TokenizedQuestion] = []

    def steps(self, number: int) -> Generator[Event, None, AnswerFinished]:
        """Answer a question; as for `Asks`."""
        engine = self._engine
        self._asked = self._asked or [engine.prompts.question(each) for each in self._questions]
        from nsa_cli.context.tokens import answer_room
        from nsa_cli.engine.answer import answer_steps
        from nsa_cli.engine.arithmetic import expression_room

        asked = self._asked
        room = max(answer_room(asked, engine.options.max_tokens), expression_room(asked))
        opened = yield from engine.open_parsed(self._parsed, room)
        return (yield from answer_steps(opened, asked[number], opened.options))[0]


def find_steps(
    engine: Opens, parsed: Parsed, query: str, top: int
) -> Generator[Event, None, list[MatchInContext]]:
    """Find the passages of a document that the model attends to most, best first.

    Args:
        engine: Reads the document, and searches it.
        parsed: The document.
        query: Words or a question.
        top: Maximum passages.

    Yields:
        What happens.

    Raises:
        NsaError: If the document does not fit the model or the memory.
    """
    asked = engine.prompts.question(query)
    opened = yield from engine.open_parsed(parsed, len(asked))
    return opened.find(asked, top)

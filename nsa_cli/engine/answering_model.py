"""A second model that answers from what the first has found, by its own tokenizer.

It is loaded when a question needs an answer, and reads the passages alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from nsa_cli.context.prompt import PromptBuilder
from nsa_cli.context.tokens import TokenizedQuestion
from nsa_cli.documents import Document
from nsa_cli.engine.answer_context import (
    READING_NOTES,
    AnswerContext,
    passage_context,
    text_context,
)
from nsa_cli.events import Emit
from nsa_cli.results import Passage
from nsa_models.errors import DoesNotFitError
from nsa_models.modeling.model import NSALanguageModel
from nsa_models.tokenization.tokenizer import Tokenizer

_MORE_ROOM = 1024
"""Tokens of room beside the first model's: another tokenizer may need more for a question."""


class LoadsModel(Protocol):
    """Loads a model; `Engine` does."""

    @property
    def model_name(self) -> str:
        """Name of the model."""

    @property
    def tokenizer(self) -> Tokenizer:
        """Its tokenizer."""

    @property
    def prompts(self) -> PromptBuilder:
        """Tokenizes documents and questions for it."""

    def load_for(self, text_tokens: int, more_tokens: int) -> NSALanguageModel:
        """Load it with a context for a text and what follows.

        Raises:
            DoesNotFitError: If its context is too short.
        """


class AnsweringModel:
    """The model that answers.

    Args:
        loader: Loads it.
    """

    def __init__(self, loader: LoadsModel) -> None:
        self._loader = loader
        self._model: NSALanguageModel | None = None

    @property
    def name(self) -> str:
        """Its name."""
        return self._loader.model_name

    @property
    def tokenizer(self) -> Tokenizer:
        """Its tokenizer."""
        return self._loader.tokenizer

    @property
    def prompts(self) -> PromptBuilder:
        """Tokenizes passages and questions for it."""
        return self._loader.prompts

    @property
    def model(self) -> NSALanguageModel:
        """The model, loaded for the last context."""
        if self._model is None:
            self._model = self._loader.load_for(0, _MORE_ROOM)
        return self._model

    def excerpts(
        self,
        document: Document,
        passages: Sequence[Passage],
        room: int,
        emit: Emit,
        ahead: TokenizedQuestion | None = None,
    ) -> AnswerContext:
        """Prefill some passages as one text.

        Args:
            document: The document.
            passages: In the order of the document.
            room: Tokens of room that the first model has after its text.
            emit: Receives progress in tokens.
            ahead: The question that is asked next, of the first model, if known.

        Raises:
            DoesNotFitError: If its context is too short for them.
        """
        tokens, room = len(self.prompts.excerpts(document, passages).ids), room + _MORE_ROOM
        self._model = self._loader.load_for(tokens, room)
        following = None if ahead is None else self._own(ahead).ids[:-1]
        return passage_context(
            *(self._model, self.prompts, document, passages, room, emit), ahead=following
        )

    def notes(self, text: str, room: int, emit: Emit) -> AnswerContext:
        """Prefill a text that a request follows; arguments and errors as for `excerpts`."""
        tokenized, room = self.prompts.notes(text), room + _MORE_ROOM
        self._model = self._loader.load_for(len(tokenized.ids), room)
        return text_context(self._model, tokenized, room, emit, READING_NOTES)

    def question(
        self, question: TokenizedQuestion, context: AnswerContext, max_tokens: int
    ) -> TokenizedQuestion:
        """Tokenize a question or a request of the first model by this one's tokenizer.

        Raises:
            DoesNotFitError: If the context has no room for it.
        """
        asked = self._own(question)
        cache = context.cache
        if len(asked) + max_tokens > cache.capacity - cache.length:
            raise DoesNotFitError(
                f"the question has {len(asked):,} tokens for {self.name}, which is too long",
                hint="use fewer words",
            )
        return asked

    def _own(self, question: TokenizedQuestion) -> TokenizedQuestion:
        """A question of the first model by this one's tokenizer."""
        if not question.instruction:
            return self.prompts.request(question.text)
        return self.prompts.question(question.text, question.earlier, question.instructions)

"""Documents and questions as token ids, each token tied to its characters."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from nsa_models.tokenization.ids import TokenIds

Ids = TokenIds
Spans = tuple[tuple[int, int], tuple[int, int]]
Characters = np.ndarray[tuple[int], np.dtype[np.int64]]

ANSWER_ROOM = 4096
"""Tokens that a stored KV cache has room for after the text: questions and answers."""

_ROOM_STEP = 256
"""Room for questions is made in these steps, so that the next question mostly finds enough."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenizedText:
    """Token ids of a text, and the character of the document at which each token begins.

    Attributes:
        ids: The beginning of the chat template, an introduction, the document or parts of it.
        characters: As long as `ids`; -1 for a token that is not the document's.
        document_tokens: Tokens that are the document's.
        end: The character after the last token's; -1 if unknown.
        starts: First token of each context window.
    """

    ids: Ids
    characters: Characters
    document_tokens: int
    end: int = -1
    starts: tuple[int, ...] = (0,)

    def span(self, start: int, stop: int) -> tuple[int, int] | None:
        """Return the characters of the document in tokens `start` to `stop`, or None."""
        own = self.characters[start : stop + 1]
        if stop >= len(self.ids):
            own = np.append(own, self.end)
        own = own[own >= 0]
        # Context windows overlap, so the first token need not have the first character.
        return (int(own.min()), int(own.max())) if len(own) > 1 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenizedQuestion:
    """Token ids that follow the text: instruction, question, end of the chat template.

    Attributes:
        text: The question.
        ids: All tokens.
        instruction: Tokens of the instruction, the same for every question; 0 for a request.
        asked: Tokens of the question itself.
        bare: Whether neither earlier turns nor instructions of a client are in `ids`.
        earlier: Earlier questions with their answers.
        instructions: Instructions of the client.
    """

    text: str
    ids: Ids
    instruction: int
    asked: int
    bare: bool = True
    earlier: tuple[tuple[str, str], ...] = ()
    instructions: str = ""

    def __len__(self) -> int:
        return len(self.ids)


def answer_room(questions: Iterable[TokenizedQuestion], max_tokens: int) -> int:
    """Tokens that the longest of some questions and its answer need after the text."""
    return max(len(question) for question in questions) + max_tokens


def generous_room(room: int, tokens: int, context: int) -> int:
    """Widen the room after a text for later questions, if the context allows it.

    Args:
        room: Tokens of room that are needed.
        tokens: Tokens of the text.
        context: Tokens of the model's context.
    """
    wide = -(-room // _ROOM_STEP) * _ROOM_STEP
    return max(room, min(wide, ANSWER_ROOM)) if tokens + wide <= context else room


def joined(texts: Sequence[TokenizedText], size: int) -> TokenizedText:
    """Join the texts of context windows into one; each begins with a new block.

    Args:
        texts: From `PromptBuilder.windows`.
        size: Tokens of a block.
    """
    if len(texts) == 1:
        return texts[0]
    ids: list[Ids] = []
    characters: list[Characters] = []
    starts, length = [], 0
    for text in texts:
        starts.append(length)
        padding = -len(text.ids) % size
        ids += [text.ids, np.zeros(padding, np.int32)]
        characters += [text.characters, np.full(padding, -1, np.int64)]
        length += len(text.ids) + padding
    return TokenizedText(
        ids=np.concatenate(ids),
        characters=np.concatenate(characters),
        document_tokens=sum(text.document_tokens for text in texts),
        end=texts[-1].end,
        starts=tuple(starts),
    )

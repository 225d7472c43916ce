"""Documents and questions as token ids, each token tied to its characters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Ids = np.ndarray[tuple[int], np.dtype[np.int32]]


Spans = tuple[tuple[int, int], tuple[int, int]]


Characters = np.ndarray[tuple[int], np.dtype[np.int64]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """Ids that are read once, and the character of the document that each begins at.

    Attributes:
        ids: The template's beginning, an introduction, and the document or parts of it.
        characters: As long as `ids`; -1 for a token that is not the document's.
        document_tokens: Tokens that are.
        end: The character behind the last token's; -1 where it is not known.
        starts: First token of each volume that it was read in.
    """

    ids: Ids
    characters: Characters
    document_tokens: int
    end: int = -1
    starts: tuple[int, ...] = (0,)

    def span(self, start: int, stop: int) -> tuple[int, int] | None:
        """Characters of the document in the tokens from `start` to `stop`, or None."""
        own = self.characters[start : stop + 1]
        if stop >= len(self.ids):
            own = np.append(own, self.end)
        own = own[own >= 0]
        # Volumes overlap, so that the first character may not be the first token's.
        return (int(own.min()), int(own.max())) if len(own) > 1 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What follows the text.

    Attributes:
        ids: The instruction, the question, and the template's end.
        instruction: Tokens of the instruction, the same for every question.
        asked: Tokens of the question itself.
    """

    ids: Ids
    instruction: int
    asked: int


def joined(texts: Sequence[Text], size: int) -> Text:
    """Volumes as one text, each beginning with a block of its own.

    Args:
        texts: From `Prompter.volumes`.
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
    return Text(
        ids=np.concatenate(ids),
        characters=np.concatenate(characters),
        document_tokens=sum(text.document_tokens for text in texts),
        end=texts[-1].end,
        starts=tuple(starts),
    )


ANSWER_ROOM = 4096
"""Tokens of room behind the text for questions and answers; a hole in the file, never written."""

"""Documents and questions as token ids, each token tied to its characters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nsa_cli.documents import Document
from nsa_cli.evidence import Passage
from nsa_models.tokenizer import Tokenizer

_INTRODUCTION = "Document:\n\n"
_INSTRUCTION = "\n\nAnswer briefly, from the document only."
_QUESTION = "\n\nQuestion: "
_GAP = "\n...\n"

Ids = np.ndarray[tuple[int], np.dtype[np.int32]]
Characters = np.ndarray[tuple[int], np.dtype[np.int64]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """Ids that are read once, and the character of the document that each begins at.

    Attributes:
        ids: The template's beginning, an introduction, and the document or parts of it.
        characters: As long as `ids`; -1 for a token that is not the document's.
        document_tokens: Tokens that are.
        end: The character behind the last token's; -1 where it is not known.
    """

    ids: Ids
    characters: Characters
    document_tokens: int
    end: int = -1

    def span(self, start: int, stop: int) -> tuple[int, int] | None:
        """Characters of the document in the tokens from `start` to `stop`, or None."""
        own = self.characters[start : stop + 1]
        if stop >= len(self.ids):
            own = np.append(own, self.end)
        own = own[own >= 0]
        return (int(own[0]), int(own[-1])) if len(own) > 1 else None


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


class Prompter:
    """Puts texts and questions into a model's own chat template.

    Args:
        tokenizer: The model's.
        system: Instructions in the place of the template's own.
    """

    def __init__(self, tokenizer: Tokenizer, system: str | None) -> None:
        self._tokenizer = tokenizer
        frame = tokenizer.chat_frame(system)
        self._before = np.concatenate(
            [tokenizer.encode_template(frame.before), tokenizer.encode(_INTRODUCTION)]
        )
        self._after = tokenizer.encode_template(frame.after)

    def whole(self, document: Document) -> Text:
        """All of a document."""
        part = self._tokenizer.encode_with_offsets(document.text)
        return self._text([part], len(document.text))

    def excerpts(self, document: Document, passages: Sequence[Passage]) -> Text:
        """Some passages of a document, in its order."""
        parts = []
        for passage in passages:
            ids, starts = self._tokenizer.encode_with_offsets(
                document.text[passage.start : passage.end]
            )
            parts.append((ids, starts + passage.start))
        return self._text(parts, passages[-1].end if passages else -1)

    def question(
        self, question: str, earlier: Sequence[tuple[str, str]] = (), instructions: str = ""
    ) -> Question:
        """A question behind a text.

        Args:
            question: What is asked.
            earlier: Questions and answers that went before it.
            instructions: What to heed besides, so that the text before it stays the same.
        """
        turns = "".join(f"{asked.strip()}\nAnswer: {said}\n\nQuestion: " for asked, said in earlier)
        heeded = f" {instructions.strip()}{_QUESTION}" if instructions.strip() else _QUESTION
        instruction = self._tokenizer.encode(_INSTRUCTION + heeded + turns)
        asked = self._tokenizer.encode(question.strip())
        ids = np.concatenate([instruction, asked, self._after])
        return Question(ids=ids, instruction=len(instruction), asked=len(asked))

    def room(self, question: str) -> int:
        """Tokens that a question takes behind a text."""
        return len(self.question(question).ids)

    def _text(self, parts: Sequence[tuple[Ids, Characters]], end: int) -> Text:
        gap = self._tokenizer.encode(_GAP)
        ids, characters = [self._before], [np.full(len(self._before), -1, np.int64)]
        for number, (part, starts) in enumerate(parts):
            if number:
                ids.append(gap)
                characters.append(np.full(len(gap), -1, np.int64))
            ids.append(part)
            characters.append(starts)
        return Text(
            ids=np.concatenate(ids),
            characters=np.concatenate(characters),
            document_tokens=sum(len(part) for part, _ in parts),
            end=end,
        )

"""Checks of an answer by the model itself, with its trained verifier.

The verifier's changes act on the tokens of a check alone, so that a check uses the keys and values
that the answer is decoded from.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from nsa_cli.context.judge import NO, YES, judge_question
from nsa_cli.context.tokens import Ids
from nsa_cli.engine.answer_context import AnswerContext
from nsa_cli.engine.open_document import OpenDocument
from nsa_kernels.settings import AttentionSettings
from nsa_models.generation.generate import DecodeOptions, decode


class Bounds(NamedTuple):
    """Bounds of the support of answers about a document.

    Attributes:
        declined: An answer with less support is replaced by one that declines.
        unsupported: The same where no passage supports the answer by `is_supported`, in the
            passages' language.
        verified: A citation may be verified with more support than this.
    """

    declined: float
    unsupported: float
    verified: float


OF_PASSAGES = Bounds(0.5, 0.6, 0.88)
"""For answers from the passages that were found in a long document."""

OF_SHORT_TEXT = Bounds(0.35, 0.6, 0.8)
"""For answers from a text that is read whole: nothing was missed by the search."""

_EXPRESSION_TOKENS = 64
"""Maximum tokens of an expression."""


class WrittenExpression(NamedTuple):
    """An expression as a model has written it, and the count of its tokens."""

    text: str
    tokens: int


class Verifier:
    """Checks about one context.

    Args:
        opened: The document; the model that answers has a verifier.
        context: What its answers are decoded from.
        settings: Attention of questions and answers.
    """

    def __init__(
        self, opened: OpenDocument, context: AnswerContext, settings: AttentionSettings
    ) -> None:
        own = opened if opened.answerer is None else opened.answerer
        self._model, self._prompts, self._tokenizer = own.model, own.prompts, own.tokenizer
        assert self._model.verifier is not None
        self._changes = self._model.verifier
        self._context, self._settings = context, settings

    def support(
        self, question: str, answer: str, earlier: Sequence[tuple[str, str]] = ()
    ) -> float | None:
        """Return the probability that the context gives an answer to a question.

        It is None without room for the check in the context's cache.

        Args:
            question: The question.
            answer: The answer.
            earlier: Earlier questions with their answers, which the check follows.
        """
        asked = self._prompts.question(judge_question(question, answer), earlier).ids
        cache, model = self._context.cache, self._model
        if not self._has_room(asked, 0):
            return None
        length = cache.length
        ids = torch.as_tensor(asked, dtype=torch.long, device=model.device)
        try:
            with torch.inference_mode(), self._changes.active():
                out = model(ids[None], cache=cache, settings=self._settings, last_logits=1)
        finally:
            cache.truncate(length)
        assert out.logits is not None
        first = [int(self._tokenizer.encode(each)[0]) for each in (YES, NO)]
        return float(out.logits[0, -1].float()[first].softmax(dim=0)[0])

    def expression(self, question: str) -> WrittenExpression | None:
        """Decode an arithmetic expression that answers a question; None without room for it.

        Args:
            question: The question.
        """
        asked, cache = self._prompts.expression(question, "").ids, self._context.cache
        if not self._has_room(asked, _EXPRESSION_TOKENS):
            return None
        length, ids = cache.length, list[int]()
        cache.truncate(length)  # without tokens ahead, which the unchanged model has run
        options = DecodeOptions(max_tokens=_EXPRESSION_TOKENS, stop_ids=self._tokenizer.stop_ids)
        quoted, settings = self._context.text.ids, self._settings
        try:
            with self._changes.active():
                for step in decode(
                    self._model, asked, cache, options, settings=settings, quoted=quoted
                ):
                    if step.id in self._tokenizer.stop_ids:
                        break
                    ids.append(step.id)
        finally:  # also when the answer is canceled
            cache.truncate(length)
        text = b"".join(self._tokenizer.decode_bytes(each) for each in ids)
        return WrittenExpression(text.decode(errors="replace").strip(), len(ids))

    def _has_room(self, asked: Ids, more: int) -> bool:
        cache = self._context.cache
        return len(asked) + more <= cache.capacity - cache.length


def verifier_of(
    opened: OpenDocument, context: AnswerContext, settings: AttentionSettings
) -> Verifier | None:
    """Return the checks of the model that answers; None if it has no verifier."""
    return None if opened.answers.verifier is None else Verifier(opened, context, settings)

"""Signals of whether a document answers a question: likelihoods with and without its text.

What a document says makes its answer, and the question, more likely than the prompt alone does.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from nsa_cli.context.tokens import Ids, TokenizedQuestion
from nsa_cli.engine.answer_context import AnswerContext
from nsa_cli.engine.open_document import OpenDocument
from nsa_kernels.settings import AttentionSettings
from nsa_models.cache.kv_cache import KVCache
from nsa_models.modeling.model import NSALanguageModel


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerSignals:
    """Mean log-likelihoods per token, in nats.

    Attributes:
        answer: Of the answer after text and question.
        answer_alone: Of the answer after the question alone.
        least_likely: Of the least likely token of the answer after text and question.
        question: Of the question after the text.
        question_alone: Of the question without the text.
    """

    answer: float
    answer_alone: float
    least_likely: float
    question: float
    question_alone: float


def answer_signals(
    opened: OpenDocument,
    context: AnswerContext,
    question: TokenizedQuestion,
    answer: str,
    settings: AttentionSettings,
) -> AnswerSignals | None:
    """Measure an answer's signals, or return None for an empty answer. The context is unchanged.

    Args:
        opened: The document.
        context: What the answer was decoded from.
        question: The question.
        answer: The answer.
        settings: Attention of question and answer.
    """
    said = opened.tokenizer.encode(answer)
    if not len(said):
        return None
    alone = opened.retriever.join([], len(question) + len(said))
    asked_with, said_with = _likelihoods(opened.model, context.cache, question, said, settings)
    asked_alone, said_alone = _likelihoods(opened.model, alone, question, said, settings)
    return AnswerSignals(
        answer=float(said_with.mean()),
        answer_alone=float(said_alone.mean()),
        least_likely=float(said_with.min()),
        question=float(asked_with.mean()),
        question_alone=float(asked_alone.mean()),
    )


def _likelihoods(
    model: NSALanguageModel,
    cache: KVCache,
    question: TokenizedQuestion,
    answer: Ids,
    settings: AttentionSettings,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return log-likelihoods of the question's own tokens and of the answer's tokens."""
    length = cache.length
    tokens = np.concatenate([question.ids, answer])
    ids = torch.as_tensor(tokens, dtype=torch.long, device=model.device)
    try:
        with torch.inference_mode():
            x, _ = model.hidden_states(ids[None], cache, settings)
            first = question.instruction - 1
            logits = model.logits(x[:, first:-1])[0].float().log_softmax(dim=-1)
            found = logits.gather(1, ids[first + 1 :, None])[:, 0].cpu()
    finally:
        cache.truncate(length)
    return found[: question.asked], found[len(question) - first - 1 :]

"""The steps of an answer: a configuration that fits, the look, the decoding, the weighing.

`session` puts them together.
"""

from __future__ import annotations

import codecs
import time
from dataclasses import dataclass

import torch
from torch import Tensor

from nsa_cli.config.options import Options
from nsa_cli.context.tokens import Question, Text
from nsa_cli.events import AnswerText, Emit
from nsa_cli.retrieval.attention import answer_evidence
from nsa_models.cache.kv_cache import KVCache
from nsa_models.generation.generate import decode
from nsa_models.model_folder import ModelFolder
from nsa_models.modeling.model import NSALanguageModel
from nsa_models.tokenization.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A model ready to run, and its tokenizer."""

    where: ModelFolder
    model: NSALanguageModel
    tokenizer: Tokenizer


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A decoded answer; `mass` is the attention (N,) that its tokens gave the blocks."""

    text: str
    tokens: int
    mass: Tensor
    finish_reason: str
    first_token_seconds: float
    tokens_per_second: float


def decode_answer(
    loaded: Loaded,
    cache: KVCache,
    text: Text,
    asked: Question,
    options: Options,
    emit: Emit,
    started: float,
) -> Answer:
    """Decode the answer, emitting its text as it comes."""
    stop_ids = loaded.tokenizer.stop_ids
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    size = loaded.model.config.select_block
    # Summed on the device: only the tokens' ids come over one by one.
    mass = torch.zeros(-(-len(text.ids) // size), device=loaded.model.device)
    pieces: list[str] = []
    tokens, reason, first = 0, "length", 0.0
    steps = decode(
        loaded.model,
        asked.ids,
        cache,
        max_tokens=options.max_tokens,
        stop_ids=stop_ids,
        temperature=options.temperature,
        seed=options.seed,
        quoted=text.ids,
    )
    for step in steps:
        if not tokens:
            first = time.monotonic() - started
        tokens += 1
        if step.id in stop_ids:
            reason = "stop"
            break
        mass += answer_evidence(step.mass)[: len(mass)]
        piece = decoder.decode(loaded.tokenizer.decode_bytes(step.id))
        if not pieces:
            piece = piece.lstrip()
        if piece:
            pieces.append(piece)
            emit(AnswerText(text=piece))
    if rest := decoder.decode(b"", final=True):
        pieces.append(rest)
        emit(AnswerText(text=rest))
    spent = time.monotonic() - started - first
    return Answer(
        text="".join(pieces).rstrip(),
        tokens=tokens,
        mass=mass.cpu(),
        finish_reason=reason,
        first_token_seconds=first,
        tokens_per_second=(tokens - 1) / spent if tokens > 1 and spent > 0 else 0.0,
    )

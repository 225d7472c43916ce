"""Plain chat: an answer to a conversation without a document."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence

import numpy as np

from nsa_cli.context.fit import plain_config
from nsa_cli.context.tokens import TokenizedQuestion, TokenizedText
from nsa_cli.engine.engine import Engine
from nsa_cli.engine.generate import GenerationOptions, generate
from nsa_cli.events import ANSWERING, AnswerFinished, AnswerText, Progress, Stage
from nsa_cli.results import Stats
from nsa_cli.system import peak_memory_bytes
from nsa_models.cache.kv_cache import KVCache
from nsa_models.configuration.config import attention_fields
from nsa_models.generation.generate import prefill

_READING = "Reading the conversation"


def plain_steps(
    engine: Engine, messages: Sequence[tuple[str, str]], options: GenerationOptions
) -> Generator[AnswerText | Progress | Stage, None, AnswerFinished]:
    """Answer the last message of a conversation; nothing is stored.

    Args:
        engine: The engine.
        messages: Roles (`system`, `user` or `assistant`) and texts, in order.
        options: How to generate.

    Yields:
        The progress of a long conversation's prefill, then the answer, piece by piece.

    Returns:
        The finished answer, without citations.

    Raises:
        DoesNotFitError: If the conversation is longer than the model's context.
    """
    started = time.monotonic()
    engine = engine.answerer or engine
    ids = engine.tokenizer.encode_chat(messages)
    needed = len(ids) + options.max_tokens
    config = plain_config(engine.folder, len(ids), options.max_tokens, engine.options, engine.emit)
    model = engine.load(config)
    cache = KVCache(model.config, needed, dtype=model.dtype, device=model.layer_devices)
    began = time.monotonic()
    for done in prefill(model, ids[:-1], cache):
        yield Progress(task=_READING, done=done, total=len(ids) - 1, unit="tokens")
    read = time.monotonic()
    yield ANSWERING
    text = TokenizedText(
        ids=ids[:-1], characters=np.full(len(ids) - 1, -1, np.int64), document_tokens=0
    )
    asked = TokenizedQuestion(text=messages[-1][1], ids=ids[-1:], instruction=0, asked=1)
    generated = yield from generate(model, engine.tokenizer, cache, text, asked, options, started)
    return AnswerFinished(
        answer=generated.text,
        citations=(),
        model=engine.folder.name,
        attention={
            "reading": attention_fields(model.config.prefill_settings()),
            "answering": attention_fields(options.attention(model.config)),
        },
        finish_reason=generated.finish_reason,
        stats=Stats(
            document_tokens=0,
            reused_tokens=0,
            question_tokens=len(ids),
            answer_tokens=generated.tokens,
            load_seconds=round(began - started, 3),
            prefill_seconds=round(read - began, 3),
            time_to_first_token_seconds=round(generated.first_token_seconds, 3),
            decode_tokens_per_second=round(generated.tokens_per_second, 2),
            peak_memory_bytes=peak_memory_bytes(),
            cache_bytes=0,
            cache_bytes_touched=0,
        ),
    )

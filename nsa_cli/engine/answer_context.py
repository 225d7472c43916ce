"""What an answer is decoded from: some passages, or whole pages of what was prefilled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch

from nsa_cli.context.prompt import PromptBuilder
from nsa_cli.context.tokens import Ids, TokenizedText
from nsa_cli.documents import Document
from nsa_cli.events import Emit, Progress
from nsa_cli.kv_store.prefill import layers_told
from nsa_cli.results import Passage
from nsa_cli.retrieval.pages import PageTokens
from nsa_cli.retrieval.retriever import Retriever
from nsa_kernels.settings import AttentionSettings
from nsa_models.cache.ahead import keep_ahead
from nsa_models.cache.kv_cache import KVCache
from nsa_models.configuration.config import NSAConfig
from nsa_models.generation.generate import prefill
from nsa_models.heap import trim_heap
from nsa_models.modeling.model import NSALanguageModel
from nsa_models.weights.resident import release_weights

READING_NOTES = "Reading passages"
"""Name of the progress over a text that a request follows."""

_ONE_CHUNK_TOKENS = 1536
"""Maximum tokens that are prefilled at once; a second chunk of a few costs 0.2 s more."""


class AnswerContext(NamedTuple):
    """A prefilled text that an answer is decoded from.

    Attributes:
        text: Its tokens.
        cache: Its keys and values, with room for question and answer.
    """

    text: TokenizedText
    cache: KVCache


def passage_context(
    model: NSALanguageModel,
    prompts: PromptBuilder,
    document: Document,
    passages: Sequence[Passage],
    room: int,
    emit: Emit,
    ahead: Ids | None = None,
) -> AnswerContext:
    """Prefill some passages as one text.

    Args:
        model: The model.
        prompts: Tokenizes the passages.
        document: The document.
        passages: In the order of the document.
        room: Tokens of room after them.
        emit: Receives progress in tokens.
        ahead: See `text_context`.
    """
    task = "Reading a passage" if len(passages) == 1 else f"Reading {len(passages)} passages"
    return text_context(model, prompts.excerpts(document, passages), room, emit, task, ahead)


def text_context(
    model: NSALanguageModel,
    text: TokenizedText,
    room: int,
    emit: Emit,
    task: str,
    ahead: Ids | None = None,
) -> AnswerContext:
    """Prefill a text.

    Args:
        model: The model.
        text: Its tokens.
        room: Tokens of room after them.
        emit: Receives progress in tokens.
        task: Name of the progress.
        ahead: Tokens that are likely to follow, which are run in the same pass; see `keep_ahead`.
    """
    config, ids = model.config, text.ids
    if ahead is not None and _both_dense(config, len(ids) + len(ahead)):
        ids = np.concatenate([ids, ahead])
    whole = -(-len(ids) // config.select_block) * config.select_block
    release_weights(model.lm_head)  # the prefill does not read it
    cache = KVCache(
        model.config, len(text.ids) + room, dtype=model.dtype, device=model.layer_devices
    )
    progress = Progress(task=task, done=0, total=len(ids), unit="tokens", stage="passages")
    emit(progress)
    steps = prefill(
        *(model, ids, cache),
        chunk_size=whole if whole <= _ONE_CHUNK_TOKENS else None,
        on_tokens=layers_told(emit, progress),
    )
    for done in steps:
        emit(replace(progress, done=done))
    cache.truncate(len(text.ids))
    keep_ahead(cache, ids[len(text.ids) :], config.answer_settings())
    trim_heap()  # of the prefill, before the output projection is read
    release_weights(model.model.embed_tokens)  # around each of its rows, the system maps others
    return AnswerContext(text, cache)


def _both_dense(config: NSAConfig, tokens: int) -> bool:
    """Whether reading and answering attend to all of so many tokens."""
    both = (config.prefill_settings(), config.answer_settings())
    return all(settings.covers(tokens) for settings in both)


def page_context(
    retriever: Retriever,
    texts: Sequence[TokenizedText],
    pages: Sequence[PageTokens],
    room: int,
    *,
    move: bool,
) -> AnswerContext:
    """Join the stored keys and values of pages into one text, without a prefill.

    Args:
        retriever: Has the pages.
        texts: The text of each context window.
        pages: In the order of the document.
        room: Tokens of room after them.
        move: Whether the pages get consecutive positions.
    """
    parts = [(texts[0], 0, retriever.head)]
    parts += [(texts[page.window], page.start, page.stop) for page in pages]
    last, end = parts[-1][0], parts[-1][2]
    span = last.span(end - 1, end)
    text = TokenizedText(
        ids=np.concatenate([text.ids[start:stop] for text, start, stop in parts]),
        characters=np.concatenate([text.characters[start:stop] for text, start, stop in parts]),
        document_tokens=sum(len(page) for page in pages),
        end=-1 if span is None else span[1],
    )
    return AnswerContext(text, retriever.join(pages, room, move=move))


def append_passages(
    model: NSALanguageModel,
    context: AnswerContext,
    passages: TokenizedText,
    head: int,
    settings: AttentionSettings,
) -> AnswerContext:
    """Prefill passages after the pages of a context.

    Args:
        model: The model.
        context: From `page_context`, with room for the passages.
        passages: From `PromptBuilder.excerpts`.
        head: Tokens of the prompt before the document, which are left out here.
        settings: Attention of the passages' tokens.
    """
    text, cache = context
    ids = torch.as_tensor(passages.ids[head:], dtype=torch.long, device=model.device)
    with torch.inference_mode():
        model(ids[None], cache=cache, settings=settings, last_logits=0)
    joined = TokenizedText(
        ids=np.concatenate([text.ids, passages.ids[head:]]),
        characters=np.concatenate([text.characters, passages.characters[head:]]),
        document_tokens=text.document_tokens + passages.document_tokens,
        end=passages.end,
    )
    return AnswerContext(joined, cache)

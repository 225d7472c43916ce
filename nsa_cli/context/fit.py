"""Fit a document to the model's context: one window, several, YaRN, or lines of a log."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from nsa_cli.context.estimate import weights_dtype
from nsa_cli.context.logs import LogSampler
from nsa_cli.context.tokens import ANSWER_ROOM
from nsa_cli.documents import Document
from nsa_cli.documents.folding import may_be_log
from nsa_cli.events import Emit, Note
from nsa_cli.system import memory_limit
from nsa_models.cache.kv_cache import cache_shape
from nsa_models.configuration.rotary import fit_rotary
from nsa_models.configuration.yarn import extend_context, longest_context
from nsa_models.errors import DoesNotFitError
from nsa_models.weights.load import load_config

if TYPE_CHECKING:
    from nsa_cli.config.options import Options
    from nsa_cli.context.prompt import PromptBuilder
    from nsa_cli.context.tokens import TokenizedText
    from nsa_models.configuration.config import NSAConfig
    from nsa_models.model_folder import ModelFolder


_LONGEST_TOKEN = 64
"""Maximum characters of a token."""

_LEAST_WINDOW = 1024

Seconds = Callable[[Sequence["TokenizedText"], "NSAConfig"], float]
"""Estimates the prefill of context windows with a configuration, in seconds."""


def fit(
    where: ModelFolder,
    prompts: PromptBuilder,
    document: Document,
    room: int,
    options: Options,
    emit: Emit,
    seconds: Seconds,
) -> tuple[Document, list[TokenizedText], NSAConfig]:
    """Tokenize a document, and return the configuration that it needs.

    A document longer than the trained context gets several context windows, or an extended context
    with YaRN. A log that does not fit, or that this machine does not prefill within about a
    minute, loses lines that differ only in numbers. A note says so in each case.

    Args:
        where: The model.
        prompts: Tokenizes the document.
        document: The document.
        room: Tokens that the longest question and its answer need after it.
        options: How to read.
        emit: Receives notes and progress.
        seconds: Estimates the prefill of a log.

    Returns:
        The document, or what is left of it; the text of each window; the configuration.

    Raises:
        DoesNotFitError: If it does not fit.
    """
    config, family = _configured(where, options)
    trained, most = config.max_position_embeddings, _most_tokens(config, options)
    too_long = len(document.text) > most * _LONGEST_TOKEN
    text = None if too_long else prompts.whole(document)
    if not options.every_line and may_be_log(document):

        def taken(some: TokenizedText) -> float:
            return seconds(*_windows(where, prompts, some, room, options))

        sampler = LogSampler(
            prompts=prompts,
            emit=emit,
            most=min(most, longest_context(config, family) - room) if options.yarn else most,
            trained=trained,
            room=_behind(trained, room),
            seconds=taken,
        )
        document, text = sampler.fit(document, text)
    if text is None or len(text.ids) > most:
        raise _too_large(document, text, most, options)
    if options.yarn:
        return document, [text], fitting_config(where, len(text.ids), room, options, emit)
    windows, config = _windows(where, prompts, text, room, options)
    if len(windows) > 1:
        emit(_told(where, text, trained, windows))
    return document, windows, config


def _told(
    where: ModelFolder, text: TokenizedText, trained: int, windows: Sequence[TokenizedText]
) -> Note:
    return Note(
        text=f"{len(text.ids):,} tokens are more than the {trained:,} that {where.name} "
        f"was trained for: read in {len(windows)} windows, and searched together"
    )


def _windows(
    where: ModelFolder, prompts: PromptBuilder, text: TokenizedText, room: int, options: Options
) -> tuple[list[TokenizedText], NSAConfig]:
    """Split a text into windows of the trained context; return the configuration that they need.

    With YaRN one window is enough.

    Raises:
        DoesNotFitError: If the question and its answer leave no room for a window.
    """
    config = _configured(where, options)[0]
    trained = config.max_position_embeddings
    windows = [text]
    if len(text.ids) + room > trained and not options.yarn:
        size = (trained - _behind(trained, room)) // config.select_block * config.select_block
        if size < _LEAST_WINDOW:
            raise _too_long(where, len(text.ids) + room, trained)
        windows = prompts.windows(text, size)
    fit_rotary(config, max(len(window.ids) for window in windows) + room)
    return windows, config


def _behind(trained: int, room: int) -> int:
    """Tokens behind a window's text, the same for most questions, so that its KV cache is too."""
    return max(room, ANSWER_ROOM) if trained > 4 * ANSWER_ROOM else room


def _most_tokens(config: NSAConfig, options: Options) -> int:
    """Return the tokens whose keys and values fit the cache limit or the memory."""
    each = 2 * math.prod(cache_shape(config, 1)) * weights_dtype(config).itemsize
    room = options.cache_limit_bytes if options.store else memory_limit(options.memory_bytes)
    return room // each


def fitting_config(
    where: ModelFolder, text_tokens: int, more_tokens: int, options: Options, emit: Emit
) -> NSAConfig:
    """Return the model's configuration, with the context extended by YaRN if the text needs it.

    Raises:
        DoesNotFitError: If the longest extension is too short.
    """
    config, family = _configured(where, options)
    needed, trained = text_tokens + more_tokens, config.max_position_embeddings
    fit_rotary(config, needed)
    if needed <= trained:
        return config
    longest = longest_context(config, family)
    if needed > longest:
        raise _too_long(where, needed, longest)
    extend_context(config, family)
    emit(
        Note(
            text=f"{needed:,} tokens are more than the {trained:,} that {where.name} was trained "
            f"for; extending its context to {longest:,} with YaRN, answers may be less exact"
        )
    )
    return config


def plain_config(
    where: ModelFolder, text_tokens: int, more_tokens: int, options: Options, emit: Emit
) -> NSAConfig:
    """Return the configuration for a conversation without a document.

    Raises:
        DoesNotFitError: If the context is too short; only the option `yarn` extends it.
    """
    if options.yarn:
        return fitting_config(where, text_tokens, more_tokens, options, emit)
    config, _ = _configured(where, options)
    if text_tokens + more_tokens > config.max_position_embeddings:
        raise _too_long(where, text_tokens + more_tokens, config.max_position_embeddings)
    fit_rotary(config, text_tokens + more_tokens)
    return config


def _configured(where: ModelFolder, options: Options) -> tuple[NSAConfig, str]:
    settings: dict[str, int | None] = {"select_count": None} if options.dense else {}
    if options.answer_blocks is not None:
        settings["answer_select_count"] = options.answer_blocks
    return load_config(where.folder, where.adapter, **settings)


def _too_large(
    document: Document, text: TokenizedText | None, most: int, options: Options
) -> DoesNotFitError:
    """The error for a document whose keys and values exceed the cache limit or the memory."""
    tokens = len(document.text) // _LONGEST_TOKEN if text is None else len(text.ids)
    return DoesNotFitError(
        f"the text has {len(document.text):,} characters, at least {tokens:,} tokens; there is "
        f"room for the keys and values of {most:,} tokens",
        hint="ask about a part of it, or "
        + ("raise --cache-limit" if options.store else "leave --no-store out"),
    )


def _too_long(where: ModelFolder, needed: int, longest: int) -> DoesNotFitError:
    return DoesNotFitError(
        f"the text, the question and the answer need {needed:,} tokens, "
        f"but {where.name} takes at most {longest:,}",
        hint="ask about a part of it, lower --max-tokens, or choose a model with a longer "
        "context with --model",
    )

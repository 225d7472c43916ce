"""Fit a document to the model's context: one window, several, YaRN, or lines of a log."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from nsa_cli.context.estimate import weights_dtype
from nsa_cli.context.tokens import ANSWER_ROOM
from nsa_cli.documents import Document
from nsa_cli.documents.folding import Folded, Sifted
from nsa_cli.events import Emit, Note, Progress
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
_LONG_LOG = 4
"""A log longer than this many trained contexts is sampled by kinds of lines."""

_CHARACTERS = 3.0
"""Estimated characters of a token in a log."""


def fit(
    where: ModelFolder,
    prompts: PromptBuilder,
    document: Document,
    room: int,
    options: Options,
    emit: Emit,
) -> tuple[Document, list[TokenizedText], NSAConfig]:
    """Tokenize a document, and return the configuration that it needs.

    A document longer than the trained context gets several context windows, or an extended context
    with YaRN. Of a log several times as long, lines that differ only in numbers are left out. A
    note says so in each case.

    Args:
        where: The model.
        prompts: Tokenizes the document.
        document: The document.
        room: Tokens that the longest question and its answer need after it.
        options: How to read.
        emit: Receives notes and progress.

    Returns:
        The document, or what is left of it; the text of each window; the configuration.

    Raises:
        DoesNotFitError: If it does not fit.
    """
    config = _configured(where, options)[0]
    trained = config.max_position_embeddings
    most = _most_tokens(config, options)
    too_long = len(document.text) > most * _LONGEST_TOKEN
    text = None if too_long else prompts.whole(document)
    if text is not None and len(text.ids) + room <= trained:
        fit_rotary(config, len(text.ids) + room)
        return document, [text], config
    if not options.every_line and (text is None or len(text.ids) > _LONG_LOG * trained):
        budgets = [min(times * trained - room, most) for times in (1, 2, _LONG_LOG)]
        folded = _folded(prompts, document, budgets, emit)
        if folded is not None:
            document, text = folded
    if text is None or len(text.ids) > most:
        raise _too_large(document, text, most, options)
    if options.yarn:
        return document, [text], fitting_config(where, len(text.ids), room, options, emit)
    behind = max(room, ANSWER_ROOM) if trained > 4 * ANSWER_ROOM else room
    size = (trained - behind) // config.select_block * config.select_block
    if size < _LEAST_WINDOW:
        raise _too_long(where, len(text.ids) + room, trained)
    windows = [text] if len(text.ids) + room <= trained else prompts.windows(text, size)
    if len(windows) > 1:
        emit(
            Note(
                text=f"{len(text.ids):,} tokens are more than the {trained:,} that {where.name} "
                f"was trained for: read in {len(windows)} windows, and searched together"
            )
        )
    fit_rotary(config, max(len(window.ids) for window in windows) + room)
    return document, windows, config


def _most_tokens(config: NSAConfig, options: Options) -> int:
    """Return the tokens whose keys and values fit the cache limit or the memory."""
    each = 2 * math.prod(cache_shape(config, 1)) * weights_dtype(config).itemsize
    room = options.cache_limit_bytes if options.store else memory_limit(options.memory_bytes)
    return room // each


def _folded(
    prompts: PromptBuilder, document: Document, budgets: Sequence[int], emit: Emit
) -> tuple[Document, TokenizedText] | None:
    """Sample the lines of a log by kind, within the first token budget that is large enough.

    Returns:
        The sampled document and its tokens; None if it is not a log, or no budget is enough.
    """
    if any(piece.page is not None for piece in document.pieces):
        return None
    task = f"Sifting {document.name}"
    sifted = Sifted(
        document,
        on_progress=lambda done, total: emit(
            Progress(task=task, done=done, total=total, unit="characters")
        ),
    )
    for budget in budgets if sifted.repeats else ():
        characters = budget * _CHARACTERS
        while (found := sifted.within(int(characters))) is not None:
            text = prompts.whole(found.document)
            if len(text.ids) <= budget:
                emit(Note(text=_told(found, sifted.kinds, document.name)))
                return found.document, text
            characters *= 0.97 * budget / len(text.ids)
    return None


def _told(found: Folded, kinds: int, name: str) -> str:
    first = "the first" if found.each == 1 else f"the first {found.each:,}"
    return (
        f"{name} is a long log: {found.kept:,} of its {found.lines:,} lines are read, "
        f"{first} of each kind ({kinds:,} kinds, alike but for numbers) and the "
        "last ones; --every-line reads all"
    )


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
        f"and {where.name} carries {longest:,}",
        hint="ask about a part of it, lower --max-tokens, or choose a model with a longer "
        "context with --model",
    )

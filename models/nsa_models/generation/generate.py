"""Token ids in, token ids out: reading a long text, then answering after it.

Letters: L layers, H query heads, N selection blocks, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from nsa_kernels.errors import UnsupportedError
from nsa_kernels.precision import emulated
from nsa_kernels.settings import AttentionSettings
from nsa_models.cache.kv_cache import KVCache
from nsa_models.cache.placement import segment_tokens
from nsa_models.modeling.int8 import Int8Linear
from nsa_models.modeling.model import NSALanguageModel

if TYPE_CHECKING:
    from nsa_models.generation.cuda_graph import CudaGraphDecoder

Ids = np.ndarray[tuple[int], np.dtype[np.int32]]

DRAFT_TOKENS = 8
"""Tokens that are tried ahead: about what a CPU runs in the time of one, while it reads weights."""

_FEW_DRAFT_TOKENS = 2
"""The same in eight bits where bf16 is emulated: two cores with AVX2 alone took 105, 115 and 173 ms
for 1, 3 and 5 tokens of the default model, and in bf16 121, 257 and 370."""

_SUFFIXES = (3, 2)
"""Last tokens that are looked for, the most telling first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One decoded token.

    Attributes:
        id: The token.
        mass: (L, H, N) attention mass that the position which chose it gave each block.
    """

    id: int
    mass: Tensor


def prefill(
    model: NSALanguageModel,
    ids: Sequence[int] | Ids | Tensor,
    cache: KVCache,
    *,
    segment: int | None = None,
) -> Iterator[int]:
    """Read the tokens that the cache does not hold yet, segment by segment.

    Segments end at absolute multiples of `segment`, so that tiles of queries are the same
    however the reading is cut or resumed.

    Args:
        model: The model.
        ids: The whole text, of which the first `cache.length` tokens are read already.
        cache: Extended in place.
        segment: Tokens of a segment, a multiple of `select_block`; by device and its free memory
            when None.

    Yields:
        Tokens in the cache after each segment.
    """
    tokens = torch.as_tensor(ids, dtype=torch.long)
    settings = reading_of(model.config.prefill_settings(), len(tokens))
    if segment is None:
        segment = segment_tokens(model.config, model.dtype, model.layer_devices)
    if segment % settings.select_block:
        raise ValueError(f"segment {segment} is no multiple of block {settings.select_block}")
    while cache.length < len(tokens):
        end = min((cache.length // segment + 1) * segment, len(tokens))
        part = tokens[cache.length : end].to(model.device)
        with torch.inference_mode():
            model(part[None], cache=cache, settings=settings, last_logits=0)
        yield cache.length


def reading_of(settings: AttentionSettings, tokens: int) -> AttentionSettings:
    """How a text of so many tokens is read: by its whole length, not by that of a segment."""
    dense = tokens < settings.dense_below
    return replace(settings, dense_below=0, select_count=None if dense else settings.select_count)


def decode(
    model: NSALanguageModel,
    ids: Sequence[int] | Ids | Tensor,
    cache: KVCache,
    *,
    settings: AttentionSettings | None = None,
    max_tokens: int,
    stop_ids: frozenset[int],
    temperature: float = 0.0,
    seed: int | None = None,
    quoted: Sequence[int] | Ids = (),
    draft_tokens: int | None = None,
) -> Iterator[Step]:
    """Append the question and decode the answer, one token at a time.

    Greedy answers that quote come sooner with `quoted` (prompt lookup decoding): what followed
    the last few tokens there is run through the model along with the last token, and kept as far
    as it is what the model chooses.

    Args:
        model: The model.
        ids: The question, at least one token.
        cache: What was read; extended in place.
        settings: What to attend to; the configuration's for answering when None.
        max_tokens: Tokens to decode at most.
        stop_ids: Tokens that end the answer; the one that does is yielded too.
        temperature: 0 is greedy.
        seed: For sampling.
        quoted: A text that the answer may quote, such as the one that was read.
        draft_tokens: Tokens that are tried ahead at most; `DRAFT_TOKENS` when None, or none where
            several cost as much as one after another.

    Yields:
        The decoded tokens, the ending one included.

    Source: Saxena 2023, "Prompt Lookup Decoding"; Leviathan et al. 2023, arXiv 2211.17192.
    """
    settings = model.config.answer_settings() if settings is None else settings
    generator = torch.Generator(device="cpu")
    if seed is None:
        generator.seed()
    else:
        generator.manual_seed(seed)
    # A tensor may lie on the device.
    question = torch.as_tensor(ids).cpu().numpy().astype(np.int32)
    if draft_tokens is None:
        draft_tokens = _worth_trying(model)
    # Queries that share a selection would not choose as they do one by one.
    drafts = draft_tokens > 0 and temperature <= 0 and (settings.dense or settings.select_tile == 1)
    lookup = Lookup(np.concatenate([np.asarray(quoted, dtype=np.int32), question]))
    with torch.inference_mode():
        if len(question) > 1:
            before = torch.as_tensor(question[:-1], dtype=torch.long, device=model.device)
            model(before[None], cache=cache, settings=settings, last_logits=0)
        step = _decode_step(model, cache, settings, draft_tokens + 1 if drafts else 1)
        token, left = int(question[-1]), max_tokens
        while left > 0:
            room = min(left - 1, cache.capacity - cache.length - 1)
            if cache.length + 1 < settings.dense_below:  # what is tried is shorter than this too
                room = min(room, settings.dense_below - cache.length - 2)
            ahead = step.tokens - 1 if step is not None else draft_tokens
            draft = lookup.draft(min(room, ahead)) if drafts else []
            first = cache.length
            if step is not None and step.fits():
                logits, mass = step.run([token, *draft])
            else:
                logits, mass = _run(model, cache, settings, [token, *draft])
            chosen: list[int] = []
            for choice, tried in zip(
                _choose(logits, temperature, generator), [*draft, None], strict=True
            ):
                chosen.append(choice)
                if choice in stop_ids or choice != tried:
                    break
            # What was tried in vain is forgotten.
            cache.truncate(first + len(chosen))
            for i, token in enumerate(chosen):
                lookup.append(token)
                blocks = (first + i) // settings.select_block + 1
                yield Step(id=token, mass=mass[:, :, i, :blocks])
            if token in stop_ids:
                return
            left -= len(chosen)


class Lookup:
    """A text, and what came of it, in which the last few tokens are looked for."""

    def __init__(self, ids: Ids) -> None:
        self._ids = np.empty(2 * len(ids) + 64, dtype=np.int32)
        self._ids[: len(ids)] = ids
        self._length = len(ids)

    def append(self, token: int) -> None:
        """Add a token at the end."""
        if self._length == len(self._ids):
            self._ids = np.concatenate([self._ids, np.empty_like(self._ids)])
        self._ids[self._length] = token
        self._length += 1

    def draft(self, tokens: int) -> list[int]:
        """Up to so many tokens that followed the last place with the same last few tokens."""
        ids = self._ids[: self._length]
        for size in _SUFFIXES:
            if tokens < 1 or len(ids) <= size:
                continue
            same = ids[size - 1 : -1] == ids[-1]
            for back in range(2, size + 1):
                same &= ids[size - back : -back] == ids[-back]
            if places := np.flatnonzero(same)[-1:].tolist():
                start = places[0] + size
                return [int(token) for token in ids[start : start + tokens]]
        return []


def _worth_trying(model: NSALanguageModel) -> int:
    """How many tokens are tried ahead, by what several cost beside one."""
    if not emulated(model.dtype, model.device):
        return DRAFT_TOKENS
    return _FEW_DRAFT_TOKENS if isinstance(model.lm_head, Int8Linear) else 0


def _decode_step(
    model: NSALanguageModel, cache: KVCache, settings: AttentionSettings, tokens: int
) -> CudaGraphDecoder | None:
    """The step as the device runs it quickest; None where the model's own pass is that.

    Keys and values or weights that lie with the host, and attention that the kernels for decoding
    do not have go the model's own way.
    """
    if not model.on_cards or any(
        keys.device != home for keys, home in zip(cache.keys, model.layer_devices, strict=True)
    ):
        return None
    try:
        from nsa_models.generation.cuda_graph import CudaGraphDecoder

        return CudaGraphDecoder(model, cache, settings, tokens)
    except (UnsupportedError, ImportError):  # Triton is not installed everywhere
        return None


def _run(
    model: NSALanguageModel, cache: KVCache, settings: AttentionSettings, tokens: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Run the next tokens through the model: logits (T, V) and mass (L, H, T, N)."""
    run = torch.tensor([tokens], device=model.device)
    output = model(run, cache=cache, settings=settings, last_logits=len(tokens), return_mass=True)
    return output.logits[0], output.mass[:, 0]


def _choose(logits: Tensor, temperature: float, generator: torch.Generator) -> list[int]:
    """Pick a token from each row of logits (T, V): the best, or a sample."""
    if temperature <= 0:
        best: list[int] = logits.argmax(dim=-1).tolist()
        return best
    probs = (logits.float().cpu() / temperature).softmax(dim=-1)
    return [int(torch.multinomial(row, 1, generator=generator)) for row in probs]

"""Token ids in, token ids out: reading a long text, then answering after it.

Letters: L layers, H query heads, N selection blocks, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nsa_kernels.settings import AttentionSettings
from nsa_models.cache import KVCache
from nsa_models.modeling import NSAForCausalLM

Ids = np.ndarray[tuple[int], np.dtype[np.int32]]

SEGMENT_TOKENS = {"cpu": 1024, "cuda": 8192}
"""Tokens that one step of reading takes, by device. Multiples of every selection block's size."""


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
    model: NSAForCausalLM,
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
        segment: Tokens of a segment, a multiple of `select_block`; by device when None.

    Yields:
        Tokens in the cache after each segment.
    """
    settings = model.config.reading()
    if segment is None:
        segment = SEGMENT_TOKENS.get(model.device.type, SEGMENT_TOKENS["cpu"])
    if segment % settings.select_block:
        raise ValueError(f"segment {segment} is no multiple of block {settings.select_block}")
    tokens = torch.as_tensor(ids, dtype=torch.long)
    while cache.length < len(tokens):
        end = min((cache.length // segment + 1) * segment, len(tokens))
        part = tokens[cache.length : end].to(model.device)
        with torch.inference_mode():
            model(part[None], cache=cache, settings=settings, last_logits=0)
        yield cache.length


def decode(
    model: NSAForCausalLM,
    ids: Sequence[int] | Ids | Tensor,
    cache: KVCache,
    *,
    settings: AttentionSettings | None = None,
    max_tokens: int,
    stop_ids: frozenset[int],
    temperature: float = 0.0,
    seed: int | None = None,
) -> Iterator[Step]:
    """Append the question and decode the answer, one token at a time.

    Args:
        model: The model.
        ids: The question, at least one token.
        cache: What was read; extended in place.
        settings: What to attend to; the configuration's for answering when None.
        max_tokens: Tokens to decode at most.
        stop_ids: Tokens that end the answer; the one that does is yielded too.
        temperature: 0 is greedy.
        seed: For sampling.

    Yields:
        The decoded tokens, the ending one included.
    """
    settings = model.config.answering() if settings is None else settings
    generator = torch.Generator(device="cpu")
    if seed is None:
        generator.seed()
    else:
        generator.manual_seed(seed)
    tokens = torch.as_tensor(ids, dtype=torch.long, device=model.device)[None]
    with torch.inference_mode():
        if tokens.shape[1] > 1:
            model(tokens[:, :-1], cache=cache, settings=settings, last_logits=0)
        token = tokens[:, -1:]
        for _ in range(max_tokens):
            output = model(token, cache=cache, settings=settings, last_logits=1, return_mass=True)
            chosen = _choose(output.logits[0, -1], temperature, generator)
            yield Step(id=chosen, mass=output.mass[:, 0, :, 0])
            if chosen in stop_ids:
                return
            token = torch.tensor([[chosen]], device=model.device)


def _choose(logits: Tensor, temperature: float, generator: torch.Generator) -> int:
    """Pick a token from logits (V,): the best, or a sample."""
    if temperature <= 0:
        return int(logits.argmax())
    probs = (logits.float().cpu() / temperature).softmax(dim=-1)
    return int(torch.multinomial(probs, 1, generator=generator))

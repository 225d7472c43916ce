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

_DRAFT_TOKENS = 8
"""Tokens that are tried ahead: about what a CPU runs in the time of one, while it reads weights."""

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
    quoted: Sequence[int] | Ids = (),
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

    Yields:
        The decoded tokens, the ending one included.

    Source: Saxena 2023, "Prompt Lookup Decoding"; Leviathan et al. 2023, arXiv 2211.17192.
    """
    settings = model.config.answering() if settings is None else settings
    generator = torch.Generator(device="cpu")
    if seed is None:
        generator.seed()
    else:
        generator.manual_seed(seed)
    # A tensor may lie on the device.
    question = torch.as_tensor(ids).cpu().numpy().astype(np.int32)
    # Queries that share a selection would not choose as they do one by one.
    drafts = temperature <= 0 and (settings.dense or settings.select_tile == 1)
    lookup = Lookup(np.concatenate([np.asarray(quoted, dtype=np.int32), question]))
    with torch.inference_mode():
        if len(question) > 1:
            before = torch.as_tensor(question[:-1], dtype=torch.long, device=model.device)
            model(before[None], cache=cache, settings=settings, last_logits=0)
        token, left = int(question[-1]), max_tokens
        while left > 0:
            room = min(left - 1, cache.capacity - cache.length - 1)
            draft = lookup.draft(min(room, _DRAFT_TOKENS)) if drafts else []
            run = torch.tensor([[token, *draft]], device=model.device)
            first = cache.length
            output = model(
                run, cache=cache, settings=settings, last_logits=run.shape[1], return_mass=True
            )
            chosen: list[int] = []
            for logits, tried in zip(output.logits[0], [*draft, None], strict=True):
                chosen.append(_choose(logits, temperature, generator))
                if chosen[-1] in stop_ids or chosen[-1] != tried:
                    break
            # What was tried in vain is forgotten.
            cache.truncate(first + len(chosen))
            for i, token in enumerate(chosen):
                lookup.append(token)
                blocks = (first + i) // settings.select_block + 1
                yield Step(id=token, mass=output.mass[:, 0, :, i, :blocks])
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


def _choose(logits: Tensor, temperature: float, generator: torch.Generator) -> int:
    """Pick a token from logits (V,): the best, or a sample."""
    if temperature <= 0:
        return int(logits.argmax())
    probs = (logits.float().cpu() / temperature).softmax(dim=-1)
    return int(torch.multinomial(probs, 1, generator=generator))

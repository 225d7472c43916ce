"""The instruction before each question, run once for a text: keys, values and attention.

The instruction before a question is always the same, and with dense attention it depends on the
text alone. Its attention to the text is the background of each question; see
`question_attention`. Both are kept in memory, and beside a stored text for the next process.

Letters: L layers, G key/value groups, H query heads, T tokens of the instruction, D head dim,
N blocks.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import load, save
from torch import Tensor

from nsa_cli.context.tokens import Ids, TokenizedQuestion
from nsa_kernels.settings import AttentionSettings
from nsa_models.cache.kv_cache import KVCache
from nsa_models.paths import atomic_write

_FORMAT = 1
"""Format version; bump when the attention of an instruction changes."""

_DIGEST_BYTES = 32


class InstructionPass(NamedTuple):
    """Keys, values and attention of an instruction after a text.

    Attributes:
        keys: (L, G, T, D), in the type of the cache.
        values: (L, G, T, D).
        background: (L, H, N) mean attention of its tokens, up to the last block that they are in.
    """

    keys: Tensor
    values: Tensor
    background: Tensor

    @classmethod
    def of(cls, cache: KVCache, first: int, mass: Tensor, size: int) -> InstructionPass:
        """Copy it from a cache.

        Args:
            cache: The cache, which holds the instruction from token `first`.
            first: Tokens of the text.
            mass: (L, H, T, N) attention of the instruction's tokens.
            size: Tokens of a block.
        """
        last = first + mass.shape[2]
        part = (slice(None), slice(first, last))
        return cls(
            torch.stack([keys[0][part] for keys in cache.keys]),
            torch.stack([values[0][part] for values in cache.values]),
            mass.mean(dim=2)[..., : -(-last // size)].contiguous(),
        )

    def append_to(self, cache: KVCache) -> None:
        """Append the instruction's keys and values to the cache of the text."""
        first, last = cache.length, cache.length + self.keys.shape[2]
        cache.ahead = ()
        for ours, layers in ((self.keys, cache.keys), (self.values, cache.values)):
            for layer, kept in zip(layers, ours, strict=True):
                layer[0, :, first:last] = kept
        cache.advance(last - first)


class InstructionMemory:
    """The passes of one text.

    Args:
        folder: Folder of the stored text; None to keep passes in memory alone.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._passes: dict[bytes, InstructionPass | None] = {}

    def get(
        self, question: TokenizedQuestion, settings: AttentionSettings, cache: KVCache
    ) -> InstructionPass | None:
        """Return the pass over a question's instruction; None if it is not known.

        Args:
            question: The question.
            settings: Its attention.
            cache: The cache of the text.
        """
        key = _key(question, settings, cache.length)
        if key not in self._passes:
            path = self._path(question, key)
            self._passes[key] = None if path is None else _read(path, question, cache)
        return self._passes[key]

    def put(
        self,
        question: TokenizedQuestion,
        settings: AttentionSettings,
        length: int,
        made: InstructionPass,
    ) -> None:
        """Store a pass; errors of the disk are ignored.

        Args:
            question: The question.
            settings: Its attention.
            length: Tokens of the text.
            made: The pass.
        """
        key = _key(question, settings, length)
        if not question.bare:  # the earlier turns of a chat are asked once
            return
        self._passes[key] = made
        path = self._path(question, key)
        if path is not None and path.parent.is_dir():
            body = save(made._asdict())
            with suppress(OSError), atomic_write(path) as partial:
                partial.write_bytes(hashlib.sha256(body).digest() + body)

    def _path(self, question: TokenizedQuestion, key: bytes) -> Path | None:
        if self._folder is None or not question.bare:
            return None
        return self._folder / f"instruction-{key.hex()[:16]}.bin"


def separable(
    question: TokenizedQuestion, settings: AttentionSettings, caches: Sequence[KVCache]
) -> bool:
    """Whether a question can be run after its instruction, with the same result as together.

    With sparse attention the tokens of both share a selection.
    """
    return question.instruction > 0 and all(
        type(cache) is KVCache
        and cache.recent is None
        and {device.type for device in cache.layer_devices} == {"cpu"}
        and settings.covers(cache.length + len(question.ids))
        for cache in caches
    )


def _key(question: TokenizedQuestion, settings: AttentionSettings, length: int) -> bytes:
    ids: Ids = question.ids[: question.instruction]
    facts = json.dumps([_FORMAT, length, asdict(settings), ids.tolist()])
    return hashlib.sha256(facts.encode()).digest()


def _read(path: Path, question: TokenizedQuestion, cache: KVCache) -> InstructionPass | None:
    """Return a kept pass; None if it is missing or damaged."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    body = data[_DIGEST_BYTES:]
    if hashlib.sha256(body).digest() != data[:_DIGEST_BYTES]:
        return None
    found = InstructionPass(**load(body))
    layers, _, groups, _, dim = cache.shape
    shape = (layers, groups, question.instruction, dim)
    fits = found.keys.shape == found.values.shape == shape and found.keys.dtype == cache.dtype
    return found if fits else None

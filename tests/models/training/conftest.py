"""Small models and shards to train from scratch."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from nsa_models.configuration.config import NSAConfig
from nsa_models.training.shards import Shards, ShardWriter, open_shards

END = 63

Document = npt.NDArray[np.int64]
WriteShards = Callable[..., Shards]


@pytest.fixture
def native_config() -> Callable[..., NSAConfig]:
    """Configurations of two layers, 64 wide, with three branches of small blocks."""

    def make(**changes: Any) -> NSAConfig:
        blocks = {"compress_block": 8, "compress_stride": 4, "select_count": 4, "window": 8}
        shape = {
            "vocab_size": 64,
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "tie_word_embeddings": True,
            "initializer_range": 0.05,
            "combine": "gated",
            "select_block": 8,
            "select_tile": 1,
            "score_stride": 1,
        }
        answer = {f"answer_{name}": value for name, value in blocks.items()}
        return NSAConfig(**{**shape, **blocks, **answer, **changes})

    return make


@pytest.fixture
def write_shards(tmp_path: Path) -> WriteShards:
    """Write documents as shards and open them."""

    def write(
        train: Iterable[Document],
        heldout: Iterable[Document] = (),
        name: str = "shards",
        **more: Any,
    ) -> Shards:
        writer = ShardWriter(tmp_path / name, tokenizer="t", vocab_size=64, end_id=END, **more)
        for split, documents in (("train", train), ("heldout", heldout)):
            for document in documents:
                writer.add(split, document)
        writer.close()
        return open_shards([tmp_path / name])

    return write


@pytest.fixture
def words(seed: int) -> Callable[[int], list[Document]]:
    """Random documents of 3 to 40 tokens."""
    rng = np.random.default_rng(seed)
    return lambda count: [rng.integers(0, END, rng.integers(3, 41)) for _ in range(count)]

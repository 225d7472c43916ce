"""The settings of Native Sparse Attention: block sizes and budgets.

Source: Yuan et al. 2025, "Native Sparse Attention", arXiv 2502.11089, section 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Combine = Literal["union", "gated"]
Pooling = Literal["sum", "max"]

_LEAST = {
    "compress_block": 1,
    "compress_stride": 1,
    "select_block": 1,
    "select_tile": 1,
    "score_stride": 1,
    "init_blocks": 0,
    "local_blocks": 0,
    "score_norm": 1,
    "dense_below": 0,
}


def complete_blocks(tokens: int, block: int, stride: int) -> int:
    """Number of complete blocks of `block` tokens, one every `stride`, in `tokens` tokens."""
    return max(0, (tokens - block) // stride + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionSettings:
    """Block sizes and budgets, in tokens and blocks.

    Attributes:
        combine: `gated`, the paper's sum of three branches, or `union`, one softmax over the
            selected blocks and the window.
        compress_block: Tokens of one summary (l).
        compress_stride: Tokens from one summary's start to the next (d).
        select_block: Tokens of a selection block (l').
        select_count: Selected blocks per query (n), forced ones included; None selects all
            blocks, which is dense attention.
        select_tile: Number of consecutive queries, aligned to absolute positions, that share one
            selection; 1 selects for each query. It divides `select_block`.
        score_stride: Only queries at positions divisible by it are scored for their tile. It
            divides `select_tile`.
        init_blocks: Number of first blocks of the text that are always selected.
        local_blocks: Number of most recent blocks, the query's own included, that are always
            selected.
        score_pooling: How a block's importance follows from the probabilities of the summaries
            that overlap it: their `sum`, weighted by the overlap, or their `max` (InfLLM-v2).
        score_norm: The denominator of the probabilities comes from summaries this many times as
            long and as far apart (4 in InfLLM-v2); 1 is a softmax.
        select_run: Number of blocks of a run. If a text has several runs, the query's own run and
            the earlier runs each give at most half a run of candidates, from which `select_count`
            blocks are selected. None ranks all blocks together. Weights that were trained with
            fla's kernel and `select_count` above half a `select_block` were trained this way.
        window: Last tokens that are always attended to, the query's own included (w). In
            `union` mode it is a multiple of `select_block` and extends back to the start of its
            first block, so that queries attend to whole blocks. 0 disables the window branch;
            only `gated` mode allows it.
        dense_below: In `union` mode, all queries of texts shorter than this attend densely.

    Source: Yuan et al. 2025, section 3; OpenBMB's InfLLM-v2 (arXiv 2509.24663) for
    `score_pooling`, `score_norm` and `dense_below`; fla-org/native-sparse-attention for
    `select_run`.
    """

    combine: Combine = "union"
    compress_block: int = 32
    compress_stride: int = 16
    select_block: int = 64
    select_count: int | None = 16
    select_tile: int = 1
    score_stride: int = 1
    init_blocks: int = 1
    local_blocks: int = 2
    score_pooling: Pooling = "sum"
    score_norm: int = 1
    select_run: int | None = None
    window: int = 512
    dense_below: int = 0

    def __post_init__(self) -> None:
        """Check the values against each other.

        Raises:
            ValueError: If a value is out of range or two values contradict each other.
        """
        if self.combine not in get_args(Combine):
            raise ValueError(f"combine is {self.combine!r}; valid are {get_args(Combine)}")
        for name, least in _LEAST.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least {least}")
        if self.select_count is not None and self.select_count < 1:
            raise ValueError(f"select_count is {self.select_count}; it must be at least 1 or None")
        if self.window < (self.combine == "union"):
            raise ValueError(f"window is {self.window}; a query must at least see itself")
        if self.compress_block % self.compress_stride:
            raise ValueError(
                f"compress_block {self.compress_block} is not a multiple of "
                f"compress_stride {self.compress_stride}"
            )
        if self.select_block % self.compress_stride:
            raise ValueError(
                f"select_block {self.select_block} is not a multiple of "
                f"compress_stride {self.compress_stride}"
            )
        if self.select_block % self.select_tile:
            raise ValueError(
                f"select_block {self.select_block} is not a multiple of "
                f"select_tile {self.select_tile}"
            )
        if self.combine == "union" and self.window % self.select_block:
            raise ValueError(
                f"window {self.window} is not a multiple of select_block {self.select_block}, "
                "as combine='union' needs"
            )
        if self.select_tile % self.score_stride:
            raise ValueError(
                f"select_tile {self.select_tile} is not a multiple of "
                f"score_stride {self.score_stride}"
            )
        self._check_scoring()

    def _check_scoring(self) -> None:
        """Check the settings of scoring and ranking.

        Raises:
            ValueError: If a value is out of range or two values contradict each other.
        """
        if self.score_pooling not in get_args(Pooling):
            raise ValueError(
                f"score_pooling is {self.score_pooling!r}; valid are {get_args(Pooling)}"
            )
        plain = self.score_pooling == "sum" and self.score_norm == 1
        if not plain and self.combine == "gated":
            raise ValueError(
                "combine='gated' scores blocks by the probabilities of its compression branch; "
                "set score_pooling to 'sum' and score_norm to 1"
            )
        if self.select_run is not None and (self.select_run < 2 or self.select_run % 2):
            raise ValueError(f"select_run is {self.select_run}; it must be even, or None")
        if self.select_run is not None and self.combine == "union":
            raise ValueError("combine='union' ranks all blocks together; set select_run to None")
        if self.dense_below and self.combine == "gated":
            raise ValueError("combine='gated' has its branches at any length; set dense_below to 0")

    def complete_blocks(self, tokens: int) -> int:
        """Number of compression blocks that end within the first `tokens` tokens."""
        return complete_blocks(tokens, self.compress_block, self.compress_stride)

    @property
    def window_blocks(self) -> int:
        """Number of blocks before the query's own in the window of `union` mode."""
        return self.window // self.select_block

    @property
    def dense(self) -> bool:
        """Whether queries attend to every earlier key in one softmax."""
        return self.select_count is None and self.combine == "union"

    def covers(self, seq_len: int) -> bool:
        """Whether the last query of `seq_len` tokens attends to all of them."""
        if self.combine != "union":
            return False
        if self.select_count is None or seq_len < self.dense_below:
            return True
        outside = (seq_len - 1) // self.select_block - self.window_blocks
        return outside <= self.select_count

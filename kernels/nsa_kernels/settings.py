"""What one call of Native Sparse Attention attends to, as a frozen value.

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
    """Number of blocks of `block` tokens, one every `stride`, that end within `tokens` tokens."""
    return max(0, (tokens - block) // stride + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionSettings:
    """Block sizes and budgets, in tokens and blocks.

    Attributes:
        combine: `gated`, the paper's sum of three branches, or `union`, one softmax over the
            selected blocks and the window.
        compress_block: Tokens that one summary is made of (l).
        compress_stride: Tokens from one summary's start to the next (d).
        select_block: Tokens of a selection block (l').
        select_count: Blocks read in full (n), forced ones included; None reads all of them,
            which is dense attention.
        select_tile: Consecutive queries, aligned to absolute positions, that share one
            selection; 1 gives every query its own. It divides `select_block`.
        score_stride: Only queries at positions that this divides take part in the scoring of
            their tile. It divides `select_tile`.
        init_blocks: First blocks of the text that are always selected.
        local_blocks: Most recent blocks, the query's own included, that are always selected.
        score_pooling: What a block's importance is, of the probabilities of the summaries that
            overlap it: their `sum`, weighted by the overlap, or the `max` of them (InfLLM-v2).
        score_norm: Blocks are scored by probabilities whose denominator is that of summaries so
            many times as long and as far apart (InfLLM-v2 has 4); 1 is a softmax.
        select_run: Blocks are ranked in runs of so many. The query's own run and all runs before
            it give half as many each at most, before `select_count` are chosen of these; one run
            is ranked as a whole. None ranks all blocks together. Weights that were trained by
            fla's kernel with `select_count` more than half a `select_block` saw this.
        window: Last tokens that are always attended to, the query's own included (w). In
            `union` mode it reaches back to the start of its first block, so that the keys are
            always whole blocks up to the query; there it is a multiple of `select_block`. 0, in
            `gated` mode alone, is no window: that branch gives zeros.
        dense_below: In `union` mode, texts shorter than this are attended to whole, by all of
            their queries.

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
            ValueError: If a value is out of range or two do not go together.
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
                f"compress_block {self.compress_block} is no multiple of "
                f"compress_stride {self.compress_stride}"
            )
        if self.select_block % self.compress_stride:
            raise ValueError(
                f"select_block {self.select_block} is no multiple of "
                f"compress_stride {self.compress_stride}"
            )
        if self.select_block % self.select_tile:
            raise ValueError(
                f"select_block {self.select_block} is no multiple of select_tile {self.select_tile}"
            )
        if self.combine == "union" and self.window % self.select_block:
            raise ValueError(
                f"window {self.window} is no multiple of select_block {self.select_block}, "
                "as combine='union' needs"
            )
        if self.select_tile % self.score_stride:
            raise ValueError(
                f"select_tile {self.select_tile} is no multiple of score_stride {self.score_stride}"
            )
        self._check_scoring()

    def _check_scoring(self) -> None:
        """Check how blocks are scored and ranked.

        Raises:
            ValueError: If a value is out of range or two do not go together.
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
        """Blocks before the query's own that the window of `union` mode holds."""
        return self.window // self.select_block

    @property
    def dense(self) -> bool:
        """Whether every key before the query is attended to, in one softmax."""
        return self.select_count is None and self.combine == "union"

    def covers(self, seq_len: int) -> bool:
        """Whether a text of `seq_len` tokens is attended to whole by its last query."""
        if self.combine != "union":
            return False
        if self.select_count is None or seq_len < self.dense_below:
            return True
        outside = (seq_len - 1) // self.select_block - self.window_blocks
        return outside <= self.select_count

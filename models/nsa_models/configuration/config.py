"""The configuration of a model equipped with Native Sparse Attention."""

from __future__ import annotations

from typing import Any

from transformers import AutoConfig, PretrainedConfig

from nsa_kernels.settings import AttentionSettings
from nsa_models.configuration.dense_families import describe_dense


def known_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """The same attention settings, once each is known by its name.

    Raises:
        TypeError: If one is not.
    """
    if unknown := sorted(settings.keys() - NSAConfig.__annotations__.keys()):
        raise TypeError(f"there is no setting called {', '.join(unknown)}")
    return settings


class NSAConfig(PretrainedConfig):
    """Shape of the transformer, and what its attention reads.

    Attention settings come twice: for reading a long text, and, with the prefix `answer_`, for
    the question and the answer that follow it. Untrained weights answer rightly only with a
    wider budget than they can be read with.

    Attributes:
        vocab_size: Token ids the model knows.
        hidden_size: Width of the residual stream.
        intermediate_size: Width of the MLP.
        num_hidden_layers: Decoder layers.
        num_attention_heads: Query heads (H).
        num_key_value_heads: Key/value groups (G).
        head_dim: Width of a head (D); `hidden_size / num_attention_heads` when None.
        hidden_act: Activation of the MLP.
        max_position_embeddings: Tokens of context the weights were trained for.
        initializer_range: Standard deviation of random weights.
        rms_norm_eps: Added to the variance by the norms.
        rope_parameters: Rotary embedding, as transformers writes it.
        rope_factors: `short` or `long`, which factors of LongRoPE to use; those of the context
            when None. See `rotary`.
        embedding_scale: What token embeddings are multiplied by (muP, Granite).
        residual_scale: What is added to the residual stream is multiplied by this (muP, Granite).
        logit_scale: What logits are multiplied by (muP, Granite).
        source_family: The published family of `families` that the weights come from, if any.
        gate_bias: Whether the projection to the gates has a bias, in `gated` mode.
        compression_branch: Whether the compression's output counts in `gated` mode; its
            probabilities choose the blocks in any case.
        attention_bias: Whether the query, key and value projections have biases.
        output_bias: Whether the attention's output projection has one.
        mlp_bias: Whether the MLP's projections have biases.
        qk_norm: Whether queries and keys are normalised per head (Qwen3).
        qk_norm_whole: Whether they are normalised before they are cut into heads (OLMo 2).
        norm_after: Whether a layer's norms follow its attention and its MLP (OLMo 2).
        no_rope_layers: (L,) 0 for each layer without a rotary embedding (SmolLM3, whose name for
            it this is) and 1 for others; None where all layers have it.
        attention_multiplier: What the products of queries and keys are multiplied with (Granite);
            1 / sqrt(D) when None.
        combine: `union` or `gated`; see `AttentionSettings`, as for all that follow.
        compress_block: Tokens of a summary while reading.
        compress_stride: Tokens between summaries while reading.
        select_block: Tokens of a selection block.
        select_count: Blocks selected while reading; None is dense attention.
        select_tile: Queries that share a selection while reading.
        score_stride: Every how many queries one is scored while reading.
        refine_count: Blocks whose summaries are scored one by one while reading, the best by
            coarser means; None scores all, as do summaries that overlap.
        init_blocks: First blocks that are always selected.
        local_blocks: Last blocks that are always selected.
        score_pooling: How summaries make a block's importance.
        score_norm: How much coarser the summaries are whose scores norm the others'.
        select_run: Blocks that are ranked together; None for all.
        dense_below: Texts shorter than this are attended to whole.
        compress_hidden: Inner width of a learned φ; None for means. What it makes is for reading
            and answering alike, so that `compress_block` and `answer_compress_block` are the
            same then, and so are the strides.
        window: Last tokens that are always attended to while reading.
        answer_compress_block: Tokens of a summary while answering.
        answer_compress_stride: Tokens between summaries while answering.
        answer_select_count: Blocks selected while answering; None is dense attention.
        answer_window: Last tokens that are always attended to while answering.
        evidence: (L, H) how much each head's look at a block tells what a question is about; all
            alike when None.
    """

    model_type = "native_sparse"

    vocab_size: int = 32000
    hidden_size: int = 512
    intermediate_size: int = 1536
    num_hidden_layers: int = 8
    num_attention_heads: int = 8
    num_key_value_heads: int = 2
    head_dim: int | None = None
    hidden_act: str = "silu"
    max_position_embeddings: int = 32768
    initializer_range: float = 0.02
    rms_norm_eps: float = 1e-6
    tie_word_embeddings: bool = False
    pad_token_id: int | None = None
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None
    rope_parameters: dict[str, Any] | None = None
    rope_factors: str | None = None
    embedding_scale: float = 1.0
    residual_scale: float = 1.0
    logit_scale: float = 1.0
    source_family: str | None = None
    gate_bias: bool = True
    compression_branch: bool = True
    attention_bias: bool = False
    output_bias: bool = False
    mlp_bias: bool = False
    qk_norm: bool = False
    qk_norm_whole: bool = False
    norm_after: bool = False
    no_rope_layers: list[int] | None = None
    attention_multiplier: float | None = None
    combine: str = "union"
    compress_block: int = 4
    compress_stride: int = 4
    select_block: int = 64
    select_count: int | None = 16
    select_tile: int = 64
    score_stride: int = 4
    refine_count: int | None = None
    init_blocks: int = 1
    local_blocks: int = 2
    score_pooling: str = "sum"
    score_norm: int = 1
    select_run: int | None = None
    dense_below: int = 0
    compress_hidden: int | None = None
    window: int = 512
    answer_compress_block: int = 4
    answer_compress_stride: int = 4
    answer_select_count: int | None = None
    answer_window: int = 512
    evidence: list[list[float]] | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        """Fill in what follows from the rest and check the attention settings."""
        if self.head_dim is None:
            self.head_dim = self.hidden_size // self.num_attention_heads
        if self.rope_parameters is None:
            self.rope_parameters = {"rope_type": "default", "rope_theta": 10000.0}
        super().__post_init__(**kwargs)
        if self.no_rope_layers is not None and len(self.no_rope_layers) != self.num_hidden_layers:
            raise ValueError(
                f"no_rope_layers has {len(self.no_rope_layers)} values for "
                f"{self.num_hidden_layers} layers"
            )
        if self.norm_after and self.residual_scale != 1.0:
            raise ValueError("norm_after and a residual_scale do not go together")
        partial = self.rope_parameters.get("partial_rotary_factor", 1.0) != 1.0
        if self.compress_hidden is not None and (partial or self.no_rope_layers is not None):
            raise ValueError(
                f"compress_hidden is {self.compress_hidden}; φ is made for keys that the rotary "
                "embedding turns whole, in every layer"
            )
        read, answered = self.prefill_settings(), self.answer_settings()
        kinds = [(each.compress_block, each.compress_stride) for each in (read, answered)]
        if self.compress_hidden is not None and kinds[0] != kinds[1]:
            raise ValueError(
                f"compress_hidden is {self.compress_hidden}, but reading and answering have "
                f"summaries of {kinds[0]} and {kinds[1]} (length, stride); make them the same"
            )

    def prefill_settings(self) -> AttentionSettings:
        """Settings for reading the text."""
        plain = self.compress_block == self.compress_stride
        return AttentionSettings(
            combine=self.combine,  # type: ignore[arg-type]
            compress_block=self.compress_block,
            compress_stride=self.compress_stride,
            select_block=self.select_block,
            select_count=self.select_count,
            select_tile=self.select_tile,
            score_stride=self.score_stride,
            refine_count=self.refine_count if plain else None,
            init_blocks=self.init_blocks,
            local_blocks=self.local_blocks,
            window=self.window,
            score_pooling=self.score_pooling,  # type: ignore[arg-type]
            score_norm=self.score_norm,
            select_run=self.select_run,
            dense_below=self.dense_below,
        )

    def answer_settings(self) -> AttentionSettings:
        """Settings for the question and the answer: every query selects for itself."""
        return AttentionSettings(
            combine=self.combine,  # type: ignore[arg-type]
            compress_block=self.answer_compress_block,
            compress_stride=self.answer_compress_stride,
            select_block=self.select_block,
            select_count=self.answer_select_count,
            init_blocks=self.init_blocks,
            local_blocks=self.local_blocks,
            window=self.answer_window,
            score_pooling=self.score_pooling,  # type: ignore[arg-type]
            score_norm=self.score_norm,
            select_run=self.select_run,
            dense_below=self.dense_below,
        )

    @classmethod
    def from_dense(cls, dense: PretrainedConfig, **settings: Any) -> NSAConfig:
        """Describe a dense checkpoint as a model with union attention.

        Args:
            dense: Configuration of one of `nsa_models.configuration.dense_families.DENSE_FAMILIES`.
            settings: Attention settings that differ from the defaults.

        Raises:
            ModelError: If the family, or something it does, is not supported.
        """
        return cls(**describe_dense(dense), **known_settings(settings))


AutoConfig.register(NSAConfig.model_type, NSAConfig, exist_ok=True)

"""The configuration of a model with Native Sparse Attention."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from nsa_kernels.settings import AttentionSettings
from nsa_models.configuration.dense_families import describe_dense

if TYPE_CHECKING:
    from transformers import PretrainedConfig

_HEAD_WEIGHTS_KEY = "evidence"
"""Key of `retrieval_head_weights` in config.json."""

BRANCH_KEYS = ("shared", "separate")
"""Values of `branch_keys`."""

COMPRESS_PHI = ("mean", "linear", "mlp")
"""Values of `compress_phi`."""

_FORMAT_2_FIELDS = (
    "combine", "compress_block", "compress_stride", "select_block", "select_count", "select_tile",
    "score_stride", "refine_count", "init_blocks", "local_blocks", "score_summary_block",
    "score_summary_stride", "score_pooling", "score_norm", "select_run", "window", "dense_below",
)  # fmt: skip
"""Attention settings in the keys of stored prefixes and in JSON output; removed ones are None."""


def attention_fields(settings: AttentionSettings) -> dict[str, Any]:
    """Return attention settings with the keys and the order of format 2."""
    return {name: getattr(settings, name, None) for name in _FORMAT_2_FIELDS}


def known_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """Return `settings` if `NSAConfig` has a field for each of them.

    Raises:
        TypeError: If `NSAConfig` lacks one.
    """
    if unknown := sorted(settings.keys() - NSAConfig.__annotations__.keys()):
        raise TypeError(f"unknown settings: {', '.join(unknown)}")
    return settings


def to_file_keys(values: dict[str, Any]) -> dict[str, Any]:
    """Return fields of `NSAConfig` under the keys of config.json."""
    values = dict(values)
    values[_HEAD_WEIGHTS_KEY] = values.pop("retrieval_head_weights", None)
    return values


def from_file_keys(values: dict[str, Any]) -> dict[str, Any]:
    """Return the keys of a config.json under the names of `NSAConfig`.

    Raises:
        ValueError: If a value is no longer supported.
    """
    values = dict(values)
    if _HEAD_WEIGHTS_KEY in values:
        values["retrieval_head_weights"] = values.pop(_HEAD_WEIGHTS_KEY)
    if "torch_dtype" in values:  # of older files
        values.setdefault("dtype", values.pop("torch_dtype"))
    if (count := values.pop("refine_count", None)) is not None:  # of older files
        raise ValueError(f"refine_count is {count}; it is no longer supported, remove it")
    return values


@dataclass(kw_only=True)
class NSAConfig:
    """Shape of the transformer and settings of its attention.

    `NSAPretrainedConfig` adds the interface of transformers, which takes a second to import.

    Prefill and answer have separate attention settings. The names of the answer's settings, for
    the question and the generated tokens, begin with `answer_`. Weights without sparse training
    need a larger budget for the answer than the prefill of a long text can afford.

    Attributes:
        vocab_size: Number of token ids (V).
        hidden_size: Width of the residual stream.
        intermediate_size: Width of the MLP.
        num_hidden_layers: Decoder layers (L).
        num_attention_heads: Query heads (H).
        num_key_value_heads: Key/value groups (G).
        head_dim: Width of a head (D); `hidden_size / num_attention_heads` when None.
        hidden_act: Activation of the MLP.
        max_position_embeddings: Context length of the training, in tokens.
        initializer_range: Standard deviation of random weights.
        rms_norm_eps: Added to the variance in norms.
        rope_parameters: Rotary embedding, as transformers writes it.
        rope_factors: LongRoPE's factor set, `short` or `long`; chosen by the context length when
            None. See `rotary`.
        embedding_scale: Multiplier of token embeddings (muP, Granite).
        residual_scale: Multiplier of additions to the residual stream (muP, Granite).
        logit_scale: Multiplier of logits (muP, Granite).
        source_family: Key in `families` of the published checkpoint, if it is one.
        gate_bias: Whether the gate projection has a bias, in `gated` mode.
        compression_branch: Whether the output of the compression branch is added in `gated`
            mode; its probabilities select blocks in any case.
        attention_bias: Whether query, key and value projections have biases.
        output_bias: Whether the attention's output projection has a bias.
        mlp_bias: Whether the MLP's projections have biases.
        qk_norm: Whether queries and keys are normalized per head (Qwen3).
        qk_norm_whole: Whether norms of queries and keys precede the split into heads (OLMo 2).
        norm_after: Whether norms follow attention and MLP instead of preceding them (OLMo 2).
        no_rope_layers: (L,) 0 for each layer without a rotary embedding and 1 for others
            (SmolLM3's name and convention); None when all layers have it.
        attention_multiplier: Multiplier of query-key products (Granite); 1 / sqrt(D) when None.
        combine: `union` or `gated`; see `AttentionSettings` for this and all that follow.
        compress_block: Tokens of a compression block during prefill.
        compress_stride: Tokens between the starts of compression blocks during prefill.
        select_block: Tokens of a selection block.
        select_count: Selected blocks during prefill; None is dense attention.
        select_tile: Queries that share a selection during prefill.
        score_stride: Every `score_stride`-th query is scored during prefill.
        init_blocks: Blocks at the start of the text that are always selected.
        local_blocks: Most recent blocks that are always selected.
        score_pooling: How scores of compressed keys become the importance of a block.
        score_norm: Coarseness of the compressed keys in the softmax denominator.
        select_run: Blocks that are ranked together; None for all.
        dense_below: Texts with fewer tokens than this use dense attention.
        compress_hidden: Inner width of a learned compression φ: with `compress_phi` of `mlp` that
            of its MLP, with `mean` that of an adapter's φ, which changes the means of the keys.
            With a learned φ, block and stride are the same for prefill and answer.
        compress_phi: How the layers of `gated` mode compress keys and values: `mean`, means of
            keys after the rotary embedding and of values; or by trained weights, `linear` or
            `mlp`, from keys before the rotary embedding, which then rotates each compressed key
            to the middle of its block.
        branch_keys: Whether compression, selection and window have `shared` keys and values, or
            `separate` projections for each, as in the paper; the latter only in `gated` mode.
        window: Sliding-window tokens during prefill.
        answer_compress_block: Tokens of a compression block for the answer.
        answer_compress_stride: Tokens between the starts of compression blocks for the answer.
        answer_select_count: Selected blocks for the answer; None is dense attention.
        answer_window: Sliding-window tokens for the answer.
        dtype: Type of the weights; a name such as `bfloat16` becomes the type.
        retrieval_head_weights: (L, H) weight of each head's attention in the retrieval score of
            a block; equal weights when None. Its key in config.json is `evidence`.
            Source: Wu et al. 2024, "Retrieval Head", arXiv 2404.15574.
    """

    model_type: ClassVar[str] = "native_sparse"

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
    init_blocks: int = 1
    local_blocks: int = 2
    score_pooling: str = "sum"
    score_norm: int = 1
    select_run: int | None = None
    dense_below: int = 0
    compress_hidden: int | None = None
    compress_phi: str = "mean"
    branch_keys: str = "shared"
    window: int = 512
    answer_compress_block: int = 4
    answer_compress_stride: int = 4
    answer_select_count: int | None = None
    answer_window: int = 512
    dtype: torch.dtype | str | None = None
    retrieval_head_weights: list[list[float]] | None = None

    def __post_init__(self) -> None:
        """Fill in derived values and check the attention settings.

        Raises:
            ValueError: If two values contradict each other.
        """
        if self.head_dim is None:
            self.head_dim = self.hidden_size // self.num_attention_heads
        if self.rope_parameters is None:
            self.rope_parameters = {"rope_type": "default", "rope_theta": 10000.0}
        if isinstance(self.dtype, str):
            self.dtype = getattr(torch, self.dtype)
        if self.no_rope_layers is not None and len(self.no_rope_layers) != self.num_hidden_layers:
            raise ValueError(
                f"no_rope_layers has {len(self.no_rope_layers)} values for "
                f"{self.num_hidden_layers} layers"
            )
        if self.norm_after and self.residual_scale != 1.0:
            raise ValueError("norm_after and residual_scale exclude each other")
        self.check_attention()

    def check_attention(self) -> None:
        """Check the attention settings, and that a learned φ fits both and the rotary embedding.

        Raises:
            ValueError: If two values contradict each other.
        """
        prefill, answer = self.prefill_settings(), self.answer_settings()
        self._check_branches(prefill, answer)
        if self.compress_hidden is None or self.branch_inputs:
            return
        assert self.rope_parameters is not None
        partial = self.rope_parameters.get("partial_rotary_factor", 1.0) != 1.0
        if partial or self.no_rope_layers is not None:
            raise ValueError(
                f"compress_hidden is {self.compress_hidden}; φ needs keys with a full rotary "
                "embedding in every layer"
            )
        kinds = [(x.compress_block, x.compress_stride) for x in (prefill, answer)]
        if kinds[0] != kinds[1]:
            raise ValueError(
                f"compress_hidden is {self.compress_hidden}, but prefill and answer have "
                f"compression blocks of {kinds[0]} and {kinds[1]} (length, stride); make them the "
                "same"
            )

    def _check_branches(self, prefill: AttentionSettings, answer: AttentionSettings) -> None:
        """Check the keys and values of the branches, and their φ.

        Raises:
            ValueError: If a value is unknown or two values contradict each other.
        """
        for name, valid in (("branch_keys", BRANCH_KEYS), ("compress_phi", COMPRESS_PHI)):
            if getattr(self, name) not in valid:
                raise ValueError(f"{name} is {getattr(self, name)!r}; valid are {valid}")
        if not self.branch_inputs:
            return
        asked = f"branch_keys={self.branch_keys!r} and compress_phi={self.compress_phi!r}"
        if self.combine != "gated":
            raise ValueError(f"{asked} need combine='gated'; it is {self.combine!r}")
        if (self.compress_phi == "mlp") != (self.compress_hidden is not None):
            raise ValueError(
                f"compress_hidden is {self.compress_hidden}; compress_phi='mlp' needs the width of "
                f"its MLP, and {asked} have no other use for it"
            )
        if self.branch_keys == "separate" and not (prefill.window and answer.window):
            raise ValueError("branch_keys='separate' needs a window; window or answer_window is 0")
        kinds = [(x.compress_block, x.compress_stride) for x in (prefill, answer)]
        if kinds[0] != kinds[1]:
            raise ValueError(
                f"{asked} need the same compression blocks for prefill and answer; they are "
                f"{kinds[0]} and {kinds[1]} (length, stride): set answer_compress_block and "
                "answer_compress_stride"
            )

    @property
    def branch_inputs(self) -> bool:
        """Whether the branches of a layer need more than the keys and values of its selection."""
        return self.branch_keys != "shared" or self.compress_phi != "mean"

    def prefill_settings(self) -> AttentionSettings:
        """Return the attention settings for the text."""
        return AttentionSettings(**self._attention())

    def answer_settings(self) -> AttentionSettings:
        """Return the attention settings for question and answer: each query selects its blocks."""
        values = self._attention()
        renamed = {
            name: f"answer_{name}" for name in values if hasattr(type(self), f"answer_{name}")
        }
        values |= {name: getattr(self, named) for name, named in renamed.items()}
        return AttentionSettings(**{**values, "select_tile": 1, "score_stride": 1})

    def _attention(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(AttentionSettings)}

    def to_dict(self) -> dict[str, Any]:
        """Return the fields and the model type under the keys of config.json."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        values["dtype"] = None if self.dtype is None else str(self.dtype).removeprefix("torch.")
        return {"model_type": self.model_type, **to_file_keys(values)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> NSAConfig:
        """Return the configuration of a config.json of this model type; other keys are ignored.

        Raises:
            ValueError: If two values contradict each other, or one is no longer supported.
        """
        values = from_file_keys(values)
        known = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in values.items() if name in known})

    @classmethod
    def from_dense(cls, dense: PretrainedConfig, **settings: Any) -> NSAConfig:
        """Return the configuration of a dense checkpoint with union attention.

        Args:
            dense: Configuration of one of `nsa_models.configuration.dense_families.DENSE_FAMILIES`.
            settings: Attention settings that differ from the defaults.

        Raises:
            ModelError: If the family or one of its features is not supported.
            TypeError: If a setting is unknown.
        """
        return cls(**describe_dense(dense), **known_settings(settings))

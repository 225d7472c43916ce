"""Description of a checkpoint from its configuration."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from nsa_kernels.settings import AttentionSettings
from nsa_models.cache.placement import cache_bytes
from nsa_models.configuration.config import NSAConfig
from nsa_models.configuration.families import FAMILIES
from nsa_models.configuration.yarn import longest_context
from nsa_models.errors import ModelError
from nsa_models.gguf.config import model_config
from nsa_models.gguf.file import read_gguf
from nsa_models.weights.load import buildable, dense_config, load_config

LENGTHS = (32768, 131072)
"""Lengths of texts in the memory table, in tokens."""

MODES = {
    "union": "one softmax over selected blocks and window",
    "gated": "compression, selection and window, each with a gate",
    "gated selection": "only selected blocks, with a gate",
    "gated dense": "all tokens, with the selection's gate",
    "infllm-v2": "one softmax over window and blocks, scored by their best compressed key",
    "dense": "all tokens",
}
"""Attention modes and their descriptions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Memory of a text of `tokens` tokens, in bytes; summaries are the compressed keys."""

    tokens: int
    weights_bytes: int
    keys_values_bytes: int
    summary_bytes: int
    total_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """Description of a checkpoint.

    Attributes:
        family: The `model_type`.
        title: Display name of the family.
        parameters: Number of weights; tied ones count once.
        dtype: Type of the weights.
        mode: Attention mode of the prefill, a key of `MODES`.
        trained: Whether the weights were trained with this mode.
        reading: Attention settings of the prefill.
        answering: Attention settings of question and answer.
        context_tokens: Context length of the training.
        extended_context_tokens: Context length with the model card's extension; None if it has
            none.
        memory: Memory at `LENGTHS`.
        notes: Limitations and their reasons.
    """

    family: str
    title: str
    parameters: int
    dtype: str
    mode: str
    trained: bool
    reading: AttentionSettings
    answering: AttentionSettings
    context_tokens: int
    extended_context_tokens: int | None
    memory: list[Memory]
    notes: list[str]


def describe(path: Path) -> Checkpoint:
    """Describe a checkpoint without reading its weights.

    Args:
        path: A Hugging Face folder or a `.gguf` file.

    Raises:
        ModelError: If the checkpoint cannot run.
    """
    config, family = _config(path)
    model = buildable(path, config)
    tied = model.lm_head.weight.numel() if config.tie_word_embeddings else 0
    parameters = sum(x.numel() for x in model.state_dict().values()) - tied
    dtype = config.dtype if isinstance(config.dtype, torch.dtype) else torch.float32
    mode, longest = _mode(config), longest_context(config, family)
    published = FAMILIES.get(family)
    return Checkpoint(
        family=family,
        title=published.title if published else family,
        parameters=parameters,
        dtype=str(dtype).removeprefix("torch."),
        mode=mode,
        trained=mode in ("dense", "gated dense", "infllm-v2") or config.combine == "gated",
        reading=config.prefill_settings(),
        answering=config.answer_settings(),
        context_tokens=config.max_position_embeddings,
        extended_context_tokens=longest if longest > config.max_position_embeddings else None,
        memory=[_memory(config, tokens, parameters, dtype) for tokens in LENGTHS],
        notes=_notes(config, family, longest),
    )


def _config(path: Path) -> tuple[NSAConfig, str]:
    if path.is_dir():
        return load_config(path)
    values = model_config(read_gguf(path))
    return dense_config(values), values["model_type"]


def _mode(config: NSAConfig) -> str:
    if config.combine == "gated":
        if config.select_count is None:
            return "gated dense"
        return "gated" if config.compression_branch else "gated selection"
    if config.select_count is None:
        return "dense"
    return "infllm-v2" if config.score_pooling == "max" else "union"


def _memory(config: NSAConfig, tokens: int, parameters: int, dtype: torch.dtype) -> Memory:
    weights, cache = parameters * dtype.itemsize, cache_bytes(config, tokens, dtype)
    assert config.head_dim is not None
    width = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim
    stored = tokens * width * dtype.itemsize
    return Memory(
        tokens=tokens,
        weights_bytes=weights,
        keys_values_bytes=stored,
        summary_bytes=cache - stored,
        total_bytes=weights + cache,
    )


def _notes(config: NSAConfig, family: str, longest: int) -> list[str]:
    notes = []
    if family == "minicpm" and config.score_pooling == "sum":
        notes.append(
            "config.json has no sparse_config: it runs as a dense checkpoint without sparse "
            "training; for InfLLM-v2 add the sparse_config of its model card"
        )
    if config.select_run is not None or config.score_pooling == "max" or config.window == 0:
        notes.append("on a GPU its attention runs in PyTorch: the Triton kernels lack this mode")
    if config.combine == "gated":
        notes.append("each answer verifies the whole stored KV cache instead of single blocks")
    if config.branch_keys == "separate":
        notes.append("compression, selection and window have separate keys and values")
    if config.branch_inputs:
        if config.compress_phi != "mean":
            notes.append(f"φ of keys and values is learned: {config.compress_phi}")
        notes.append("a stored text is reused for the same text alone, and on a CPU alone")
    notes += [
        f"a text of {tokens:,} tokens exceeds its context" for tokens in LENGTHS if tokens > longest
    ]
    return notes


def find(name: str, aliases: dict[str, Path]) -> Path:
    """Return the path of a checkpoint; of a hub id, only `config.json` is fetched.

    Args:
        name: An alias, a path or a hub id.
        aliases: Aliases and their paths.

    Raises:
        ModelError: If the checkpoint does not exist.
    """
    from nsa_models.hub.resolve import HUB_ID, from_hub

    path = aliases.get(name) or Path(name).expanduser()
    if path.name == "config.json":
        path = path.parent
    if path.exists():
        return path
    if HUB_ID.fullmatch(name) and path.suffix != ".gguf" and name not in aliases:
        return from_hub(name, patterns=["config.json"])
    raise ModelError(f"no model at {path}", code="model_missing")

"""What a checkpoint is, and how it will run, told from its configuration alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig

from nsa_kernels.settings import AttentionSettings
from nsa_models.cache.placement import cache_bytes
from nsa_models.configuration.config import NSAConfig
from nsa_models.configuration.families import FAMILIES
from nsa_models.configuration.yarn import longest_context
from nsa_models.errors import ModelError
from nsa_models.gguf.config import model_config
from nsa_models.gguf.file import read_gguf
from nsa_models.weights.load import buildable, load_config

LENGTHS = (32768, 131072)
"""Texts, in tokens, whose memory is told."""

MODES = {
    "union": "one softmax over selected blocks and window",
    "gated": "compression, selection and window, each with its gate",
    "gated selection": "selected blocks alone, with their gate",
    "gated dense": "every token, with the selection's gate",
    "infllm-v2": "one softmax over blocks scored by the greatest of their summaries, and window",
    "dense": "every token",
}
"""Ways to attend, and what each is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Bytes that a text of so many tokens takes; `summary_bytes` are what blocks are scored by."""

    tokens: int
    weights_bytes: int
    keys_values_bytes: int
    summary_bytes: int
    total_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A checkpoint.

    Attributes:
        family: Its `model_type`.
        title: What people call the family.
        parameters: Numbers of its weights; tied ones count once.
        dtype: Of the weights.
        mode: One of `MODES`: how it reads.
        trained: Whether the weights were trained for that.
        reading: What a query of the text attends to.
        answering: What a question and its answer attend to.
        context_tokens: What the weights were trained for.
        extended_context_tokens: What they carry with the extension of their model card, if more.
        memory: At `LENGTHS`.
        notes: What does not work, or not as quickly, and why.
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
    """Describe a checkpoint; its weights are not read.

    Args:
        path: A Hugging Face folder, or a `.gguf` file.

    Raises:
        ModelError: If it cannot be run: why.
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
    values: dict[str, Any] = dict(model_config(read_gguf(path)))
    family = values.pop("model_type")
    return NSAConfig.from_dense(AutoConfig.for_model(family, **values)), family


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
            "its config.json has no sparse_config: it reads as a dense checkpoint, untrained; add "
            "the one of its model card to read by InfLLM-v2"
        )
    if config.select_run is not None or config.score_pooling == "max" or config.window == 0:
        notes.append(
            "on a GPU it attends through PyTorch: the Triton kernels do not have this mode"
        )
    if config.combine == "gated":
        notes.append("a kept reading is checked whole before each answer, not block by block")
    notes += [
        f"a text of {tokens:,} tokens is longer than its context"
        for tokens in LENGTHS
        if tokens > longest
    ]
    return notes


def find(name: str, own: dict[str, Path]) -> Path:
    """Where a checkpoint lies: by a name of one's own, a path, or a hub id.

    Of a hub id, `config.json` alone is fetched.

    Args:
        name: As `--model` takes it, but for names of the registry.
        own: Names that stand for paths.

    Raises:
        ModelError: If there is none.
    """
    from nsa_models.hub.resolve import HUB_ID, from_hub

    path = own.get(name) or Path(name).expanduser()
    if path.name == "config.json":
        path = path.parent
    if path.exists():
        return path
    if HUB_ID.fullmatch(name) and path.suffix != ".gguf" and name not in own:
        return from_hub(name, patterns=["config.json"])
    raise ModelError(
        f"there is no model at {path}", hint="see `nsa models list`", code="model_missing"
    )

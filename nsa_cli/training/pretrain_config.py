"""The model and the settings of `nsa pretrain`: from a file, a named size and options."""

from __future__ import annotations

import difflib
import json
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch

from nsa_models.configuration.config import NSAConfig
from nsa_models.errors import DataError, UsageError
from nsa_models.modeling.model import NSALanguageModel
from nsa_models.training.pretrain_settings import PretrainSettings
from nsa_models.weights.load import load_config

SIZES: dict[str, dict[str, Any]] = {
    "toy": {
        "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2,
    },
    "60m": {
        "hidden_size": 640, "intermediate_size": 1728, "num_hidden_layers": 12,
        "num_attention_heads": 10, "num_key_value_heads": 2,
    },
    "130m": {
        "hidden_size": 896, "intermediate_size": 2432, "num_hidden_layers": 14,
        "num_attention_heads": 14, "num_key_value_heads": 2,
    },
}  # fmt: skip
"""Shapes by name; the names count parameters with a vocabulary of 16,384."""

_COMMON = {
    "tie_word_embeddings": True,
    "rope_parameters": {"rope_type": "default", "rope_theta": 500_000.0},
}

_NATIVE = {
    "combine": "gated", "compress_block": 32, "compress_stride": 16, "select_block": 64,
    "select_count": 16, "select_tile": 1, "score_stride": 1, "init_blocks": 1, "local_blocks": 2,
    "window": 512,
}  # fmt: skip
"""The paper's attention; other values in the file replace these."""

_SAME_FOR_ANSWER = ("compress_block", "compress_stride", "select_count", "window")

_SHAPE = frozenset({
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads", "head_dim", "hidden_act", "max_position_embeddings",
    "initializer_range", "rms_norm_eps", "tie_word_embeddings", "pad_token_id", "bos_token_id",
    "eos_token_id", "rope_parameters", "embedding_scale", "residual_scale", "logit_scale",
    "attention_bias", "output_bias", "mlp_bias", "qk_norm", "qk_norm_whole", "norm_after",
    "attention_multiplier",
})  # fmt: skip
"""Fields of `NSAConfig` that both twins share; the others belong to the sparse attention."""

_TABLES = ("model", "training")
_NOT_IN_FILE = {"seconds", "limit_seconds"}


def read_config_file(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read the tables `model` and `training` of a TOML or JSON file.

    Raises:
        DataError: If the file cannot be read.
        UsageError: If it has a table or a field that does not exist.
    """
    try:
        content = path.read_text(encoding="utf-8")
        values = json.loads(content) if path.suffix == ".json" else tomllib.loads(content)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}", code="missing") from error
    except ValueError as error:
        kind = "JSON" if path.suffix == ".json" else "TOML"
        raise DataError(f"{path} is not valid {kind}: {error}", code="broken") from error
    if not isinstance(values, dict) or not all(isinstance(x, dict) for x in values.values()):
        raise DataError(f"{path} has values outside [model] and [training]", code="broken")
    _check_names(values, _TABLES, f"{path}: no table")
    model, training = (values.get(name, {}) for name in _TABLES)
    known = {"size", *_model_fields()}
    _check_names(model, known, f"{path}, [model]: unknown field")
    settings = ({each.name for each in fields(PretrainSettings)} - _NOT_IN_FILE) | {"minutes"}
    _check_names(training, settings, f"{path}, [training]: unknown field")
    return model, training


def _model_fields() -> set[str]:
    """Return the fields of a new model; the others belong to checkpoints and adapters."""
    names = {each.name for each in fields(NSAConfig)}
    return names - {"dtype", "source_family", "retrieval_head_weights"}


def _check_names(values: Mapping[str, Any], known: Collection[str], what: str) -> None:
    for name in values:
        if name not in known:
            near = difflib.get_close_matches(name, sorted(known), 1)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(sorted(known))}"
            raise UsageError(f"{what} {name!r}", hint=hint)


def model_config(
    values: Mapping[str, Any], *, attention: str, context: int, vocab_size: int, end_id: int
) -> NSAConfig:
    """Return the configuration of a new model.

    Args:
        values: Fields of `NSAConfig`, and `size`, one of `SIZES`.
        attention: `nsa` or `dense`; the latter drops the fields of the sparse attention.
        context: Context length in tokens.
        vocab_size: Number of token ids of the shards.
        end_id: The token after each document.

    Raises:
        UsageError: If the size is unknown or two values contradict each other.
    """
    values = dict(values)
    size = values.pop("size", None)
    if size is not None and size not in SIZES:
        raise UsageError(f"no size {size!r}", hint=f"use {', '.join(SIZES)}")
    chosen = {**_COMMON, **(SIZES[size] if size else {}), **values}
    if chosen.setdefault("vocab_size", vocab_size) < vocab_size:
        raise UsageError(
            f"vocab_size is {chosen['vocab_size']}, and the shards have {vocab_size:,} tokens",
            hint="leave vocab_size out",
        )
    chosen |= {"max_position_embeddings": context, "eos_token_id": end_id}
    if attention == "dense":
        chosen = {name: value for name, value in chosen.items() if name in _SHAPE}
        chosen |= {"select_count": None, "answer_select_count": None}
    else:
        chosen = {**_NATIVE, **chosen}
        for name in _SAME_FOR_ANSWER:
            chosen.setdefault(f"answer_{name}", chosen[name])
    try:
        config = NSAConfig(**chosen)
        with torch.device("meta"):
            NSALanguageModel(config)
    except (ArithmeticError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise _invalid_model(str(error)) from error
    if config.num_attention_heads % config.num_key_value_heads:
        raise _invalid_model(
            f"num_attention_heads is {config.num_attention_heads}, not a multiple of "
            f"num_key_value_heads, {config.num_key_value_heads}"
        )
    return config


def _invalid_model(why: str) -> UsageError:
    reason = why.splitlines()[0] if why else "unknown"
    return UsageError(f"the model's configuration is invalid: {reason}", hint="change [model]")


def pretrain_settings(
    values: Mapping[str, Any], *, tokens: int | None, minutes: float | None, **more: Any
) -> PretrainSettings:
    """Return the settings of a training.

    With a number of tokens the schedule follows the tokens, and the minutes limit this run. With
    minutes alone the schedule follows the time.

    Args:
        values: The table `training` of the file.
        tokens: Tokens of the training; the file's when None.
        minutes: Minutes; the file's when None.
        more: Other settings that replace the file's; None replaces nothing.

    Raises:
        UsageError: If a value is invalid or there is no budget.
    """
    chosen = {**values, **{name: value for name, value in more.items() if value is not None}}
    in_file = chosen.pop("minutes", None)
    minutes = in_file if minutes is None else minutes
    tokens = chosen.pop("tokens", None) if tokens is None else tokens
    chosen.pop("tokens", None)
    if tokens is None and minutes is None:
        raise UsageError("the training has no budget", hint="give --tokens or --minutes")
    try:
        seconds = None if minutes is None else float(minutes) * 60
        limit = "seconds" if tokens is None else "limit_seconds"
        return PretrainSettings(**{**chosen, "tokens": tokens, limit: seconds})
    except (ValueError, TypeError) as error:
        raise UsageError(f"invalid settings: {error}", hint="change [training]") from error


def continued_model(folder: Path, attention: str) -> dict[str, Any]:
    """Return the fields of a trained folder's model, for a training that starts from its weights.

    Args:
        folder: A folder that `nsa pretrain` wrote.
        attention: `nsa` or `dense`; fields of the sparse attention are dropped for another one.

    Raises:
        ModelError: If the folder has no valid configuration.
    """
    config, _ = load_config(folder)
    values = {name: getattr(config, name) for name in _model_fields()}
    native = config.combine == "gated"
    if attention == "nsa" and not native:
        values = {name: value for name, value in values.items() if name in _SHAPE}
    return {name: value for name, value in values.items() if value is not None}

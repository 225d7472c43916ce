"""A folder of weights becomes a model that can run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn
from transformers import AutoConfig

from nsa_models.configuration.config import NSAConfig, known_settings
from nsa_models.configuration.dense_families import split_fused
from nsa_models.configuration.families import FAMILIES, family_config
from nsa_models.errors import ModelError
from nsa_models.modeling.int8 import QUANTIZATIONS, quantize
from nsa_models.modeling.model import NSALanguageModel
from nsa_models.weights.adapter import adapter_settings, apply_adapter, load_adapter
from nsa_models.weights.device_map import device_map, dispatch, place

EVIDENCE = "evidence"
"""Name of `NSALanguageModel.evidence` in a file of prepared weights."""


def load_weights(folder: Path) -> dict[str, Tensor]:
    """Map every tensor of a folder's safetensors files; nothing is read until it is used.

    Raises:
        ModelError: If the files are missing or broken.
    """
    index = folder / "model.safetensors.index.json"
    try:
        if index.exists():
            names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
        else:
            names = ["model.safetensors"]
        tensors: dict[str, Tensor] = {}
        for name in names:
            tensors.update(_mapped(folder / name))
    except FileNotFoundError as error:
        raise ModelError(
            f"{folder} has no weights in safetensors format ({Path(str(error)).name})",
            hint="name a folder with model.safetensors, or a .gguf file",
            code="model_missing",
        ) from error
    except Exception as error:
        raise ModelError(
            f"the weights in {folder} cannot be read: {error}",
            hint="fetch the model again",
            code="model_broken",
        ) from error
    return tensors


def published_values(path: Path) -> dict[str, Any] | None:
    """The fields of a `config.json`, if it is one of `FAMILIES`."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None  # transformers says what is wrong with it
    named = isinstance(values, dict) and values.get("model_type") in FAMILIES
    return values if named else None


def _mapped(path: Path) -> dict[str, Tensor]:
    with safe_open(path, framework="pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118


def load_config(
    folder: Path, adapter: Path | None = None, **settings: Any
) -> tuple[NSAConfig, str]:
    """Read a folder's configuration as an `NSAConfig`, and its model family.

    Args:
        folder: A Hugging Face folder, of a dense family, of one of `families` or of
            `NSALanguageModel` itself.
        adapter: Folder of trained changes, whose settings replace the stored ones.
        settings: Attention settings that replace those.

    Raises:
        ModelError: If it is missing, broken or of an unsupported architecture.
    """
    if adapter is not None:
        settings = {**adapter_settings(adapter), **settings}
    path = folder / "config.json"
    if not path.is_file():
        raise ModelError(
            f"{folder} is no model: it has no config.json",
            hint="name a Hugging Face folder, a .gguf file or a model of `nsa --help`",
            code="model_missing",
        )
    if (values := published_values(path)) is not None:
        config = family_config(values, **known_settings(settings))
        return config, str(config.source_family)
    try:
        config = AutoConfig.from_pretrained(folder)
    except Exception as error:
        why = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(
            f"{path} cannot be used: {why}",
            hint="choose another model with --model",
            code="model_unsupported",
        ) from error
    if not isinstance(config, NSAConfig):
        return NSAConfig.from_dense(config, **settings), str(config.model_type)
    for name, value in known_settings(settings).items():
        setattr(config, name, value)
    config.prefill_settings()
    config.answer_settings()
    return config, config.model_type


def buildable(
    folder: Path, config: NSAConfig, kind: type[NSALanguageModel] = NSALanguageModel
) -> NSALanguageModel:
    """A model of a configuration, without numbers.

    Raises:
        ModelError: If the configuration, which lies in `folder`, describes none.
    """
    try:
        with torch.device("meta"):
            return kind(config)
    except (KeyError, ValueError, TypeError, RuntimeError) as error:
        raise ModelError(
            f"the configuration of {folder} describes no model that can be built: {error}",
            hint="choose another model with --model",
            code="model_unsupported",
        ) from error


def load_model(
    folder: Path,
    config: NSAConfig,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    quantization: str | None = None,
    adapter: Path | None = None,
    prepared: Path | None = None,
    kind: type[NSALanguageModel] = NSALanguageModel,
) -> NSALanguageModel:
    """Build a model around mapped weights.

    Args:
        folder: Where the safetensors files are.
        config: From `load_config`.
        device: Where to run; a card that has no room for the weights stands for all cards.
        dtype: Of the weights; as stored when None.
        quantization: One of `QUANTIZATIONS`, to store them in fewer bits; on a CPU alone.
        adapter: Folder of trained changes, the one that `config` was read with.
        prepared: File of weights with these changes and in these bits already, in the place of
            `adapter`; see `nsa_models.weights.prepared`.
        kind: Its class, such as `NSAForCausalLM`.

    Raises:
        ValueError: If there is no such quantization.
        ModelError: If tensors are missing, surplus or of another shape.
        DoesNotFitError: If all cards together have no room for them.
    """
    if quantization is not None and quantization not in QUANTIZATIONS:
        raise ValueError(f"quantization is {quantization!r}; valid are {QUANTIZATIONS}")
    published = FAMILIES.get(config.source_family or "")
    tensors, evidence = _named_as_ours(load_weights(folder), config), None
    if prepared is not None:
        tensors |= _prepared(prepared)
        evidence = tensors.pop(EVIDENCE, None)
    embedding = tensors.get("model.embed_tokens.weight")
    if config.tie_word_embeddings and embedding is not None:
        tensors.setdefault("lm_head.weight", embedding)
    model = buildable(folder, config, kind)
    if prepared is not None and quantization is not None:
        quantize(model)
    wanted = model.state_dict()
    if adapter is not None:
        wanted = {name: x for name, x in wanted.items() if ".compression." not in name}
    unused = sorted(k for k in tensors.keys() - wanted.keys() if not k.endswith("inv_freq"))
    missing = sorted(wanted.keys() - tensors.keys())
    wrong = sorted(k for k in wanted.keys() & tensors.keys() if wanted[k].shape != tensors[k].shape)
    for problem, names in (("lacks", missing), ("has surplus", unused), ("misshapes", wrong)):
        if names:
            names = names if published is None else [published.published(x) for x in names]
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            raise ModelError(
                f"{folder} {problem} {', '.join(names[:3])}{more}",
                hint="its config.json and its weights do not belong together",
                code="model_broken",
            )
    model.load_state_dict(
        {name: tensors[name].to(dtype=dtype) for name in wanted},
        assign=True,
        strict=adapter is None,
    )
    _tie(model)
    if adapter is not None:
        apply_adapter(model, load_adapter(adapter))
    model.eval()
    model.requires_grad_(False)
    if prepared is not None:
        model.evidence = evidence
    elif quantization is not None:
        quantize(model)
    place(model, torch.device(device))
    return model


def _tie(model: NSALanguageModel) -> None:
    """Have the output projection share the embedding's weights, if it does and is not rounded."""
    if model.config.tie_word_embeddings and isinstance(model.lm_head, nn.Linear):
        model.lm_head.weight = model.model.embed_tokens.weight


def _named_as_ours(tensors: dict[str, Tensor], config: NSAConfig) -> dict[str, Tensor]:
    """A checkpoint's tensors under our names, those that it holds as one apart."""
    published = FAMILIES.get(config.source_family or "")
    if published is not None:
        tensors = {published.ours(name): tensor for name, tensor in tensors.items()}
    assert config.head_dim is not None
    return split_fused(
        tensors,
        config.num_attention_heads * config.head_dim,
        config.num_key_value_heads * config.head_dim,
    )


def _prepared(path: Path) -> dict[str, Tensor]:
    try:
        return _mapped(path)
    except Exception as error:
        raise ModelError(
            f"the prepared weights {path} cannot be read: {error}",
            hint="remove the file; it is made again",
            code="model_broken",
        ) from error


def random_model(
    config: NSAConfig, *, device: torch.device | str = "cpu", dtype: torch.dtype | None = None
) -> NSALanguageModel:
    """A model of a configuration's shape with random weights: as quick, and of no other use.

    Args:
        config: From `load_config`.
        device: Where to run; a card that has no room for the weights stands for all cards.
        dtype: Of the weights; the configuration's when None.

    Raises:
        DoesNotFitError: If all cards together have no room for them.
    """
    with torch.device("meta"):
        model = NSALanguageModel(config)
    model.to(dtype or (config.dtype if isinstance(config.dtype, torch.dtype) else None))
    _tie(model)
    placed = device_map(model, torch.device(device))
    for name, where in placed.items():
        model.get_submodule(name).to_empty(device=where)
    for name, weight in model.named_parameters():
        if name.endswith("norm.weight"):
            nn.init.ones_(weight)
        else:
            nn.init.normal_(weight, std=config.initializer_range)
    _tie(model)
    model.eval().requires_grad_(False)
    dispatch(model, placed)
    return model

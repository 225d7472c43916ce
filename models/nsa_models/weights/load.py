"""Load a model from a folder of weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from nsa_models.configuration.config import NSAConfig, known_settings
from nsa_models.configuration.dense_families import split_fused
from nsa_models.configuration.families import FAMILIES, family_config
from nsa_models.configuration.plain_dense import describe_plain
from nsa_models.errors import ModelError
from nsa_models.model_folder import KEPT, WEIGHTS, lacks_weights
from nsa_models.modeling.int8 import QUANTIZATIONS, quantize
from nsa_models.modeling.model import NSALanguageModel
from nsa_models.weights.adapter import (
    HEAD_WEIGHTS,
    adapter_settings,
    apply_adapter,
    load_adapter,
)
from nsa_models.weights.device_map import device_map, dispatch, move_model


def load_weights(folder: Path, *, whole: bool = True) -> dict[str, Tensor]:
    """Map every tensor of a folder's safetensors files; data is read at first use.

    Args:
        folder: The folder.
        whole: Whether to make weights again that were removed from a converted folder.

    Raises:
        ModelError: If the files are missing or broken.
    """
    if whole and lacks_weights(folder):
        from nsa_models.gguf.shrink import restore  # reads GGUF files with large libraries

        restore(folder)
    index = folder / "model.safetensors.index.json"
    try:
        if index.exists():
            names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
        else:
            names = [KEPT if lacks_weights(folder) else WEIGHTS]
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
            f"cannot read the weights in {folder}: {error}",
            hint="fetch the model again",
            code="model_broken",
        ) from error
    return tensors


def config_values(path: Path) -> dict[str, Any]:
    """Return the content of a `config.json`; empty if it cannot be read."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}  # transformers reports the error
    return values if isinstance(values, dict) else {}


def _mapped(path: Path) -> dict[str, Tensor]:
    with safe_open(path, framework="pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118


def load_config(
    folder: Path, adapter: Path | None = None, **settings: Any
) -> tuple[NSAConfig, str]:
    """Read a folder's configuration and its model family.

    Args:
        folder: A Hugging Face folder of a dense family, of one of `families` or of
            `NSALanguageModel`.
        adapter: Folder of an adapter, whose settings replace the stored ones.
        settings: Attention settings that replace both.

    Raises:
        ModelError: If the configuration is missing, broken or not supported.
        TypeError: If a setting is unknown.
    """
    if adapter is not None:
        settings = {**adapter_settings(adapter), **settings}
    path = folder / "config.json"
    if not path.is_file():
        raise ModelError(f"{folder} is not a model: it has no config.json", code="model_missing")
    values = config_values(path)
    family = str(values.get("model_type"))
    if family in FAMILIES:
        config = family_config(values, **known_settings(settings))
        return config, str(config.source_family)
    if family != NSAConfig.model_type:
        return dense_config(values, folder, **settings), family
    try:
        config = NSAConfig.from_dict(values)
    except (ValueError, TypeError, ZeroDivisionError) as error:
        raise _unusable(path, error) from error
    for name, value in known_settings(settings).items():
        setattr(config, name, value)
    config.check_attention()
    return config, NSAConfig.model_type


def dense_config(values: dict[str, Any], folder: Path | None = None, **settings: Any) -> NSAConfig:
    """Return the configuration of a dense checkpoint; transformers reads unusual ones.

    Args:
        values: Content of its `config.json`.
        folder: Its folder, if it has one.
        settings: Attention settings that replace the defaults.

    Raises:
        ModelError: If the configuration is broken or not supported.
        TypeError: If a setting is unknown.
    """
    if (described := describe_plain(values)) is not None:
        return NSAConfig(**described, **known_settings(settings))
    from transformers import AutoConfig  # takes a second

    if folder is None:
        return NSAConfig.from_dense(AutoConfig.for_model(**values), **settings)
    try:
        config = AutoConfig.from_pretrained(folder)
    except Exception as error:
        raise _unusable(folder / "config.json", error) from error
    return NSAConfig.from_dense(config, **settings)


def _unusable(path: Path, error: Exception) -> ModelError:
    why = (str(error).splitlines() or [type(error).__name__])[0]
    return ModelError(f"cannot use {path}: {why}", code="model_unsupported")


def buildable(
    folder: Path, config: NSAConfig, kind: type[NSALanguageModel] = NSALanguageModel
) -> NSALanguageModel:
    """Return a model of a configuration on the meta device.

    Raises:
        ModelError: If the configuration, read from `folder`, is invalid.
    """
    try:
        with torch.device("meta"):
            return kind(config)
    except (KeyError, ValueError, TypeError, RuntimeError) as error:
        raise ModelError(
            f"the configuration of {folder} is invalid: {error}", code="model_unsupported"
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
        folder: Folder of the safetensors files.
        config: Configuration from `load_config`.
        device: Device of the model; a model too large for one GPU is spread over all GPUs.
        dtype: Type of the weights; as stored when None.
        quantization: One of `QUANTIZATIONS`, on a CPU only; None for no quantization.
        adapter: Folder of the adapter that `config` was read with.
        prepared: File of prepared weights with the adapter and the quantization, instead of
            `adapter`; see `nsa_models.weights.prepared`.
        kind: Class of the model, such as `NSAForCausalLM`.

    Raises:
        ValueError: If the quantization is unknown.
        ModelError: If tensors are missing, surplus or of another shape.
        DoesNotFitError: If all GPUs together are too small.
    """
    if quantization is not None and quantization not in QUANTIZATIONS:
        raise ValueError(f"quantization is {quantization!r}; valid are {QUANTIZATIONS}")
    tensors = _internal_tensors(load_weights(folder, whole=prepared is None), config)
    tensors |= {} if prepared is None else _prepared(prepared)
    head_weights = None if prepared is None else tensors.pop(HEAD_WEIGHTS, None)
    embedding = tensors.get("model.embed_tokens.weight")
    if config.tie_word_embeddings and embedding is not None:
        tensors.setdefault("lm_head.weight", embedding)
    model = buildable(folder, config, kind)
    if prepared is not None and quantization is not None:
        quantize(model)
    needed = model.state_dict()
    if adapter is not None:
        needed = {name: x for name, x in needed.items() if ".compression." not in name}
    _check_tensors(folder, config, tensors, needed)
    model.load_state_dict(
        {name: tensors[name].to(dtype=dtype) for name in needed},
        assign=True,
        strict=adapter is None,
    )
    _tie(model)
    if adapter is not None:
        apply_adapter(model, load_adapter(adapter))
    model.eval().requires_grad_(False)
    if prepared is not None:
        model.retrieval_head_weights = head_weights
    elif quantization is not None:
        quantize(model)
    move_model(model, torch.device(device))
    return model


def _check_tensors(
    folder: Path, config: NSAConfig, found: dict[str, Tensor], needed: dict[str, Tensor]
) -> None:
    """Raise `ModelError` if tensors are missing, surplus or of another shape."""
    published = FAMILIES.get(config.source_family or "")
    surplus = sorted(k for k in found.keys() - needed.keys() if not k.endswith("inv_freq"))
    missing = sorted(needed.keys() - found.keys())
    wrong = sorted(k for k in needed.keys() & found.keys() if needed[k].shape != found[k].shape)
    for problem, names in (
        ("lacks", missing),
        ("has surplus", surplus),
        ("has wrong shapes of", wrong),
    ):
        if names:
            names = names if published is None else [published.published_name(x) for x in names]
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            raise ModelError(
                f"{folder} {problem} {', '.join(names[:3])}{more}",
                hint="config.json and weights are of different models",
                code="model_broken",
            )


def _tie(model: NSALanguageModel) -> None:
    """Share the embedding's weights with the output projection if tied and not quantized."""
    if model.config.tie_word_embeddings and isinstance(model.lm_head, nn.Linear):
        model.lm_head.weight = model.model.embed_tokens.weight


def _internal_tensors(tensors: dict[str, Tensor], config: NSAConfig) -> dict[str, Tensor]:
    """Return a checkpoint's tensors under internal names, fused projections split."""
    published = FAMILIES.get(config.source_family or "")
    if published is not None:
        tensors = {published.internal_name(name): tensor for name, tensor in tensors.items()}
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
            f"cannot read the prepared weights {path}: {error}",
            hint="remove the file; it is created again",
            code="model_broken",
        ) from error


def random_model(
    config: NSAConfig, *, device: torch.device | str = "cpu", dtype: torch.dtype | None = None
) -> NSALanguageModel:
    """Return a model with random weights, for measurements of speed.

    Args:
        config: Configuration from `load_config`.
        device: Device of the model; a model too large for one GPU is spread over all GPUs.
        dtype: Type of the weights; the configuration's when None.

    Raises:
        DoesNotFitError: If all GPUs together are too small.
    """
    with torch.device("meta"):
        model = NSALanguageModel(config)
    model.to(dtype or (config.dtype if isinstance(config.dtype, torch.dtype) else None))
    _tie(model)
    devices = device_map(model, torch.device(device))
    for name, place in devices.items():
        model.get_submodule(name).to_empty(device=place)
    for name, weight in model.named_parameters():
        if name.endswith("norm.weight"):
            nn.init.ones_(weight)
        else:
            nn.init.normal_(weight, std=config.initializer_range)
    _tie(model)
    model.eval().requires_grad_(False)
    dispatch(model, devices)
    return model

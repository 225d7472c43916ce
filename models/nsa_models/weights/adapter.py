"""Adapters: the result of native training on a dense checkpoint, as small files.

A folder holds `adapter.json` and safetensors files: low-rank changes of the projections, the φ of
every layer, and the weights of the retrieval heads.

Letters: L layers, H query heads, r rank of a change, D head dim.

Source: Hu et al. 2022, "LoRA", arXiv 2106.09685.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from nsa_models.configuration.config import NSAConfig
from nsa_models.errors import ModelError
from nsa_models.modeling.compression import Compression
from nsa_models.modeling.low_rank import LowRankChanges
from nsa_models.modeling.model import NSALanguageModel

FORMAT = 1
_FILE_BYTES = 15 * 2**20
"""Maximum size of one file, for hosts without support for large files."""

HEAD_WEIGHTS = "evidence"
"""Name of `NSALanguageModel.retrieval_head_weights` in files of adapters and prepared weights."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """Trained changes of a model.

    Attributes:
        base: Fingerprint of the base weights or of their source file.
        settings: Values of `NSAConfig` during training.
        scale: Multiplier of the low-rank changes.
        tensors: `lora.MODULE.a` (r, in) and `lora.MODULE.b` (out, r),
            `compression.LAYER.PARAMETER`, and `evidence` (L, H), the retrieval-head weights.
        about: Recipe, data, tokens and results, for the model card.
    """

    base: str
    settings: dict[str, Any]
    scale: float
    tensors: dict[str, Tensor]
    about: dict[str, Any]


def save_adapter(folder: Path, adapter: Adapter) -> None:
    """Write an adapter in files of at most 15 MiB, and remove the files of an older one."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("adapter-*.safetensors"):
        old.unlink()
    files: list[dict[str, Tensor]] = [{}]
    size = 0
    for name, tensor in sorted(adapter.tensors.items()):
        if size + tensor.nbytes > _FILE_BYTES and files[-1]:
            files.append({})
            size = 0
        files[-1][name] = tensor.detach().cpu().contiguous()
        size += tensor.nbytes
    for number, tensors in enumerate(files, 1):
        save_file(tensors, folder / f"adapter-{number}.safetensors")
    head = {
        "format": FORMAT,
        "base": adapter.base,
        "settings": adapter.settings,
        "scale": adapter.scale,
        "about": adapter.about,
    }
    (folder / "adapter.json").write_text(json.dumps(head, indent=2) + "\n")


def load_adapter(folder: Path) -> Adapter:
    """Read an adapter.

    Raises:
        ModelError: With code `adapter_broken` if it is missing, broken or of another format.
    """
    try:
        head = _head(folder)
        tensors: dict[str, Tensor] = {}
        for path in sorted(folder.glob("adapter-*.safetensors")):
            with safe_open(path, framework="pt") as file:
                tensors.update((key, file.get_tensor(key)) for key in file.keys())  # noqa: SIM118
        return Adapter(
            base=head["base"],
            settings=head["settings"],
            scale=float(head["scale"]),
            tensors=tensors,
            about=head["about"],
        )
    except Exception as error:
        raise _unreadable(folder, error) from error


def adapter_settings(folder: Path) -> dict[str, Any]:
    """Read the values of `NSAConfig` of an adapter, without its tensors.

    Raises:
        ModelError: With code `adapter_broken` if it is missing, broken or of another format.
    """
    try:
        return dict(_head(folder)["settings"])
    except Exception as error:
        raise _unreadable(folder, error) from error


def _head(folder: Path) -> dict[str, Any]:
    head: dict[str, Any] = json.loads((folder / "adapter.json").read_text())
    if head["format"] != FORMAT:
        raise ValueError(f"format {head['format']}, not {FORMAT}")
    return head


def _unreadable(folder: Path, error: Exception) -> ModelError:
    return ModelError(f"cannot read the adapter in {folder}: {error}", code="adapter_broken")


def attach_compression(model: NSALanguageModel, config: NSAConfig) -> None:
    """Set the model's configuration and give every layer a φ that starts as the mean."""
    assert config.head_dim is not None
    assert config.compress_hidden is not None
    model.config = config
    for attention in model.attentions:
        attention.compression = compression_like_mean(
            config.compress_block, config.compress_stride, config.head_dim, config.compress_hidden
        ).to(model.device)


def load_compression(model: NSALanguageModel, tensors: dict[str, Tensor], prefix: str) -> set[str]:
    """Load every layer's φ from the tensors `{prefix}{layer}.{parameter}`; return their names."""
    taken: set[str] = set()
    for number, attention in enumerate(model.attentions):
        phi, start = attention.compression, f"{prefix}{number}."
        assert phi is not None
        phi_tensors = {k: x for k, x in tensors.items() if k.startswith(start)}
        phi.load_state_dict({k.removeprefix(start): x for k, x in phi_tensors.items()})
        taken |= phi_tensors.keys()
    return taken


def compression_like_mean(block: int, stride: int, head_dim: int, hidden: int) -> Compression:
    """Return a φ that computes the mean before training."""
    phi = Compression(block, stride, head_dim, hidden)
    nn.init.zeros_(phi.outer.weight)
    nn.init.zeros_(phi.outer.bias)
    return phi


def apply_adapter(model: NSALanguageModel, adapter: Adapter) -> None:
    """Merge an adapter into a model whose configuration has the adapter's settings.

    Raises:
        ModelError: With code `adapter_mismatch` if the adapter belongs to another model.
    """
    modules: dict[str, Any] = dict(model.named_modules())
    expected = {HEAD_WEIGHTS}
    try:
        for name, a in adapter.tensors.items():
            kind, _, rest = name.partition(".")
            if kind != "lora" or not rest.endswith(".a"):
                continue
            path = rest.removesuffix(".a")
            expected |= {name, f"lora.{path}.b"}
            module = modules[path]
            b, weight = adapter.tensors[f"lora.{path}.b"], module.weight
            change = (b.float() @ a.float()).to(weight.device) * adapter.scale
            module.weight = nn.Parameter(
                (weight.float() + change).to(weight.dtype), requires_grad=False
            )
        if model.config.compress_hidden is not None:
            attach_compression(model, model.config)
            expected |= load_compression(model, adapter.tensors, "compression.")
            for attention in model.attentions:
                assert attention.compression is not None
                attention.compression.to(model.dtype).requires_grad_(False)
        if (weights := adapter.tensors.get(HEAD_WEIGHTS)) is not None:
            shape = (model.config.num_hidden_layers, model.config.num_attention_heads)
            if tuple(weights.shape) != shape:
                raise ValueError(f"{HEAD_WEIGHTS} is {tuple(weights.shape)}, not {shape}")
            model.retrieval_head_weights = weights.to(model.device)
        if surplus := sorted(adapter.tensors.keys() - expected):
            raise ValueError(f"unexpected tensor {surplus[0]}")
    except (KeyError, ValueError, RuntimeError, AttributeError) as error:
        raise ModelError(
            f"the adapter does not belong to this model: {error}", code="adapter_mismatch"
        ) from error


def attach_verifier(model: NSALanguageModel, adapter: Adapter) -> None:
    """Give a model the changes by which it checks answers; they are off until switched on.

    They are in fp32 on a CPU, where products in bf16 may be slow.

    Raises:
        ModelError: With code `adapter_mismatch` if they belong to another model.
    """
    dtype = torch.float32 if model.device.type == "cpu" else model.dtype
    modules = dict(model.named_modules())
    matrices = {}
    for name, tensor in adapter.tensors.items():
        path = name.removeprefix("lora.")
        weight = getattr(modules.get(path.rpartition(".")[0]), "weight", tensor)
        matrices[path] = tensor.to(weight.device, dtype)
    model.verifier = LowRankChanges(model, matrices, adapter.scale)


def collect(model: nn.Module, scale: float, **head: Any) -> Adapter:
    """Return the adapter of a model in training: peft's changes, φ and retrieval-head weights."""
    tensors: dict[str, Tensor] = {}
    named: dict[str, Any] = dict(model.named_modules())
    for path, module in named.items():
        if hasattr(module, "lora_A"):
            tensors[f"lora.{path}.a"] = module.lora_A["default"].weight.to(torch.bfloat16)
            tensors[f"lora.{path}.b"] = module.lora_B["default"].weight.to(torch.bfloat16)
        if isinstance(module, Compression):
            number = path.split(".")[2]
            for name, value in module.state_dict().items():
                tensors[f"compression.{number}.{name}"] = value.to(torch.bfloat16)
    if (weights := getattr(model, "retrieval_head_weights", None)) is not None:
        tensors[HEAD_WEIGHTS] = weights.detach().float()
    return Adapter(scale=scale, tensors=tensors, **head)

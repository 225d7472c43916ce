"""What native training adds to a dense checkpoint, in small files of its own.

A folder holds `adapter.json` and safetensors files: low-rank changes of the projections, the φ of
every layer, and how much each head's look counts as evidence.

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
from nsa_models.modeling.model import NSALanguageModel

FORMAT = 1
_FILE_BYTES = 15 * 2**20
"""Of one file at most, so that the package can be kept where large files cannot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """Trained changes of a model.

    Attributes:
        base: Fingerprint of the weights that were trained, or of their source.
        settings: Values of `NSAConfig` that it was trained for.
        scale: What a low-rank change is multiplied with.
        tensors: `lora.MODULE.a` (r, in) and `lora.MODULE.b` (out, r),
            `compression.LAYER.PARAMETER`, and `evidence` (L, H).
        about: Recipe, data, tokens and results, for the model card.
    """

    base: str
    settings: dict[str, Any]
    scale: float
    tensors: dict[str, Tensor]
    about: dict[str, Any]


def save_adapter(folder: Path, adapter: Adapter) -> None:
    """Write a folder, in files of less than 16 MiB, replacing what lay there."""
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
    """Read a folder.

    Raises:
        ModelError: If it is missing, broken or of another format.
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
    """The values of `NSAConfig` that an adapter was trained for, without its tensors.

    Raises:
        ModelError: If it is missing, broken or of another format.
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
    return ModelError(
        f"the adapter in {folder} cannot be read: {error}",
        hint="name a folder that nsa train has written, or install nsa again",
        code="model_broken",
    )


def attach_compression(model: NSALanguageModel, config: NSAConfig) -> None:
    """Give every layer a φ of these settings that begins as the mean; the model takes them over."""
    assert config.head_dim is not None
    assert config.compress_hidden is not None
    model.config = config
    for attention in model.attentions:
        attention.compression = compression_like_mean(
            config.compress_block, config.compress_stride, config.head_dim, config.compress_hidden
        ).to(model.device)


def load_compression(model: NSALanguageModel, tensors: dict[str, Tensor], prefix: str) -> set[str]:
    """Fill every layer's φ from tensors called `PREFIX LAYER.PARAMETER`; the names taken."""
    taken: set[str] = set()
    for number, attention in enumerate(model.attentions):
        phi, start = attention.compression, f"{prefix}{number}."
        assert phi is not None
        own = {k: x for k, x in tensors.items() if k.startswith(start)}
        phi.load_state_dict({k.removeprefix(start): x for k, x in own.items()})
        taken |= own.keys()
    return taken


def compression_like_mean(block: int, stride: int, head_dim: int, hidden: int) -> Compression:
    """A φ that is the mean until it is trained."""
    phi = Compression(block, stride, head_dim, hidden)
    nn.init.zeros_(phi.outer.weight)
    nn.init.zeros_(phi.outer.bias)
    return phi


def apply_adapter(model: NSALanguageModel, adapter: Adapter) -> None:
    """Merge the changes into a model whose configuration has the adapter's settings.

    Raises:
        ModelError: If the adapter belongs to another model.
    """
    modules: dict[str, Any] = dict(model.named_modules())
    expected = {"evidence"}
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
        if "evidence" in adapter.tensors:
            model.evidence = adapter.tensors["evidence"].to(model.device)
            shape = (model.config.num_hidden_layers, model.config.num_attention_heads)
            if tuple(model.evidence.shape) != shape:
                raise ValueError(f"evidence is {tuple(model.evidence.shape)}, not {shape}")
        if surplus := sorted(adapter.tensors.keys() - expected):
            raise ValueError(f"there is no place for {surplus[0]}")
    except (KeyError, ValueError, RuntimeError, AttributeError) as error:
        raise ModelError(
            f"the adapter does not belong to this model: {error}",
            hint="leave --adapter out, or name the adapter of this model",
            code="model_broken",
        ) from error


def collect(model: nn.Module, scale: float, **head: Any) -> Adapter:
    """The adapter of a model in training: peft's changes, φ and the evidence of its heads."""
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
    if (evidence := getattr(model, "evidence", None)) is not None:
        tensors["evidence"] = evidence.detach().float()
    return Adapter(scale=scale, tensors=tensors, **head)

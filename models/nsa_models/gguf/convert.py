"""Convert a GGUF file to a Hugging Face folder.

The folder holds `config.json`, `model.safetensors` in bfloat16, `tokenizer.json`,
`tokenizer_config.json` and `generation_config.json`. Weights are dequantized and written a few
million values at a time, so memory does not grow with the model.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from filelock import FileLock
from gguf.constants import GGMLQuantizationType
from gguf.quants import dequantize

from nsa_models.errors import ModelError
from nsa_models.gguf.config import model_config
from nsa_models.gguf.file import GGUFFile, GGUFTensor, read_gguf
from nsa_models.gguf.tokenizer import tokenizer_files
from nsa_models.paths import lock_path, partial_path, require_space

CHUNK_VALUES = 1 << 21
"""Values per dequantization task: they fit the CPU's caches and outweigh a thread's overhead."""

_GLOBAL_NAMES = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
_LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_REQUIRED_PARTS = set(_LAYER_NAMES) - {"attn_q_norm", "attn_k_norm"}
_IGNORED = {"rope_freqs.weight"}
"""Tensors that `config.json` replaces."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Weight:
    """A tensor to write, with the name and the order of rows in transformers."""

    name: str
    tensor: GGUFTensor
    rows: npt.NDArray[np.uint8]

    @property
    def value_count(self) -> int:
        return int(np.prod(self.tensor.shape))


def import_gguf(
    gguf_path: Path, folder: Path, *, on_progress: Callable[[int, int], None] | None = None
) -> None:
    """Write the model of a GGUF file as a Hugging Face folder.

    The folder appears only when complete, and an existing one stays unchanged. A lock serializes
    processes that import the same model.

    Args:
        gguf_path: The GGUF file.
        folder: The folder to write.
        on_progress: Called with the bytes written so far and the bytes in total.

    Raises:
        ModelError: If the file is broken (`model_broken`) or of an unsupported kind
            (`model_unsupported`), or the disk is too small (`disk_full`).
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = partial_path(folder)
    with FileLock(lock_path(folder)):
        if folder.exists():
            return
        gguf = read_gguf(gguf_path)
        if "token_embd.weight" not in gguf.tensors:
            raise _broken(gguf, "lacks the tensor token_embd.weight")
        config = model_config(gguf)
        weights = _weights(gguf, config)
        files = {"config.json": config, **tokenizer_files(gguf)}
        shutil.rmtree(partial, ignore_errors=True)
        weight_bytes = 2 * sum(weight.value_count for weight in weights)
        require_space(folder.parent, weight_bytes + (64 << 20), f"to convert {gguf_path.name}")
        try:
            partial.mkdir()
            for name, content in files.items():
                indent = None if name == "tokenizer.json" else 2
                text = json.dumps(content, ensure_ascii=False, indent=indent)
                (partial / name).write_text(text, encoding="utf-8")
            _write_safetensors(partial / "model.safetensors", weights, on_progress)
            partial.replace(folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def write_weights(gguf_path: Path, path: Path) -> None:
    """Write the weights of a GGUF file alone, as `import_gguf` writes them.

    Raises:
        ModelError: As `import_gguf`.
    """
    gguf = read_gguf(gguf_path)
    weights = _weights(gguf, model_config(gguf))
    require_space(path.parent, 2 * sum(weight.value_count for weight in weights), "for its weights")
    _write_safetensors(path, weights, None)


def _weights(gguf: GGUFFile, config: dict[str, Any]) -> list[_Weight]:
    """Return every tensor under its transformers name; raise for unknown or missing ones."""
    layers = config["num_hidden_layers"]
    is_llama = gguf.facts["general.architecture"] == "llama"
    weights = []
    for tensor in gguf.tensors.values():
        if tensor.name in _IGNORED:
            continue
        match = re.fullmatch(r"blk\.(\d+)\.(\w+)\.(weight|bias)", tensor.name)
        part = match[2] if match else ""
        if match and part in _LAYER_NAMES and int(match[1]) < layers:
            name = f"model.layers.{match[1]}.{_LAYER_NAMES[part]}.{match[3]}"
        elif tensor.name in _GLOBAL_NAMES:
            name = _GLOBAL_NAMES[tensor.name]
        else:
            raise ModelError(
                f"{gguf.path.name} holds the tensor {tensor.name}, "
                f"which a {config['model_type']} model does not have",
                code="model_unsupported",
            )
        _check(gguf, tensor, part, config)
        is_permuted = is_llama and part in ("attn_q", "attn_k")
        rows = _unpermute(tensor, config) if is_permuted else tensor.rows
        weights.append(_Weight(name=name, tensor=tensor, rows=rows))
    required = {f"blk.{layer}.{part}.weight" for layer in range(layers) for part in _REQUIRED_PARTS}
    for missing in sorted((required | {"output_norm.weight"}) - gguf.tensors.keys()):
        raise _broken(gguf, f"lacks the tensor {missing}")
    return weights


def _check(gguf: GGUFFile, tensor: GGUFTensor, part: str, config: dict[str, Any]) -> None:
    """Raise unless a tensor can be dequantized and has the number of rows the model needs."""
    try:
        dequantize(tensor.rows[:1], tensor.kind)
    except (NotImplementedError, KeyError) as error:
        raise ModelError(
            f"{gguf.path.name} holds {tensor.name} as {tensor.kind.name}, which is not supported",
            hint="choose a file of another quantization, such as Q4_K_M, Q6_K or Q8_0",
            code="model_unsupported",
        ) from error
    head_dim = config["head_dim"]
    expected = {
        "attn_q": config["num_attention_heads"] * head_dim,
        "attn_k": config["num_key_value_heads"] * head_dim,
        "attn_v": config["num_key_value_heads"] * head_dim,
        "ffn_gate": config["intermediate_size"],
        "ffn_up": config["intermediate_size"],
    }.get(part)
    if expected is not None and tensor.shape[0] != expected:
        raise _broken(gguf, f"gives {tensor.name} {tensor.shape[0]} rows instead of {expected}")


def _unpermute(tensor: GGUFTensor, config: dict[str, Any]) -> npt.NDArray[np.uint8]:
    """Return the rows of a query or key projection in transformers' order.

    GGUF files of the llama architecture interleave the halves of each head, because their rotary
    embedding rotates neighboring pairs. transformers pairs the first half with the second.
    """
    head_dim = config["head_dim"]
    # A bias has one row: here its values are treated as rows.
    values = tensor.rows if len(tensor.shape) > 1 else tensor.rows.reshape(tensor.shape[0], -1)
    order = np.arange(len(values)).reshape(-1, head_dim // 2, 2).swapaxes(1, 2).reshape(-1)
    return values[order].reshape(tensor.rows.shape)


def _write_safetensors(
    path: Path, weights: list[_Weight], on_progress: Callable[[int, int], None] | None
) -> None:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for weight in weights:
        start, end = end, end + 2 * weight.value_count
        header[weight.name] = {
            "dtype": "BF16",
            "shape": list(weight.tensor.shape),
            "data_offsets": [start, end],
        }
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8)
    done = 0
    with path.open("wb") as file:
        file.write(len(encoded).to_bytes(8, "little") + encoded)
        for chunk in _converted(weights):
            file.write(chunk)
            done += len(chunk)
            if on_progress:
                on_progress(done, end)


def _converted(weights: list[_Weight]) -> Iterator[bytes]:
    """Yield the bfloat16 bytes of all weights in order; threads convert ahead."""
    threads = os.cpu_count() or 1
    waiting: deque[Future[bytes]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for weight in weights:
            values_per_row = weight.value_count // len(weight.rows)
            step = max(1, CHUNK_VALUES // values_per_row)
            for start in range(0, len(weight.rows), step):
                rows = weight.rows[start : start + step]
                waiting.append(pool.submit(_to_bfloat16, rows, weight.tensor.kind))
                if len(waiting) > 2 * threads:
                    yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _to_bfloat16(rows: npt.NDArray[np.uint8], kind: GGMLQuantizationType) -> bytes:
    values = torch.from_numpy(dequantize(rows, kind))
    return values.to(torch.bfloat16).view(torch.int16).numpy().tobytes()


def _broken(gguf: GGUFFile, problem: str) -> ModelError:
    return ModelError(f"{gguf.path.name} {problem}", code="model_broken")

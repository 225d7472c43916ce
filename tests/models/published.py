"""Checkpoints in published layouts, and building blocks for reference implementations.

Plain PyTorch in fp64, one text at a time; only the loaders, which are tested, are shared with the
program. Letters: T tokens, H query heads, G key/value groups, D head dim.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from nsa_models.cache.kv_cache import KVCache
from nsa_models.generation.generate import DecodeOptions, decode, prefill, settings_for_length
from nsa_models.transformers_model import NSAForCausalLM
from nsa_models.weights.load import load_config, load_model

Tensors = dict[str, Tensor]
TOLERANCE = 2e-4
"""Of logits in fp32, against fp64."""

NEAR = 5e-5
"""Two blocks with closer scores may change places in fp32."""


class NearTieError(Exception):
    """Two blocks are so similar that rounding decides which is selected."""


def random_tensors(shapes: dict[str, tuple[int, ...]], seed: int) -> Tensors:
    """Random weights with which every tensor has an effect and scores are spread."""
    random = torch.Generator().manual_seed(seed)
    found = {}
    for name, shape in shapes.items():
        x = torch.randn(shape, generator=random, dtype=torch.float64)
        if len(shape) == 1:
            x = 1 + 0.2 * x if "norm" in name else 0.2 * x
        elif "embed" not in name:
            x = x * (1.3 if "q_proj" in name or "k_proj" in name else 1.0) / shape[1] ** 0.5
        found[name] = x.float()
    return found


def write(folder: Path, config: dict[str, Any], tensors: Tensors, shards: int = 1) -> Path:
    """Write a Hugging Face folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    if shards == 1:
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        return folder
    names = sorted(tensors)
    index = {}
    for number in range(shards):
        file = f"model-{number + 1:05}-of-{shards:05}.safetensors"
        part = names[number::shards]
        save_file({name: tensors[name] for name in part}, folder / file, metadata={"format": "pt"})
        index |= dict.fromkeys(part, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    return folder


def norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return x * (x.square().mean(-1, keepdim=True) + eps).rsqrt() * weight


def linear(x: Tensor, tensors: Tensors, name: str) -> Tensor:
    bias = tensors.get(f"{name}.bias")
    out = x @ tensors[f"{name}.weight"].double().T
    return out if bias is None else out + bias.double()


def gated_mlp(x: Tensor, tensors: Tensors, name: str) -> Tensor:
    gate = linear(x, tensors, f"{name}.gate_proj")
    return linear(gate * gate.sigmoid() * linear(x, tensors, f"{name}.up_proj"), tensors,
                  f"{name}.down_proj")  # fmt: skip


def heads_of(x: Tensor, dim: int) -> Tensor:
    """(T, H * D) to (H, T, D)."""
    return x.reshape(len(x), -1, dim).transpose(0, 1)


def rotated(x: Tensor, inverse: Tensor, scale: float = 1.0) -> Tensor:
    """Apply the rotary embedding to (H, T, D), rotating halves."""
    angles = torch.arange(x.shape[1], dtype=torch.float64)[:, None] * inverse
    a, b = x.chunk(2, dim=-1)
    cos, sin = angles.cos() * scale, angles.sin() * scale
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)


def plain_frequencies(dim: int, theta: float) -> Tensor:
    return theta ** -(torch.arange(0, dim, 2, dtype=torch.float64) / dim)


def attended(q: Tensor, k: Tensor, v: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
    """Attention of a group's queries (R, T, D) to keys (S, D): output and weights."""
    scores = (q @ k.T) / q.shape[-1] ** 0.5
    scores = scores.masked_fill(~seen, -torch.inf)
    weights = torch.nan_to_num(scores.softmax(dim=-1))
    return weights @ v, weights


def means(x: Tensor, block: int, stride: int) -> Tensor:
    """Means of the complete blocks of (S, D)."""
    rows = [x[i : i + block].mean(0) for i in range(0, len(x) - block + 1, stride)]
    return torch.stack(rows) if rows else x[:0]


def cut(ranked: list[tuple[float, int]], keep: int) -> list[tuple[float, int]]:
    """The first `keep` items of a list in descending order.

    Raises:
        NearTieError: If the last item kept and the next are too similar, but not equal.
    """
    if 0 < keep < len(ranked):
        last, following = ranked[keep - 1][0], ranked[keep][0]
        close = last - following < NEAR * max(last, 1e-3)
        if close and last != following:  # equal in any precision: the earlier one is kept
            raise NearTieError
    return ranked[:keep]


def by_score(scored: Iterable[tuple[float, int]]) -> list[tuple[float, int]]:
    return sorted(scored, key=lambda pair: (-pair[0], pair[1]))


Render = Callable[[dict[str, Any], Tensors, Tensor, list[int]], Tensor]
"""Function of config, tensors, ids (T,) and the text's length known at each token's step;
returns logits (T, V).
"""


@dataclass(frozen=True)
class Difference:
    """The largest differences of logits."""

    prefill: float
    chunks: float
    decode: float

    def worst(self) -> float:
        return max(self.prefill, self.chunks, self.decode)


def load(folder: Path, **settings: Any) -> NSAForCausalLM:
    config, _ = load_config(folder, **settings)
    return load_model(folder, config, dtype=torch.float32)


def compare(
    folder: Path, config: dict[str, Any], tensors: Tensors, render: Render, ids: Tensor
) -> Difference:
    """Compare the program with a reference: in one call, in chunks, and token by token.

    Raises:
        NearTieError: If rounding decides which blocks are selected.
    """
    length = len(ids)
    whole = render(config, tensors, ids, [length] * length)
    first = max(1, length - 6)
    stepped = [first] * first + list(range(first + 1, length + 1))
    steps = render(config, tensors, ids, stepped) if first < length else whole
    model = load(folder)
    with torch.inference_mode():
        at_once = model(ids[None]).logits[0]
        cache = KVCache(model.config, length)
        size = 2 * model.config.select_block
        reading = settings_for_length(model.config.prefill_settings(), length)
        parts = [
            model(part[None], cache=cache, settings=reading).logits[0] for part in ids.split(size)
        ]
        cache = KVCache(model.config, length)
        list(prefill(model, ids[:first], cache, chunk_size=size))
        answering = model.config.answer_settings()
        singles = [
            model(ids[None, i : i + 1], cache=cache, settings=answering).logits[0]
            for i in range(first, length)
        ]
    decoded = 0.0
    if singles:
        decoded = largest(torch.cat(singles), steps[first:])
    return Difference(largest(at_once, whole), largest(torch.cat(parts), whole), decoded)


def largest(ours: Tensor, theirs: Tensor) -> float:
    assert ours.shape == theirs.shape
    return float((ours.double() - theirs).abs().max())


def agree(
    folder: Path,
    config: dict[str, Any],
    shapes: dict[str, tuple[int, ...]],
    render: Render,
    length: int,
    seed: int,
    *,
    label: str,
    shards: int = 1,
) -> None:
    """Assert that a checkpoint of random weights gives the reference's logits and tokens.

    Weights with a near tie at the last selected block are drawn again, since rounding would decide.
    """
    vocabulary = config["vocab_size"]
    for attempt in range(200):
        random = torch.Generator().manual_seed(seed + attempt)
        ids = torch.randint(vocabulary, (length,), generator=random)
        tensors = random_tensors(shapes, seed + attempt)
        write(folder, config, tensors, shards)
        try:
            found = compare(folder, config, tensors, render, ids)
            check_decode(folder, config, tensors, render, ids)
        except NearTieError:
            continue
        print(
            f"| {label} | {length} | {found.prefill:.1e} | {found.chunks:.1e} "
            f"| {found.decode:.1e} |"
        )
        assert found.worst() < TOLERANCE
        return
    raise AssertionError("every draw had a near tie")


def check_decode(
    folder: Path, config: dict[str, Any], tensors: Tensors, render: Render, ids: Tensor
) -> None:
    """Assert that `decode` chooses the tokens with the reference's largest logits."""
    model = load(folder)
    read, count = max(1, len(ids) - 2), 3
    cache = KVCache(model.config, len(ids) + count + 1)
    list(prefill(model, ids[:read], cache))
    asked = ids[read:] if len(ids) > read else ids[-1:]
    steps = decode(
        model,
        asked,
        cache,
        DecodeOptions(max_tokens=count, stop_ids=frozenset()),
        quoted=ids[:read],
    )
    chosen = [step.id for step in steps]
    assert len(chosen) == count
    text = torch.cat([ids[:read], asked, torch.tensor(chosen)])
    known = read + len(asked)
    # All but the question's last token are one step; the other tokens are single steps.
    seen = [read] * read + [known - 1] * (len(asked) - 1) + list(range(known, len(text) + 1))
    logits = render(config, tensors, text, seen)[known - 1 : -1]
    for row, token in zip(logits, chosen, strict=True):
        assert row.max() - row[token] < TOLERANCE

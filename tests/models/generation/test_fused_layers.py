"""Steps of fused layers give the logits of the eager model.

Without a GPU the kernels run in the interpreter.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import pytest
import torch
from torch import Tensor

from nsa_kernels.errors import UnsupportedError
from nsa_models.cache.kv_cache import KVCache
from nsa_models.modeling.int8 import Int8Linear
from nsa_models.modeling.model import MLP
from nsa_models.transformers_model import NSAForCausalLM
from tests.models.decoders import CUDA, DEVICE, filled, random_model

if not find_spec("triton"):
    pytest.skip("Triton is not installed", allow_module_level=True)

from nsa_models.generation.cuda_graph import CudaGraphDecoder

gpu = pytest.mark.skipif(not CUDA, reason="no CUDA device")
fp32 = pytest.mark.skipif(CUDA, reason="fused layers take no weights in fp32 on a GPU")

SIZES: dict[str, Any] = {
    "vocab_size": 96, "hidden_size": 64, "intermediate_size": 72, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2,
}  # fmt: skip
SPARSE: dict[str, Any] = {
    "combine": "gated", "compress_block": 8, "compress_stride": 4, "select_block": 16,
    "select_tile": 1, "score_stride": 1, "select_count": 4, "local_blocks": 3, "window": 21,
}  # fmt: skip
"""All selected blocks are always selected, so that rounding cannot change the selection."""
HALF_ROTATION = {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5}
KINDS: dict[str, dict[str, Any]] = {
    "dense": {"select_count": None, "answer_select_count": None},
    "biased": {"select_count": None, "answer_select_count": None, "attention_bias": True,
               "output_bias": True, "mlp_bias": True, "num_attention_heads": 6, "head_dim": 20},
    "shared": SPARSE,
    "mean": {**SPARSE, "branch_keys": "separate", "gate_bias": True, "num_attention_heads": 14,
             "head_dim": 16},
    "mlp": {**SPARSE, "branch_keys": "separate", "compress_phi": "mlp", "compress_hidden": 24},
    "half": {**SPARSE, "branch_keys": "separate", "compress_phi": "mlp", "compress_hidden": 24,
             "rope_parameters": HALF_ROTATION},
    "quarter": {"select_count": None, "answer_select_count": None, "head_dim": 16,
                "rope_parameters": {**HALF_ROTATION, "partial_rotary_factor": 0.25}},
    "union": {**SPARSE, "combine": "union", "select_count": 2, "window": 32},
}  # fmt: skip


def build(
    kind: str, dtype: torch.dtype = torch.float32, *, noise: float = 0.15, **changes: Any
) -> NSAForCausalLM:
    """A random model of a kind."""
    return random_model({**SIZES, **KINDS[kind], **changes}, dtype, noise=noise)


def differences(
    model: NSAForCausalLM, length: int, steps: int, batch: int, tokens: int = 1
) -> list[tuple[Tensor, Tensor]]:
    """Logits of each step, fused and eager, for the same tokens."""
    ids = torch.randint(96, (batch, length), device=DEVICE)
    more = torch.randint(96, (batch, steps * tokens), device=DEVICE)
    settings = model.config.answer_settings()
    caches = [filled(model, ids, steps * tokens) for _ in range(2)]
    step = CudaGraphDecoder(model, caches[0], settings, tokens, masses=False, fused=True)
    assert step.tokens == tokens
    found = []
    with torch.inference_mode():
        for number in range(steps):
            part = more[:, number * tokens : (number + 1) * tokens]
            ours = step.step(part).clone()
            found.append((ours, model(part, cache=caches[1], settings=settings).logits))
        caches[0].truncate(length + 1)
        caches[1].truncate(length + 1)
        # Later calls continue from both caches alike.
        tails = [model(more[:, :2], cache=cache, settings=settings).logits for cache in caches]
    return [*found, (tails[0], tails[1])]


@fp32
@pytest.mark.parametrize(
    ("kind", "batch", "layers"),
    [
        ("dense", 1, 2),
        ("biased", 3, 1),
        ("shared", 1, 1),
        ("half", 2, 1),
        ("quarter", 2, 1),
        pytest.param("mlp", 2, 1, marks=pytest.mark.long),
        pytest.param("shared", 3, 2, marks=pytest.mark.long),
        pytest.param("mean", 2, 2, marks=pytest.mark.long),
        pytest.param("union", 2, 2, marks=pytest.mark.long),
    ],
)
def test_steps_give_the_logits_of_the_eager_model(kind: str, batch: int, layers: int) -> None:
    """Four steps complete a compression block."""
    for found, expected in differences(build(kind, num_hidden_layers=layers), 75, 4, batch):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@fp32
def test_several_tokens_of_dense_attention() -> None:
    for found, expected in differences(build("dense"), 33, 2, 2, tokens=3):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@fp32
@pytest.mark.parametrize(
    "changes",
    [
        {"qk_norm": True},
        {"hidden_act": "gelu"},
        {"norm_after": True},
        {"residual_scale": 0.5},
        {"compress_phi": "linear", "branch_keys": "shared"},
    ],
)
def test_other_layers_are_refused(changes: dict[str, Any]) -> None:
    model = build("shared", **changes)
    cache = KVCache(model.config, 32, device=DEVICE)
    with pytest.raises(UnsupportedError, match="fused layers"):
        CudaGraphDecoder(model, cache, model.config.answer_settings(), 1, fused=True)


@fp32
def test_other_weights_are_refused() -> None:
    model = build("dense")
    mlp = model.model.layers[0].mlp
    assert isinstance(mlp, MLP)
    mlp.down_proj = Int8Linear(mlp.down_proj)
    cache = KVCache(model.config, 32, device=DEVICE)
    with pytest.raises(UnsupportedError, match="quantized"):
        CudaGraphDecoder(model, cache, model.config.answer_settings(), 1, fused=True)


@pytest.mark.gpu
@gpu
@pytest.mark.parametrize("batch", [1, 16])
@pytest.mark.parametrize("kind", ["dense", "shared", "mlp", "half"])
def test_graphs_of_the_trained_shape_in_bf16(kind: str, batch: int) -> None:
    """The blocks of the paper; both graphs are captured and replayed."""
    shape = {"hidden_size": 640, "intermediate_size": 1728, "num_attention_heads": 10}
    if kind != "dense":
        shape |= {"compress_block": 32, "compress_stride": 16, "select_block": 64,
                  "select_count": 6, "local_blocks": 5, "window": 512}  # fmt: skip
    model = build(kind, torch.bfloat16, noise=0.03, **shape)
    for found, expected in differences(model, 3001, 40, batch):
        assert (found - expected).float().abs().max() < 0.15 * expected.float().std()

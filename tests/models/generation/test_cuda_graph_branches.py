"""Decoding of gated attention and of batches with a CUDA graph equals that of `KVCache`.

Without a GPU the same steps run without a graph.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import pytest
import torch
from torch import Tensor

from nsa_models.cache.kv_cache import KVCache
from nsa_models.generation import generate
from nsa_models.generation.generate import DecodedToken, DecodeOptions, decode, prefill
from nsa_models.transformers_model import NSAForCausalLM
from tests.models.decoders import CUDA, DEVICE, filled, random_model

if not find_spec("triton"):
    pytest.skip("Triton is not installed", allow_module_level=True)

from nsa_models.generation import cuda_graph
from nsa_models.generation.cuda_graph import CudaGraphDecoder

SIZES: dict[str, Any] = {
    "vocab_size": 96,
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "combine": "gated",
    "compress_block": 8,
    "compress_stride": 4,
    "select_block": 16,
    "select_tile": 1,
    "score_stride": 1,
    "select_count": 4,
    "local_blocks": 3,
    "window": 21,
}
"""All selected blocks are always selected, so that rounding cannot change the selection."""
KINDS: dict[str, dict[str, Any]] = {
    "shared": {},
    "linear": {"compress_phi": "linear"},
    "mean": {"branch_keys": "separate"},
    "mlp": {"branch_keys": "separate", "compress_phi": "mlp", "compress_hidden": 24},
}
EVERY = pytest.mark.parametrize("kind", KINDS)

gpu = pytest.mark.skipif(not CUDA, reason="no CUDA device")


def build(
    kind: str, dtype: torch.dtype = torch.float32, *, noise: float = 0.15, **changes: Any
) -> NSAForCausalLM:
    """A random model of a kind."""
    return random_model({**SIZES, **KINDS[kind], **changes}, dtype, noise=noise)


def random_ids(*shape: int) -> Tensor:
    return torch.randint(96, shape, device=DEVICE)


def compare(model: NSAForCausalLM, length: int, steps: int, batch: int, **tolerance: float) -> None:
    """Compare the logits of both ways for the same tokens, and the caches after them."""
    ids, more = random_ids(batch, length), random_ids(batch, steps)
    settings = model.config.answer_settings()
    caches = [filled(model, ids, steps) for _ in range(2)]
    step = CudaGraphDecoder(model, caches[0], settings, 1)
    with torch.inference_mode():
        for number in range(steps):
            assert step.fits()
            part = more[:, number : number + 1]
            found = step.step(part)
            expected = model(part, cache=caches[1], settings=settings).logits
            torch.testing.assert_close(found, expected, **tolerance)
    assert not step.fits()
    assert caches[0].length == caches[1].length == length + steps
    # Later calls, such as the next question, continue from both alike.
    for cache in caches:
        cache.truncate(length + steps - 3)
    with torch.inference_mode():
        tails = [model(more[:, -3:], cache=cache, settings=settings).logits for cache in caches]
    torch.testing.assert_close(*tails, **tolerance)


@EVERY
def test_steps_give_the_logits_of_the_eager_model(kind: str) -> None:
    """Six steps complete a compression block of each of two texts."""
    compare(build(kind), 75, 6, 2, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("heads", [2, pytest.param(14, marks=pytest.mark.long)])
@pytest.mark.parametrize("length", [1, 40])
def test_short_texts_and_other_groups(heads: int, length: int) -> None:
    """A text may be shorter than a block and than the window."""
    model = build("mlp", num_attention_heads=heads, head_dim=16, num_hidden_layers=1)
    compare(model, length, 8 if length == 1 else 3, 1, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("count", [None, 2])
def test_batches_of_one_softmax(count: int | None) -> None:
    model = build("shared", combine="union", select_count=count, window=32)
    compare(model, 75, 3, 3, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["mlp", "linear"])
def test_answers_are_those_of_the_eager_model(kind: str) -> None:
    """Tokens and masses of two questions about one text, the second after a truncation."""
    model = build(kind)
    text, questions = random_ids(90), (random_ids(5), random_ids(3))
    options = DecodeOptions(max_tokens=5, stop_ids=frozenset())
    answers: list[list[DecodedToken]] = []
    for captured in (False, True):
        made: list[CudaGraphDecoder] = []

        def make(*arguments: Any, to: list[CudaGraphDecoder] = made) -> CudaGraphDecoder:
            # Fused layers do not support a trained φ of the selection's keys.
            fused = not torch.cuda.is_available() and kind == "mlp"
            to.append(CudaGraphDecoder(*arguments, fused=fused))
            return to[-1]

        cache = KVCache(model.config, 110, device=DEVICE)
        list(prefill(model, text, cache, chunk_size=32))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(generate, "_cuda_graph_decoder", make if captured else lambda *_: None)
            for question in questions:
                answers.append(list(decode(model, question, cache, options)))
                cache.truncate(90)
        assert len(made) == 2 * captured
    for found, expected in zip(answers[2:], answers[:2], strict=True):
        assert [step.id for step in found] == [step.id for step in expected]
        for ours, theirs in zip(found, expected, strict=True):
            torch.testing.assert_close(ours.mass, theirs.mass, rtol=1e-3, atol=1e-5)


def test_the_eager_model_continues_without_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """The decoder has room for two tokens, and the eager model decodes the others."""
    monkeypatch.setattr(cuda_graph, "_MOST_NEW_TOKENS", 2)
    model, ids = build("mlp"), random_ids(1, 61)
    settings, found = model.config.answer_settings(), []
    for captured in (True, False):
        cache = filled(model, ids, 9)
        with torch.inference_mode():
            step = CudaGraphDecoder(model, cache, settings, 1)
            assert step.fits()
            for token in (5, 6, 7, 8):
                part = torch.tensor([[token]], device=DEVICE)
                if captured and step.fits():
                    logits = step.step(part).clone()
                else:
                    logits = model(part, cache=cache, settings=settings).logits
        assert not step.fits()
        found.append(logits)
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-4)


def test_a_decoder_without_masses() -> None:
    """It leaves the masses at zero and gives the same logits."""
    model, ids = build("mlp"), random_ids(1, 61)
    found = []
    for masses in (True, False):
        step = CudaGraphDecoder(
            model, filled(model, ids, 3), model.config.answer_settings(), 1, masses=masses
        )
        with torch.inference_mode():
            logits, mass = step.run([7])
        found.append(logits)
        assert bool(mass.any()) == masses
    assert torch.equal(*found)


@pytest.mark.gpu
@gpu
@EVERY
@pytest.mark.parametrize("batch", [1, 3])
def test_graphs_give_the_logits_of_the_eager_model(kind: str, batch: int) -> None:
    """Both graphs are captured and replayed: seven steps in 28 complete a block."""
    compare(build(kind), 1203, 28, batch, rtol=1e-3, atol=1e-3)


@pytest.mark.gpu
@gpu
@pytest.mark.parametrize("kind", ["shared", "mlp"])
def test_graphs_of_the_trained_shape_in_bf16(kind: str) -> None:
    """The blocks of the paper, and more keys than the selection takes."""
    model = build(
        kind, torch.bfloat16, noise=0.03, hidden_size=640, num_attention_heads=10,
        compress_block=32, compress_stride=16, select_block=64, select_count=6, local_blocks=5,
        window=512,
    )  # fmt: skip
    ids, more = random_ids(2, 3001), random_ids(2, 50)
    settings = model.config.answer_settings()
    caches = [filled(model, ids, 50) for _ in range(2)]
    step = CudaGraphDecoder(model, caches[0], settings, 1)
    with torch.inference_mode():
        for number in range(50):
            part = more[:, number : number + 1]
            found = step.step(part).float()
            expected = model(part, cache=caches[1], settings=settings).logits.float()
            assert (found - expected).abs().max() < 0.15 * expected.std()


@pytest.mark.gpu
@gpu
@EVERY
def test_gated_attention_decodes_in_graphs_by_default(kind: str) -> None:
    model = build(kind)
    cache = KVCache(model.config, 64, device=DEVICE)
    step = generate._cuda_graph_decoder(model, cache, model.config.answer_settings(), 9)
    assert step is not None
    assert step.tokens == 1

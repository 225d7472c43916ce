"""Decoding with a CUDA graph gives the results of the eager model."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from typing import Any

import pytest
import torch

from nsa_kernels.errors import UnsupportedError
from nsa_models.cache.kv_cache import KVCache, LayerDevices
from nsa_models.configuration.config import NSAConfig
from nsa_models.generation import generate
from nsa_models.generation.generate import DecodedToken, DecodeOptions, decode, prefill
from nsa_models.transformers_model import NSAForCausalLM

if not find_spec("triton"):
    pytest.skip("Triton is not installed", allow_module_level=True)

from nsa_models.generation.cuda_graph import CudaGraphDecoder

CUDA = torch.cuda.is_available()
DEVICE = "cuda" if CUDA else "cpu"
LENGTH, QUESTION = 300, [3, 1, 4, 1, 5]

gpu = pytest.mark.skipif(not CUDA, reason="no CUDA device")


def build(
    seed: int,
    answer_select_count: int | None,
    device: str = DEVICE,
    dtype: torch.dtype = torch.float32,
    **changes: Any,
) -> NSAForCausalLM:
    """A random model for which 300 tokens exceed the answer's budget of two blocks."""
    torch.manual_seed(seed)
    config = NSAConfig(
        **{
            "vocab_size": 96,
            "hidden_size": 48,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 6,
            "num_key_value_heads": 2,
            "select_count": 2,
            "window": 64,
            "answer_select_count": answer_select_count,
            "answer_window": 64,
            **changes,
        }
    )
    model = NSAForCausalLM(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.15)
    return model.to(device=device, dtype=dtype).requires_grad_(False)


def decode_answer(
    model: NSAForCausalLM, *, captured: bool, room: int = 60, devices: LayerDevices | None = None,
    **options: Any,
) -> tuple[list[DecodedToken], KVCache]:  # fmt: skip
    """An answer after a random text, with the graph decoder or eagerly."""
    text = torch.randint(96, (LENGTH,), generator=torch.Generator().manual_seed(5)).tolist()
    capacity = LENGTH + len(QUESTION) + room
    cache = KVCache(model.config, capacity, dtype=model.dtype, device=devices or model.device)
    list(prefill(model, text, cache))
    steps: list[CudaGraphDecoder] = []

    def make(*arguments: Any) -> CudaGraphDecoder:
        steps.append(CudaGraphDecoder(*arguments))
        return steps[-1]

    call = {key: options.pop(key) for key in ("quoted", "settings") if key in options}
    options = {"max_tokens": 10, "stop_ids": frozenset(), **options}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(generate, "_cuda_graph_decoder", make if captured else lambda *_: None)
        answer = list(decode(model, QUESTION, cache, DecodeOptions(**options), **call))
    assert len(steps) == captured
    return answer, cache


def assert_same(found: list[DecodedToken], expected: list[DecodedToken]) -> None:
    assert [step.id for step in found] == [step.id for step in expected]
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours.mass, theirs.mass, rtol=1e-3, atol=1e-5)


@pytest.mark.gpu
@gpu
@pytest.mark.parametrize("count", [None, 2, 40])
def test_a_graph_decodes_like_the_eager_model(count: int | None, seed: int) -> None:
    """The graph decoder is the default on the device."""
    model = build(seed, count)
    expected, _ = decode_answer(model, captured=False, room=300, max_tokens=200)
    for quoted in ([], [step.id for step in expected]):
        found, _ = decode_answer(model, captured=True, room=300, max_tokens=200, quoted=quoted)
        assert_same(found, expected)
    cache = KVCache(model.config, 64, device=model.device)
    assert isinstance(
        generate._cuda_graph_decoder(model, cache, model.config.answer_settings(), 9),
        CudaGraphDecoder,
    )


@pytest.mark.gpu
@gpu
@pytest.mark.parametrize("count", [None, 2])
def test_a_graph_gives_the_logits_of_the_eager_model_in_bf16(count: int | None, seed: int) -> None:
    model = build(seed, count, dtype=torch.bfloat16, hidden_size=96)
    ids = torch.randint(96, (LENGTH,)).tolist()
    caches = [
        KVCache(model.config, LENGTH + 60, dtype=model.dtype, device=model.device) for _ in range(2)
    ]
    for cache in caches:
        list(prefill(model, ids, cache))
    settings = model.config.answer_settings()
    with torch.inference_mode():
        step = CudaGraphDecoder(model, caches[0], settings, 4)
        for token in range(20):
            logits, mass = step.run([token])
            expected, plain = generate._run_model(model, caches[1], settings, [token])
            spread = expected.float().std()
            assert (logits - expected).float().abs().max() < 0.15 * spread
            assert (mass - plain).abs().max() < 0.1


@pytest.mark.parametrize(
    "count", [2, *(pytest.param(each, marks=pytest.mark.long) for each in (None, 40))]
)
def test_steps_decode_like_the_eager_model(count: int | None, seed: int) -> None:
    model = build(seed, count)
    expected, plain = decode_answer(model, captured=False)
    found, cache = decode_answer(model, captured=True)
    assert_same(found, expected)
    assert cache.length == plain.length
    for ours, theirs in ((cache.keys, plain.keys), (cache.values, plain.values)):
        filled = (torch.stack(ours) - torch.stack(theirs))[..., : cache.length, :]
        assert filled.abs().max() < 1e-4 * torch.stack(theirs).abs().max()


@pytest.mark.skipif(CUDA, reason="GPUs have a separate test")
@pytest.mark.parametrize("count", [pytest.param(None, marks=pytest.mark.long), 2])
def test_several_devices(count: int | None, seed: int) -> None:
    """Layers on several devices; several names of one CPU stand for them."""
    model = build(seed, count, num_hidden_layers=3)
    expected, _ = decode_answer(model, captured=False)
    devices = [torch.device("cpu", index) for index in (0, 1, 1)]
    cache = KVCache(model.config, LENGTH, device=devices)
    step = CudaGraphDecoder(model, cache, model.config.answer_settings(), 1)
    assert [graph.layers for graph in step._graphs] == [range(1), range(1, 3)]
    found, _ = decode_answer(model, captured=True, devices=devices)
    assert_same(found, expected)


def test_a_quoted_text_changes_nothing(seed: int) -> None:
    """The quoted text is the answer with a wrong token, so that some drafts are rejected."""
    model = build(seed, None)
    expected, _ = decode_answer(model, captured=False)
    ids = [step.id for step in expected]
    quoted = QUESTION + ids[:7] + [95 - ids[7]] + ids[5:]
    found, _ = decode_answer(model, captured=True, quoted=quoted)
    assert_same(found, expected)


def test_samples_are_the_same(seed: int) -> None:
    model = build(seed, None)
    options = {"temperature": 1.0, "seed": seed, "max_tokens": 8}
    expected, _ = decode_answer(model, captured=False, **options)
    assert_same(decode_answer(model, captured=True, **options)[0], expected)


def test_decoding_up_to_the_capacity(seed: int) -> None:
    """The eager model continues where a whole step does not fit."""
    model = build(seed, None)
    expected, _ = decode_answer(model, captured=False, room=9)
    assert_same(decode_answer(model, captured=True, room=9)[0], expected)


@pytest.mark.long
def test_the_cache_after_the_steps(seed: int) -> None:
    """Summaries that the steps computed are not used for other tokens."""
    model = build(seed, 2)
    results = []
    for captured in (False, True):
        _, cache = decode_answer(model, captured=captured)
        cache.truncate(LENGTH)
        with torch.inference_mode():
            tail = torch.tensor([[9, 8, 7, 6, 5, 4] * 6], device=model.device)
            results.append(
                model(
                    tail, cache=cache, settings=model.config.answer_settings(), last_logits=1
                ).logits
            )
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("count", [None, 2])
def test_the_observer_is_called(count: int | None, seed: int) -> None:
    model = build(seed, count)
    observed: list[list[Any]] = []
    for captured in (False, True):
        calls: list[Any] = []

        def observe(
            layer: int, blocks: Any, settings: Any, total: int, queries: int, to: Any = calls
        ) -> None:
            chosen = None if blocks is None else sorted(blocks.flatten().tolist())
            to.append((layer, chosen, settings, total, queries))

        cache = KVCache(model.config, LENGTH + 60, device=model.device)
        list(prefill(model, list(range(90)) * 3, cache))
        cache.observe = observe
        settings = model.config.answer_settings()
        with torch.inference_mode():
            step = CudaGraphDecoder(model, cache, settings, 1) if captured else None
            for token in (1, 2):
                if step is not None:
                    step.run([token])
                else:
                    generate._run_model(model, cache, settings, [token])
        observed.append(calls)
    assert observed[0] == observed[1]
    assert len(observed[0]) == 4


def test_unsupported_settings_are_refused(seed: int) -> None:
    model = build(seed, None)
    cache = KVCache(model.config, 64, device=DEVICE)
    gated = NSAConfig(combine="gated").answer_settings()
    with pytest.raises(UnsupportedError, match="gated"):
        CudaGraphDecoder(model, cache, gated, 1)
    of_tiles = replace(model.config.answer_settings(), select_count=2, select_tile=16)
    with pytest.raises(UnsupportedError, match="select_tile"):
        CudaGraphDecoder(model, cache, of_tiles, 1)


def test_groups_with_many_heads_have_fewer_tokens_per_step(seed: int) -> None:
    model = build(seed, None, num_attention_heads=12, num_key_value_heads=1, head_dim=8)
    cache = KVCache(model.config, 64, device=model.device)
    assert CudaGraphDecoder(model, cache, model.config.answer_settings(), 9).tokens == 5


def test_a_cpu_decodes_eagerly(seed: int) -> None:
    model = build(seed, None, device="cpu")
    cache = KVCache(model.config, 64)
    assert generate._cuda_graph_decoder(model, cache, model.config.answer_settings(), 9) is None

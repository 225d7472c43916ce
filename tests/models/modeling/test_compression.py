"""A learned φ: the mean before training, and independent of the position."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from nsa_kernels.scoring import mean_summaries
from nsa_kernels.settings import AttentionSettings
from nsa_models.cache.kv_cache import KVCache
from nsa_models.configuration.config import NSAConfig
from nsa_models.modeling.compression import Compression, rotate_to
from nsa_models.training.forward import ExampleAttention
from nsa_models.transformers_model import NSAForCausalLM
from nsa_models.weights.adapter import compression_like_mean

DIM = 16
FREQUENCIES = 1.0 / (10000.0 ** (torch.arange(0, DIM, 2) / DIM))


def keys(tokens: int) -> Tensor:
    return torch.randn(2, 3, tokens, DIM) * 5


def learned(block: int, stride: int) -> Compression:
    return Compression(block, stride, DIM, 8).requires_grad_(False)


@pytest.mark.parametrize(("block", "stride"), [(16, 16), (32, 16), (8, 4)])
@pytest.mark.parametrize("tokens", [7, 31, 32, 100])
def test_phi_is_the_mean_before_training(block: int, stride: int, tokens: int) -> None:
    torch.manual_seed(tokens)
    k = keys(tokens)
    phi = compression_like_mean(block, stride, DIM, 8).requires_grad_(False)
    settings = AttentionSettings(compress_block=block, compress_stride=stride)
    torch.testing.assert_close(
        phi(k, FREQUENCIES, first=64), mean_summaries(k, settings), rtol=1e-4, atol=1e-4
    )


def test_a_summary_is_independent_of_the_position() -> None:
    torch.manual_seed(0)
    k, shift = keys(96), 640
    phi = learned(32, 16)
    at = torch.arange(96, dtype=torch.float32)
    near = phi(rotate_to(k, at, FREQUENCIES), FREQUENCIES)
    far = phi(rotate_to(k, at + shift, FREQUENCIES), FREQUENCIES, first=shift)
    count = torch.full((near.shape[2],), float(shift))
    torch.testing.assert_close(rotate_to(near, count, FREQUENCIES), far, rtol=1e-3, atol=1e-3)
    mean = mean_summaries(far, AttentionSettings(compress_block=1, compress_stride=1))
    assert not torch.allclose(mean, near, atol=0.1)


def test_the_position_may_be_a_tensor() -> None:
    torch.manual_seed(0)
    k, phi = keys(64), learned(16, 16)
    assert torch.equal(phi(k, FREQUENCIES, first=48), phi(k, FREQUENCIES, first=torch.tensor([48])))


def test_an_incomplete_block_has_no_summary() -> None:
    assert learned(32, 16)(keys(31), FREQUENCIES).shape == (2, 3, 0, DIM)


def test_settings_with_two_kinds_of_summaries_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(16, 16\) and \(4, 4\)"):
        NSAConfig(compress_hidden=8, compress_block=16, compress_stride=16)


def test_prefill_in_parts_and_an_answer_equal_one_pass() -> None:
    torch.manual_seed(0)
    config = NSAConfig(
        vocab_size=100,
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        compress_block=16,
        compress_stride=8,
        answer_compress_block=16,
        answer_compress_stride=8,
        compress_hidden=16,
        select_block=16,
        select_count=3,
        answer_select_count=4,
        window=32,
        answer_window=32,
        select_tile=16,
    )
    model = NSAForCausalLM(config).eval()
    for attention in model.attentions:
        assert attention.compression is not None
        torch.nn.init.normal_(attention.compression.outer.weight, std=0.5)
    ids = torch.randint(100, (1, 300))
    with torch.no_grad():
        example = ExampleAttention(256, config.answer_settings())
        full = model(ids, cache=example).logits
        cache = KVCache(config, 400)
        parts = [model(ids[:, a:b], cache=cache).logits for a, b in ((0, 96), (96, 256))]
        parts.append(model(ids[:, 256:], cache=cache, settings=config.answer_settings()).logits)
        for attention in model.attentions:
            attention.compression = None
        means = model(ids, cache=example).logits
    torch.testing.assert_close(torch.cat(parts, dim=1), full, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(means, full, atol=1e-3)

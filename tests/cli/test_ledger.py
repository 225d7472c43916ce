"""What an answer touches is counted, and checked as it is touched."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from nsa_cli.ledger import DamagedError, Ledger, block_checks
from nsa_models.cache import KVCache
from nsa_models.configuration import NSAConfig

CONFIG = NSAConfig(
    hidden_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=16
)
SETTINGS = replace(CONFIG.answering(), select_count=4, select_tile=64, window=128)
TOKEN = 2 * 16 * 4
"""Bytes of one token's key and value in one layer and group."""


def filled(length: int) -> KVCache:
    cache = KVCache(CONFIG, length + 100)
    torch.manual_seed(0)
    cache.keys.normal_()
    cache.values.normal_()
    cache.length = length
    return cache


def test_selected_blocks_the_window_and_the_summaries_count() -> None:
    cache = filled(1000)
    ledger = Ledger(cache, 64)
    assert cache.observe is ledger
    blocks = torch.tensor([[[[0, 3, -1]], [[0, 5, 6]]]])
    ledger(1, blocks, SETTINGS, 1010, 10)
    near = 1000 - (1000 // 64 - 2) * 64  # the window's blocks, the partial last one included
    summaries = 2 * (1000 // 4) * TOKEN // 2
    assert ledger.bytes_touched == (5 * 64 + 2 * near) * TOKEN + summaries
    assert ledger.bytes_held == 2 * 2 * 1000 * TOKEN + summaries
    before = ledger.bytes_touched
    ledger(1, blocks, SETTINGS, 1010, 10)
    assert ledger.bytes_touched == before


def test_dense_attention_touches_everything() -> None:
    ledger = Ledger(filled(1000), 64)
    for layer in range(2):
        ledger(layer, None, SETTINGS, 1010, 10)
    assert ledger.bytes_touched == ledger.bytes_held == 2 * 2 * 1000 * TOKEN


@pytest.mark.parametrize("tensor", ["keys", "values"])
@pytest.mark.parametrize("token", [192, 255, 999])
def test_one_flipped_bit_in_a_touched_block_is_noticed(tensor: str, token: int) -> None:
    cache = filled(1000)
    checks = block_checks(cache, 64, 0, 1000)
    ledger = Ledger(cache, 64, checks)
    numbers = getattr(cache, tensor)[1, 0, 1, token].view(torch.int32)
    numbers[7] ^= 1 << 3
    ledger(0, None, SETTINGS, 1010, 10)
    with pytest.raises(DamagedError, match="layer 1, group 1"):
        ledger(1, torch.tensor([[[[0]], [[3]]]]), SETTINGS, 1010, 10)


def test_damage_that_nothing_touches_does_no_harm() -> None:
    cache = filled(1000)
    ledger = Ledger(cache, 64, block_checks(cache, 64, 0, 1000))
    cache.keys[1, 0, 1, 300] += 1
    ledger(1, torch.tensor([[[[0]], [[3]]]]), SETTINGS, 1010, 10)
    assert ledger.bytes_touched > 0

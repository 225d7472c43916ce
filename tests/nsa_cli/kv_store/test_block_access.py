"""Blocks that an answer reads are counted and verified."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from nsa_cli.engine import open_document
from nsa_cli.kv_store.block_access import BlockAccess, CorruptBlockError
from nsa_cli.kv_store.integrity import block_checksums
from nsa_models.cache.kv_cache import KVCache
from nsa_models.configuration.config import NSAConfig

CONFIG = NSAConfig(
    hidden_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=16
)
SETTINGS = replace(CONFIG.answer_settings(), select_count=4, select_tile=64, window=128)
TOKEN = 2 * 16 * 4
"""Bytes of one token's key and value in one layer and group."""


def filled(length: int) -> KVCache:
    cache = KVCache(CONFIG, length + 100)
    torch.manual_seed(0)
    for tensor in (*cache.keys, *cache.values):
        tensor.normal_()
    cache.length = length
    return cache


def test_selected_blocks_window_and_summaries_are_counted() -> None:
    cache = filled(1000)
    access = BlockAccess(cache, 64)
    assert cache.observe is access
    blocks = torch.tensor([[[[0, 3, -1]], [[0, 5, 6]]]])
    access(1, blocks, SETTINGS, 1010, 10)
    near = 1000 - (1000 // 64 - 2) * 64  # the window's blocks, including the incomplete last one
    summaries = 2 * (1000 // 4) * TOKEN // 2
    assert access.bytes_touched == (5 * 64 + 2 * near) * TOKEN + summaries
    assert access.bytes_held == 2 * 2 * 1000 * TOKEN + summaries
    before = access.bytes_touched
    access(1, blocks, SETTINGS, 1010, 10)
    assert access.bytes_touched == before


def test_dense_attention_reads_everything() -> None:
    access = BlockAccess(filled(1000), 64)
    for layer in range(2):
        access(layer, None, SETTINGS, 1010, 10)
    assert access.bytes_touched == access.bytes_held == 2 * 2 * 1000 * TOKEN


@pytest.mark.parametrize("tensor", ["keys", "values"])
@pytest.mark.parametrize("token", [192, 255, 999])
def test_a_flipped_bit_in_a_read_block_is_detected(tensor: str, token: int) -> None:
    cache = filled(1000)
    checks = block_checksums(cache, 64, 0, 1000)
    access = BlockAccess(cache, 64, checks)
    numbers = getattr(cache, tensor)[1][0, 1, token].view(torch.int32)
    numbers[7] ^= 1 << 3
    access(0, None, SETTINGS, 1010, 10)
    with pytest.raises(CorruptBlockError, match="layer 1, group 1"):
        access(1, torch.tensor([[[[0]], [[3]]]]), SETTINGS, 1010, 10)


def test_damage_in_unread_blocks_is_ignored() -> None:
    cache = filled(1000)
    access = BlockAccess(cache, 64, block_checksums(cache, 64, 0, 1000))
    cache.keys[1][0, 1, 300] += 1
    access(1, torch.tensor([[[[0]], [[3]]]]), SETTINGS, 1010, 10)
    assert access.bytes_touched > 0


def test_a_sparse_answer_reads_little_and_detects_damage(
    asker: Any, tmp_path: Path, prose: Any, substance: Any
) -> None:
    text_file = tmp_path / "long.txt"  # longer than the parts whose keys the question attends to
    text_file.write_text(prose(220))
    asker(text_file, answer_blocks=2)
    expected = asker(text_file, answer_blocks=2)
    stats = expected.stats
    assert stats.reused_tokens == stats.document_tokens
    assert 0 < stats.cache_bytes_touched < 0.8 * stats.cache_bytes
    assert not asker.notes
    [folder] = asker.readings
    path = folder / "tensors.bin"
    damaged = bytearray(path.read_bytes())
    strip = len(damaged) // 8
    for token in range(stats.document_tokens):  # one bit in one layer and group of every block
        damaged[strip + token * 64 + 9] ^= 4
    path.write_bytes(damaged)
    found = asker(text_file, answer_blocks=2)
    assert [note for note in asker.notes if "is damaged; reading that part again" in note]
    assert substance(found) == substance(expected)
    asker(text_file, answer_blocks=2)
    assert not asker.notes


def test_damaged_summaries_are_detected(asker: Any, text_file: Path, substance: Any) -> None:
    expected = asker(text_file, answer_blocks=2)
    [folder] = asker.readings
    path = folder / "summaries.bin"
    damaged = bytearray(path.read_bytes())
    damaged[100] ^= 1
    path.write_bytes(damaged)
    found = asker(text_file, answer_blocks=2)
    assert substance(found) == substance(expected)
    assert found.stats.reused_tokens == found.stats.document_tokens


def test_dense_answers_read_everything(asker: Any, text_file: Path) -> None:
    stats = asker(text_file).stats
    assert stats.cache_bytes_touched == stats.cache_bytes > 0


def test_without_passages_the_whole_text_is_verified(
    asker: Any, text_file: Path, substance: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_document.OpenDocument, "passages", lambda *_: [])
    expected = asker(text_file, answer_blocks=2)
    [folder] = asker.readings
    path = folder / "tensors.bin"
    damaged = bytearray(path.read_bytes())
    strip = len(damaged) // 8
    for token in range(expected.stats.document_tokens):
        damaged[strip + token * 64 + 9] ^= 4
    path.write_bytes(damaged)
    monkeypatch.setattr(open_document.OpenDocument, "scores", lambda *_: None)
    assert substance(asker(text_file, answer_blocks=2)) == substance(expected)

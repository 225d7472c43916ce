"""Peak memory, in bytes."""

from __future__ import annotations

import torch

from nsa_cli.system import peak_memory_bytes


def test_the_peak_rises_with_use() -> None:
    before = peak_memory_bytes()
    filled = torch.ones(before // 4 + 50_000_000)  # more bytes than the process has used so far
    after = peak_memory_bytes()
    assert filled.nbytes <= after < before + 2 * filled.nbytes
    del filled
    assert peak_memory_bytes() >= after

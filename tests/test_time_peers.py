"""The window that peers get, and the ratios that `examples/time_peers.py` prints."""

from __future__ import annotations

import sys
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch.nn import functional as F

if not find_spec("triton"):
    pytest.skip("Triton is not installed", allow_module_level=True)

EXAMPLE = Path(__file__).parents[1] / "examples" / "time_peers.py"


@pytest.fixture(scope="module")
def peers() -> ModuleType:
    spec = spec_from_file_location("time_peers", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_window_and_its_gradients(peers: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    window, tokens = 21, 50
    monkeypatch.setattr(peers, "WINDOW", peers.Band(window=window))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    q = torch.randn(1, 4, tokens, 16, device=device, requires_grad=True)
    k, v = (torch.randn(1, 2, tokens, 16, device=device, requires_grad=True) for _ in range(2))
    at = torch.arange(tokens, device=device)
    seen = (at <= at[:, None]) & (at > at[:, None] - window)
    wanted = F.scaled_dot_product_attention(q, k, v, attn_mask=seen, enable_gqa=True)
    found = peers.Window.apply(q, k, v)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    grad = torch.randn_like(wanted)
    each = zip(
        torch.autograd.grad(found, (q, k, v), grad),
        torch.autograd.grad(wanted, (q, k, v), grad),
        strict=True,
    )
    for mine, theirs in each:
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)


def test_times_are_over_those_of_the_same_selections(peers: ModuleType) -> None:
    out = torch.ones(1, 2, 1, 4)
    rows: list[dict[str, Any]] = [
        {"name": "nsa", "selections": "random", "forward_ms": [4, 3, 5], "both_ms": [8, 8, 8]},
        {"name": "nsa", "selections": "recorded", "forward_ms": [2, 2, 2], "both_ms": [5, 5, 5]},
        {
            "name": "flash_nsa",
            "selections": "recorded",
            "forward_ms": [3, 3, 3],
            "both_ms": [9] * 3,
        },
    ]
    for row, scale in zip(rows, (1, 1, 1.5), strict=True):
        row["out"] = out * scale
    rows.append({"name": "fla", "selections": "random", "error": "ValueError: no"})
    found = peers.compared(rows)
    assert found[2]["forward_over_nsa"] == 1.5
    assert found[2]["both_over_nsa"] == 1.8
    assert found[2]["difference"] == pytest.approx(0.5)
    assert found[3] == {"name": "fla", "selections": "random", "error": "ValueError: no"}
    assert not any("out" in row for row in found)


def test_peers_that_are_missing_are_named(
    peers: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("flash_nsa", "fla"):
        monkeypatch.setitem(sys.modules, name, None)
    assert peers.found_peers() == {}
    out = capsys.readouterr().out
    assert "flash_nsa cannot be imported" in out
    assert "fla cannot be imported" in out

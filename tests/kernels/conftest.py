"""What the tests of the kernels share."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

# Under `--import-mode=importlib` a test finds no module beside it by itself.
sys.path.append(str(Path(__file__).parent))
pytest.register_assert_rewrite("exactness")


@pytest.fixture
def unwritten_is_nan(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What `torch.empty` returns is full of NaN, so that a forgotten element shows."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", True)
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    assert torch.empty(3).isnan().all()
    yield
    torch.use_deterministic_algorithms(before)


@pytest.fixture(autouse=True)
def within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """No interpreted kernel reads or writes outside its arguments."""
    if os.environ.get("TRITON_INTERPRET") == "1" and find_spec("triton"):
        import bounds

        bounds.keep(monkeypatch)

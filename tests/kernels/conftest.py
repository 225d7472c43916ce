"""Fixtures of the kernel tests."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

# Under `--import-mode=importlib` a test cannot import modules beside it.
sys.path.append(str(Path(__file__).parent))
pytest.register_assert_rewrite("exactness")


@pytest.fixture
def unwritten_is_nan(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fill the result of `torch.empty` with NaN, so that unwritten elements are noticed."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", True)
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    assert torch.empty(3).isnan().all()
    yield
    torch.use_deterministic_algorithms(before)


@pytest.fixture(autouse=True)
def within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail if an interpreted kernel reads or writes outside its arguments."""
    if os.environ.get("TRITON_INTERPRET") == "1" and find_spec("triton"):
        import bounds

        bounds.keep(monkeypatch)

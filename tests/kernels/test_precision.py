"""When bf16 is widened."""

from __future__ import annotations

import pytest
import torch

from nsa_kernels import precision


@pytest.mark.parametrize(
    ("dtype", "rows", "units", "wanted"),
    [
        (torch.bfloat16, 128, False, True),
        (torch.bfloat16, 127, False, False),
        (torch.bfloat16, 128, True, False),
        (torch.float32, 128, False, False),
    ],
)
def test_many_rows_of_bf16_without_matrix_units(
    dtype: torch.dtype, rows: int, units: bool, wanted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "_matrix_units", lambda: units)
    assert precision.widens(torch.empty(1, dtype=dtype), rows) is wanted

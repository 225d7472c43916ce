"""`nsa bench read` from end to end, on a tiny model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest


def test_rows_and_plot(tiny_model: Path, tmp_path: Path, start_nsa: Any) -> None:
    pytest.importorskip("matplotlib")
    plot = tmp_path / "read.png"
    run = start_nsa(
        *("bench", "read", "--lengths", "2000", "--model", str(tiny_model), "--json"),
        *("--plot", str(plot)),
    )
    out, err = run.communicate(timeout=300)
    assert run.returncode == 0, err
    result = json.loads(out)
    assert [(row["length"], row["attention"]) for row in result["rows"]] == [
        (2000, "nsa"),
        (2000, "dense"),
    ]
    for row in result["rows"]:
        assert row["first_token_seconds"] >= row["prefill_seconds"]
        assert row["second_first_token_seconds"] > 0
        assert row["decode_tokens_per_second"] > 0
        assert row["cache_bytes"] == row["length"] * 2 * 2 * 2 * 16 * 4
        assert row["peak_memory_bytes"] > 10**8
    assert set(result["ratios"]) == {"2000"}
    assert plot.read_bytes().startswith(b"\x89PNG")

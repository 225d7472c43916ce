"""`nsa bench read` from end to end, on a tiny model."""

from __future__ import annotations

import json
import sys
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from nsa_cli.benchmarks import prefill, prefill_row
from nsa_cli.benchmarks.prefill import _ratios
from nsa_models.errors import NsaError


@pytest.mark.long
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
        assert row["peak_device_memory_bytes"] is None
    assert set(result["ratios"]) == set(result["decode_ratios"]) == {"2000"}
    assert result["notes"] == []
    assert result["settings"]["device"] == "auto"
    assert date.fromisoformat(result["date"])
    assert plot.read_bytes().startswith(b"\x89PNG")


@pytest.mark.long
def test_a_shape_without_weights_past_its_context(
    tiny_model: Path, tmp_path: Path, start_nsa: Any
) -> None:
    """A folder with a configuration and no weights; the table says what was measured."""
    folder = tmp_path / "shape"
    folder.mkdir()
    config = json.loads((tiny_model / "config.json").read_text())
    config["max_position_embeddings"] = 1000
    (folder / "config.json").write_text(json.dumps(config))
    run = start_nsa(
        *("bench", "read", "--lengths", "1500", "--model", str(folder), "--random-weights"),
        *("--answer-blocks", "4"),
    )
    out, err = run.communicate(timeout=300)
    assert run.returncode == 0, err
    assert "random weights in the model" in out
    assert "trained for 1,000 tokens" in out.replace("\n", " ")
    run = start_nsa(
        *("bench", "read", "--lengths", "100,200", "--model", str(folder), "--random-weights"),
        *("--attention", "dense", "--time-limit", "0", "--json"),
    )
    out, err = run.communicate(timeout=300)
    assert run.returncode == 0, err
    result = json.loads(out)
    assert result["rows"] == []
    assert result["notes"] == ["time limit reached: 2 of 2 were not measured"]
    run = start_nsa("bench", "read", "--lengths", "100", "--model", str(folder), "--json")
    out, _ = run.communicate(timeout=300)
    assert run.returncode != 0
    assert "has no weights" in json.loads(out)["error"]["message"]


def test_impossible_measurements_are_refused_first(tiny_model: Path, start_nsa: Any) -> None:
    read = ("bench", "read", "--lengths", "100", "--model", str(tiny_model), "--attention")
    run = start_nsa(*read, "nsa,llama.cpp")
    _, err = run.communicate(timeout=300)
    assert run.returncode == 2
    assert "llama.cpp" in err
    run = start_nsa(*read, "fast")
    _, err = run.communicate(timeout=300)
    assert run.returncode == 2
    assert "invalid value for --attention: 'fast'" in err


def test_a_failed_measurement_has_its_hint(start_nsa: Any) -> None:
    """The error of the measuring process is the program's error."""
    run = start_nsa("bench", "read", "--lengths", "20", "--model", "/none", "--json")
    out, err = run.communicate(timeout=300)
    assert run.returncode == 1, err
    error = json.loads(out)["error"]
    assert error["code"] == "model_missing"
    assert error["message"] == "reading 20 tokens with nsa failed: no model at /none"
    assert "check the path" in error["hint"]


@pytest.mark.skipif(sys.platform == "win32", reason="no such signals")
@pytest.mark.parametrize(
    ("end", "why"),
    [
        ("os.kill(os.getpid(), signal.SIGILL)", "its process ended (SIGILL)"),
        ("sys.exit(7)", "its process ended (exit code 7)"),
    ],
)
def test_a_measurement_that_ends_without_output(
    end: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefill, "_CHILD", f"import os, signal, sys; {end}")
    with pytest.raises(NsaError) as caught:
        prefill._measured({"length": 20, "attention": "llama.cpp"})
    assert str(caught.value) == f"reading 20 tokens with llama.cpp failed: {why}"


@pytest.mark.parametrize("problem", [NsaError("no room"), KeyboardInterrupt()])
@pytest.mark.parametrize("at", [1, 2])
def test_finished_measurements_are_kept(
    problem: BaseException, at: int, nsa: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When a later measurement fails or is interrupted."""
    calls: list[int] = []

    def measured(request: dict[str, Any]) -> dict[str, Any]:
        calls.append(request["length"])
        if len(calls) == at:
            raise problem
        return {**prefill_row.speed_fields(request, 2.0, 1.0, 1.0, 3.0), "trained_tokens": 10**6}

    monkeypatch.setattr(prefill, "_measured", measured)
    code, out, _ = nsa(
        *("bench", "read", "--lengths", "10,20,30", "--attention", "dense", "--random-weights"),
        "--json",
    )
    interrupted = isinstance(problem, KeyboardInterrupt)
    assert code == (130 if interrupted else 1)
    result = json.loads(out)
    if at == 1:
        assert "rows" not in result
        return
    assert [row["length"] for row in result["rows"]] == ([10] if interrupted else [10, 30])
    assert (result["failed"], result["interrupted"]) == (int(not interrupted), interrupted)
    why = "interrupted: 2 of 3 were not measured" if interrupted else "no room"
    assert result["notes"][0] == why


def test_ratios_of_the_measurements() -> None:
    rows = [
        {"length": 10, "attention": "nsa", "speed": 6.0},
        {"length": 10, "attention": "dense", "speed": 2.0},
        {"length": 10, "attention": "llama.cpp", "speed": 1.0},
        {"length": 20, "attention": "nsa", "speed": 5.0},
        {"length": 30, "attention": "dense", "speed": 1.0},
    ]
    assert _ratios(rows, "speed", "dense") == {"10": 3.0}
    assert _ratios(rows, "speed", "llama.cpp") == {"10": 6.0}

"""Decoding steps as `compare_twins.py decode` times them, of small models on any device."""

from __future__ import annotations

from argparse import Namespace
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from nsa_cli.training.pretrain_config import model_config
from nsa_models.cache.kv_cache import KVCache
from nsa_models.modeling.model import NSALanguageModel
from nsa_models.training.initial import initial_model

if not find_spec("triton"):
    pytest.skip("Triton is not installed", allow_module_level=True)

EXAMPLES = Path(__file__).parents[1] / "examples"
SMALL: dict[str, Any] = {"size": "toy", "num_hidden_layers": 1}
NATIVE: dict[str, Any] = {
    **SMALL,
    "branch_keys": "separate",
    "compress_phi": "mlp",
    "compress_hidden": 16,
    "compress_block": 4,
    "compress_stride": 2,
    "select_block": 16,
    "select_count": 3,
    "window": 20,
}


@pytest.fixture
def decode_twins(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module of the examples."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    import decode_twins

    return decode_twins


def build(attention: str) -> NSALanguageModel:
    """A random model for a GPU's precision on a GPU, else in fp32."""
    values = NATIVE if attention == "nsa" else SMALL
    config = model_config(values, attention=attention, context=128, vocab_size=64, end_id=0)
    cuda = torch.cuda.is_available()
    model = initial_model(config, 0, torch.device("cuda" if cuda else "cpu")).eval()
    return model.bfloat16() if cuda else model


def options(**changes: Any) -> Namespace:
    values = {
        "context": 40,
        "batches": "2",
        "steps": 2,
        "chunk": 32,
        "graphs": True,
        "compile": False,
        "dense_by": None,
    }
    return Namespace(**{**values, **changes})


def test_a_repeated_last_token_is_a_dense_step(decode_twins: ModuleType) -> None:
    """Its logits are those of a step of the eager model after the same text."""
    model = build("dense")
    with torch.inference_mode():
        cache = decode_twins.prefilled(model, 2, options())
        ids = torch.tensor([[5], [9]], device=model.device)
        last = decode_twins.LastToken(cache, cache.length + 1)
        settings = model.config.answer_settings()
        for _ in range(2):
            found = model(ids, cache=last, settings=settings, last_logits=1).logits
        expected = model(ids, cache=cache, settings=settings, last_logits=1).logits
    tolerance = 1e-4 if found.dtype == torch.float32 else 0.05
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("attention", ["dense", "nsa"])
def test_a_row_names_the_fastest_implementation(decode_twins: ModuleType, attention: str) -> None:
    [row] = decode_twins.decode_times(build(attention), options())
    assert (row["context"], row["batch"], row["graphs"], row["compiled"]) == (40, 2, True, False)
    assert row["all_ms"][row["by"]] == min(row["all_ms"].values()) == row["step_ms"]
    wanted = {"triton", "fused"} if attention == "nsa" else {"triton", "fused", "flash"}
    assert wanted <= {*row["all_ms"]}


def test_layers_that_cannot_be_fused_are_left_out(
    decode_twins: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    model = build("dense")
    model.model.layers[0].scale = 0.5
    [row] = decode_twins.decode_times(model, options())
    assert "fused" not in row["all_ms"]
    assert "fused is not measured: fused layers do not support scales" in capsys.readouterr().err


@pytest.mark.parametrize("attention", ["dense", "nsa"])
def test_eager_steps(decode_twins: ModuleType, attention: str) -> None:
    rows = list(decode_twins.decode_times(build(attention), options(graphs=False, batches="1,2")))
    assert [(row["batch"], row["by"]) for row in rows] == [(1, "default"), (2, "default")]


def test_the_report_takes_the_fastest_row(decode_twins: ModuleType) -> None:
    """A row of compiled layers counts only if it is faster."""
    rows = [
        {"context": 8, "batch": batch, "compiled": compiled, "step_ms": ms}
        for batch, compiled, ms in (
            (1, False, 2.0),
            (1, True, 1.0),
            (2, False, 3.0),
            (2, True, 4.0),
        )
    ]
    assert decode_twins.fastest_rows(rows) == [rows[1], rows[2]]


def test_steps_leave_the_cache_as_it_was(decode_twins: ModuleType) -> None:
    """The next implementation decodes after the same text."""
    model = build("nsa")
    args = options(graphs=False)
    with torch.inference_mode():
        cache: KVCache = decode_twins.prefilled(model, 1, args)
        for _ in range(2):
            decode_twins.time_step("default", model, cache, args)
            assert cache.length == 40

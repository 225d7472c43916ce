"""`nsa models show` describes a checkpoint from its configuration."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import GPT2Config, LlamaConfig

Run = Callable[..., tuple[int, str, str]]
SIZES = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 100,
    "max_position_embeddings": 32768,
}
LLAMA_NSA = {
    **SIZES,
    "model_type": "llama-nsa",
    "block_size": 16,
    "block_counts": 16,
    "window_size": 128,
    "torch_dtype": "bfloat16",
}
SPARSE = {
    "kernel_size": 32,
    "kernel_stride": 16,
    "init_blocks": 1,
    "block_size": 64,
    "window_size": 2048,
    "topk": 64,
    "use_nope": False,
    "dense_len": 8192,
}
MINICPM = {**SIZES, "model_type": "minicpm", "sparse_config": SPARSE, "scale_depth": 1.4}
FLA = {
    "model_type": "nsa",
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_heads": 4,
    "num_kv_heads": 2,
    "head_dim": 16,
    "intermediate_size": 96,
    "vocab_size": 100,
}
BLOCK = 64 + 64 + 2 * 4 * 16 * 64 + 2 * 2 * 16 * 64 + 3 * 64 * 96
GATES = 2 * 3 * 4 * 64
PLAIN = 2 * BLOCK + 64 + 2 * 100 * 64


def write(folder: Path, values: dict[str, Any]) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(values))
    return folder


@pytest.mark.parametrize(
    ("values", "mode", "trained", "parameters"),
    [
        (LLAMA_NSA, "gated", True, PLAIN + GATES),
        (
            {**LLAMA_NSA, "window_size": 0, "inference_mode": "sparse"},
            "gated selection",
            True,
            PLAIN + GATES,
        ),
        (
            {**LLAMA_NSA, "window_size": 0, "inference_mode": "full"},
            "gated dense",
            True,
            PLAIN + GATES,
        ),
        (MINICPM, "infllm-v2", True, PLAIN - 6400),
        ({**MINICPM, "sparse_config": None}, "union", False, PLAIN - 6400),
        (FLA, "gated", True, PLAIN + GATES),
        (LlamaConfig(**SIZES).to_dict(), "union", False, PLAIN),
    ],
)
def test_descriptions(
    nsa: Run, tmp_path: Path, values: dict[str, Any], mode: str, trained: bool, parameters: int
) -> None:
    folder = write(tmp_path / "it", values)
    for name in (folder, folder / "config.json"):
        code, out, err = nsa("models", "show", str(name), "--json")
        assert (code, err) == (0, "")
        found = json.loads(out)["checkpoint"]
        assert (found["mode"], found["trained"]) == (mode, trained)
        assert found["family"] == values["model_type"]
        assert found["parameters"] == parameters
        assert [memory["tokens"] for memory in found["memory"]] == [32768, 131072]
        for memory in found["memory"]:
            size = 2 if values.get("torch_dtype") == "bfloat16" else 4
            assert memory["weights_bytes"] == size * parameters
            assert memory["keys_values_bytes"] == memory["tokens"] * 2 * 2 * 2 * 16 * size
            parts = ("weights_bytes", "keys_values_bytes", "summary_bytes")
            assert memory["total_bytes"] == sum(memory[part] for part in parts)
        assert any("exceeds its context" in note for note in found["notes"])
    code, out, err = nsa("models", "show", str(folder))
    assert (code, err) == (0, "")
    assert f"{parameters:,} in" in out
    assert ("not trained for it" in out) != trained


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({**MINICPM, "sparse_config": {**SPARSE, "use_nope": True}}, "unrotated keys"),
        ({**LLAMA_NSA, "window_size": 0}, "does not say whether"),
        ({**FLA, "attnres_block_size": 4}, "residuals over several layers"),
        ({**FLA, "sink": 4}, "unknown fields that may change the computation: sink"),
        (GPT2Config().to_dict(), "'gpt2' is not supported"),
        ({**LLAMA_NSA, "hidden_act": "none"}, "is invalid"),
    ],
)
def test_unsupported_checkpoints_have_a_reason(
    nsa: Run, tmp_path: Path, values: dict[str, Any], why: str
) -> None:
    folder = write(tmp_path / "it", values)
    code, out, err = nsa("models", "show", str(folder))
    assert (code, out) == (1, "")
    assert why in err
    code, out, _ = nsa("models", "show", str(folder), "--json")
    assert code == 1
    assert why in json.loads(out)["error"]["message"]


def test_a_missing_checkpoint(nsa: Run, tmp_path: Path) -> None:
    for name in (str(tmp_path / "nowhere"), str(tmp_path), "no-such-model"):
        code, out, err = nsa("models", "show", name)
        assert (code, out) == (1, "")
        assert any(words in err for words in ("no model at", "is not a model", "unknown model"))


def test_a_hub_id_needs_a_network(nsa: Run) -> None:
    code, out, err = nsa("models", "show", "nobody/nothing-of-this-name")
    assert (code, out) == (1, "")
    assert "from the Hugging Face hub" in err

"""Published sparse checkpoints: prefill, storage, questions, search."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from nsa_models.configuration.families import FAMILIES, family_config
from nsa_models.transformers_model import NSAForCausalLM

Run = Callable[..., tuple[int, str, str]]
COMMON = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2}
COMMON |= {"max_position_embeddings": 4096, "tie_word_embeddings": False}
LLAMA_NSA = {
    **COMMON,
    "model_type": "llama-nsa",
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "block_size": 16,
    "block_counts": 16,
    "window_size": 128,
}
MINICPM = {
    **COMMON,
    "model_type": "minicpm",
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "scale_depth": 1.4,
    "scale_emb": 2,
    "dim_model_base": 32,
    "rope_scaling": {
        "rope_type": "longrope",
        "long_factor": [1.0 + i / 8 for i in range(8)],
        "short_factor": [1.0] * 8,
        "original_max_position_embeddings": 2048,
    },
    "sparse_config": {"window_size": 128, "topk": 8, "dense_len": 1000},
}
FLA = {
    **COMMON,
    "model_type": "nsa",
    "num_heads": 4,
    "num_kv_heads": 2,
    "head_dim": 16,
    "window_size": 128,
}
CONFIGS: dict[str, dict[str, Any]] = {
    "llama-nsa": LLAMA_NSA,
    "llama-nsa sparse": {**LLAMA_NSA, "window_size": 0, "inference_mode": "sparse"},
    "llama-nsa full": {**LLAMA_NSA, "window_size": 0, "inference_mode": "full"},
    "minicpm": MINICPM,
    "fla": FLA,
}


@pytest.fixture(params=CONFIGS)
def checkpoint(request: pytest.FixtureRequest, tiny_model: Path, tmp_path: Path) -> Path:
    """A folder with random weights in a published layout, and the tiny model's tokenizer."""
    folder = tmp_path / "published"
    shutil.copytree(tiny_model, folder)
    size = json.loads((folder / "config.json").read_text())["vocab_size"]
    values = {**CONFIGS[request.param], "vocab_size": size, "eos_token_id": size - 1}
    torch.manual_seed(0)
    model = NSAForCausalLM(family_config(values))
    family = FAMILIES[values["model_type"]]
    tensors = {
        family.published_name(name): (x + torch.randn_like(x) * 0.1).contiguous()
        for name, x in model.state_dict().items()
    }
    (folder / "config.json").write_text(json.dumps(values))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def ask(nsa: Run, text: Path, model: Path, *more: str) -> dict[str, Any]:
    code, out, err = nsa("ask", str(text), "Who wrote report 9?", "--json", *more, model=model)
    assert (code, err) == (0, ""), err
    found: dict[str, Any] = json.loads(out)
    return found


def test_asking(nsa: Run, checkpoint: Path, text_file: Path, cache_folder: Path) -> None:
    """The same answer from a stored cache, from memory, and after a new prefill."""
    first = ask(nsa, text_file, checkpoint)
    config = family_config(json.loads((checkpoint / "config.json").read_text()))
    for way, of in (
        ("reading", config.prefill_settings()),
        ("answering", config.answer_settings()),
    ):
        assert first["attention"][way]["select_count"] == of.select_count
        assert first["attention"][way]["combine"] == of.combine
        assert first["attention"][way]["window"] == of.window
    assert first["stats"]["reused_tokens"] == 0
    assert first["citations"]
    shutil.rmtree(cache_folder / "answers", ignore_errors=True)
    again = ask(nsa, text_file, checkpoint)
    assert again["stats"]["reused_tokens"] == first["stats"]["document_tokens"]
    in_memory = ask(nsa, text_file, checkpoint, "--no-store")
    for other in (again, in_memory):
        assert (other["answer"], other["citations"]) == (first["answer"], first["citations"])


def test_searching(nsa: Run, checkpoint: Path, text_file: Path) -> None:
    code, out, err = nsa("find", str(text_file), "report 9", "--json", model=checkpoint)
    assert (code, err) == (0, "")
    assert json.loads(out)["matches"]


def test_dense_attention_if_supported(nsa: Run, checkpoint: Path, text_file: Path) -> None:
    code, out, err = nsa(
        "ask", str(text_file), "Who?", "--attention", "dense", "--json", model=checkpoint
    )
    values = json.loads((checkpoint / "config.json").read_text())
    if values["model_type"] == "minicpm" or "inference_mode" in values:
        assert (code, err) == (0, "")
        assert json.loads(out)["attention"]["answering"]["select_count"] is None
    else:
        assert code == 1
        assert "trained sparse" in json.loads(out)["error"]["message"]


def test_a_short_text_is_not_a_prefix_of_a_long_one(
    nsa: Run, checkpoint: Path, prose: Callable[..., str], tmp_path: Path
) -> None:
    """If short texts use dense attention, a longer text does not reuse their cache."""
    short, long = tmp_path / "short.txt", tmp_path / "long.txt"
    short.write_text(prose(30))
    long.write_text(prose(110))
    whole = ask(nsa, long, checkpoint, "--no-store")
    assert ask(nsa, short, checkpoint)["stats"]["document_tokens"] < 1000
    found = ask(nsa, long, checkpoint)
    values = json.loads((checkpoint / "config.json").read_text())
    assert (found["stats"]["reused_tokens"] == 0) == (values["model_type"] == "minicpm")
    assert found["answer"] == whole["answer"]

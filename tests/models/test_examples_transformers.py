"""The transformers examples, on small random models."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from nsa_models.gguf.convert import import_gguf
from nsa_models.transformers_model import NSAForCausalLM

ROOT = Path(__file__).parents[2]


def run(example: str, *arguments: Any) -> str:
    """The output of an example."""
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / example, *map(str, arguments)],
        capture_output=True,
        check=False,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONIOENCODING": "utf-8"},
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


@pytest.fixture
def folder(write_gguf: Any, tiny_qwen2: Any, tmp_path: Path) -> Path:
    """A folder with a model in fp32, which avoids ties between tokens, and a tokenizer."""
    import_gguf(write_gguf(tmp_path / "tiny.gguf", model=tiny_qwen2), tmp_path / "tiny")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "tiny", dtype=torch.float32)
    model.save_pretrained(tmp_path / "tiny")
    return tmp_path / "tiny"


@pytest.mark.long
def test_attention(folder: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("The quick brown fox jumps over the lazy dog. " * 4)
    question = "Who jumps?"
    lines = run("transformers_attention.py", folder, text, question).split("\n", 1)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    inputs = tokenizer.apply_chat_template(
        [{"role": "user", "content": f"{text.read_text()}\n\n{question}"}],
        add_generation_prompt=True,
        return_dict=True,
        return_tensors="pt",
    )
    count = inputs["input_ids"].shape[1]
    assert lines[0] == f"{count} tokens read"
    # The budget covers the short text, so the answer equals the dense model's.
    dense = AutoModelForCausalLM.from_pretrained(folder)
    answer = dense.generate(**inputs, max_new_tokens=64, do_sample=False)
    expected = tokenizer.decode(answer[0, count:], skip_special_tokens=True)
    assert lines[1] == f"{expected}\n"


@pytest.mark.long
def test_folder(folder: Path, tmp_path: Path) -> None:
    made, question = tmp_path / "made", "Who jumps over the dog?"
    answer = run("transformers_folder.py", folder, made, question)
    names = {path.name for path in made.iterdir()}
    assert names >= {"README.md", "config.json", "model.safetensors", "tokenizer.json"}
    model = AutoModelForCausalLM.from_pretrained(made)
    assert type(model) is NSAForCausalLM
    tokenizer = AutoTokenizer.from_pretrained(made)
    inputs = tokenizer.apply_chat_template(
        [{"role": "user", "content": question}],
        add_generation_prompt=True,
        return_dict=True,
        return_tensors="pt",
    )
    ids = inputs["input_ids"]
    with torch.no_grad():
        dense = AutoModelForCausalLM.from_pretrained(folder)
        torch.testing.assert_close(model(ids).logits, dense(ids).logits, atol=1e-3, rtol=1e-3)
    got = model.generate(**inputs, question_tokens=ids.shape[1], max_new_tokens=64, do_sample=False)
    assert answer == tokenizer.decode(got[0, ids.shape[1] :], skip_special_tokens=True) + "\n"

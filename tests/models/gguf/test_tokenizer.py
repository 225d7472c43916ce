"""Tokenizer files from a GGUF file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tokenizers

from nsa_models.errors import ModelError
from nsa_models.gguf.file import read_gguf
from nsa_models.gguf.tokenizer import tokenizer_files


def files(write_gguf: Any, tmp_path: Path, pre: str = "qwen2", **facts: Any) -> dict[str, Any]:
    facts = {"qwen2.context_length": 64} | {
        f"tokenizer.ggml.{name}": value for name, value in facts.items()
    }
    return tokenizer_files(read_gguf(write_gguf(tmp_path / "m.gguf", pre=pre, facts=facts)))


@pytest.mark.parametrize(
    ("pre", "pieces"),
    [
        ("qwen2", ["ab", "Ġ", "1", "2", "3", "4", "..ĊĊ", "Ġ", "Ġx"]),
        ("llama-bpe", ["ab", "Ġ", "123", "4", "..ĊĊ", "Ġ", "Ġx"]),
        ("gpt-2", ["ab", "Ġ1234", "..", "ĊĊĠ", "Ġx"]),
        ("smollm", ["ab", "Ġ", "1", "2", "3", "4", "..", "ĊĊĠ", "Ġx"]),
    ],
)
def test_splits_of_each_family(
    pre: str, pieces: list[str], write_gguf: Any, tmp_path: Path
) -> None:
    content = files(write_gguf, tmp_path, pre)["tokenizer.json"]
    library = tokenizers.Tokenizer.from_str(json.dumps(content))
    split = library.pre_tokenizer.pre_tokenize_str("ab 1234..\n\n  x")
    assert [piece for piece, _ in split] == pieces


def test_only_qwen_normalizes_characters(write_gguf: Any, tmp_path: Path) -> None:
    assert files(write_gguf, tmp_path)["tokenizer.json"]["normalizer"] == {"type": "NFC"}
    smollm = files(write_gguf, tmp_path, "smollm")
    assert smollm["tokenizer.json"]["normalizer"] is None


def test_only_llama_skips_merges_of_known_words(write_gguf: Any, tmp_path: Path) -> None:
    llama = files(write_gguf, tmp_path, "llama-bpe")["tokenizer.json"]
    assert llama["model"]["ignore_merges"]
    assert not files(write_gguf, tmp_path)["tokenizer.json"]["model"]["ignore_merges"]


def test_a_bos_token_is_added_if_the_file_requests_it(write_gguf: Any, tmp_path: Path) -> None:
    with_bos = files(write_gguf, tmp_path, add_bos_token=True)["tokenizer.json"]
    library = tokenizers.Tokenizer.from_str(json.dumps(with_bos))
    assert library.encode("ab").tokens[0] == "<|endoftext|>"
    without = files(write_gguf, tmp_path)["tokenizer.json"]
    assert tokenizers.Tokenizer.from_str(json.dumps(without)).encode("ab").tokens[0] != (
        "<|endoftext|>"
    )


def test_all_end_tokens(write_gguf: Any, tmp_path: Path) -> None:
    made = files(write_gguf, tmp_path, eot_token_id=7, eom_token_id=8)
    end = made["tokenizer.json"]["model"]["vocab"]["<|im_end|>"]
    assert made["generation_config.json"]["eos_token_id"] == [end, 7, 8]
    assert made["tokenizer_config.json"]["eos_token"] == "<|im_end|>"
    assert "chat_template" in made["tokenizer_config.json"]


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        ({"pre": "deepseek-llm"}, "pre-tokenizer 'deepseek-llm'"),
        ({"model": "llama"}, "kind 'llama'"),
        ({"token_type": [1, 1]}, "2 token types"),
        ({"eos_token_id": 99_999}, "eos_token_id 99999"),
    ],
)
def test_unsupported_tokenizers(
    facts: dict[str, Any], why: str, write_gguf: Any, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=why) as caught:
        files(write_gguf, tmp_path, **({"pre": "qwen2"} | facts))
    assert caught.value.code == "model_unsupported"

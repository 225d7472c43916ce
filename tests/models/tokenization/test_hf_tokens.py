"""Tokenizers that only the library supports."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nsa_models.errors import ModelError
from nsa_models.tokenization.hf_tokens import LibraryTokens


@pytest.fixture
def words() -> dict[str, Any]:
    """A `tokenizer.json` with three words and one special token."""
    return {
        "version": "1.0",
        "added_tokens": [
            {
                "id": 3,
                "content": "<s>",
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": True,
            }
        ],
        "normalizer": {"type": "Lowercase"},
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": None,
        "decoder": None,
        "model": {
            "type": "WordLevel",
            "vocab": {"[unk]": 0, "hello": 1, "world": 2},
            "unk_token": "[unk]",
        },
    }


def test_ids_and_offsets(words: dict[str, Any]) -> None:
    tokens = LibraryTokens(words, Path("tokenizer.json"))
    assert tokens.encode("Hello  world x").tolist() == [1, 2, 0]
    ids, starts = tokens.encode_with_offsets("Hello  world x")
    assert (ids.tolist(), starts.tolist()) == ([1, 2, 0], [0, 7, 13])


def test_special_tokens_are_plain_text(words: dict[str, Any]) -> None:
    tokens = LibraryTokens(words, Path("tokenizer.json"))
    assert 3 not in tokens.encode("hello <s> world").tolist()


def test_a_broken_file(words: dict[str, Any]) -> None:
    words["model"]["type"] = "Oracle"
    with pytest.raises(ModelError, match=r"cannot read .*tokenizer\.json") as caught:
        LibraryTokens(words, Path("tokenizer.json"))
    assert caught.value.code == "model_broken"

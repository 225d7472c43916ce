"""Encoder with the `tokenizers` library, for vocabularies that tiktoken cannot reproduce."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import tokenizers

from nsa_models.errors import ModelError
from nsa_models.tokenization.bpe import replace_surrogates
from nsa_models.tokenization.ids import TokenIds


class LibraryTokens:
    """Encoder of any tokenizer that the `tokenizers` library reads.

    Args:
        tokenizer: The parsed `tokenizer.json`.
        path: Its path, for messages.

    Raises:
        ModelError: With code `model_broken` if the library cannot read it.
    """

    name: ClassVar[str] = "tokenizers"

    def __init__(self, tokenizer: dict[str, Any], path: Path) -> None:
        # Without added tokens, "<|im_end|>" in a document is plain text.
        plain = {**tokenizer, "added_tokens": [], "post_processor": None}
        plain |= {"truncation": None, "padding": None}
        try:
            self._library = tokenizers.Tokenizer.from_str(json.dumps(plain))
        except Exception as error:  # The library raises bare exceptions.
            raise ModelError(f"cannot read {path}: {error}", code="model_broken") from error

    def encode(self, text: str) -> TokenIds:
        """Return the ids of `text`, without added special tokens."""
        encoded = self._library.encode(replace_surrogates(text), add_special_tokens=False)
        return np.array(encoded.ids, np.int32)

    def encode_with_offsets(self, text: str) -> tuple[TokenIds, npt.NDArray[np.int64]]:
        """Return the ids, and for each the index of the character in which it starts."""
        encoded = self._library.encode(replace_surrogates(text), add_special_tokens=False)
        starts = np.array([start for start, _ in encoded.offsets], np.int64)
        return np.array(encoded.ids, np.int32), starts

"""Tokens through the `tokenizers` library, for vocabularies that tiktoken cannot reproduce."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import tokenizers

from nsa_models.errors import ModelError
from nsa_models.tokenization.bpe import replace_surrogates


class LibraryTokens:
    """The ids of any tokenizer that the `tokenizers` library reads.

    Args:
        tokenizer: The parsed `tokenizer.json`.
        path: Where it came from, for messages.

    Raises:
        ModelError: With code `model_broken` when the library cannot read it.
    """

    name: ClassVar[str] = "tokenizers"

    def __init__(self, tokenizer: dict[str, Any], path: Path) -> None:
        # Without added tokens, so that "<|im_end|>" inside a document is plain text.
        plain = {**tokenizer, "added_tokens": [], "post_processor": None}
        plain |= {"truncation": None, "padding": None}
        try:
            self._library = tokenizers.Tokenizer.from_str(json.dumps(plain))
        except Exception as error:  # The library raises bare exceptions.
            raise ModelError(
                f"cannot read {path}: {error}",
                hint="choose another model with --model",
                code="model_broken",
            ) from error

    def encode(self, text: str) -> npt.NDArray[np.int32]:
        """The ids of `text`, with nothing added."""
        encoded = self._library.encode(replace_surrogates(text), add_special_tokens=False)
        return np.array(encoded.ids, np.int32)

    def encode_with_offsets(self, text: str) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
        """The ids, and for each the character of `text` at which, or inside which, it begins."""
        encoded = self._library.encode(replace_surrogates(text), add_special_tokens=False)
        starts = np.array([start for start, _ in encoded.offsets], np.int64)
        return np.array(encoded.ids, np.int32), starts

"""Grammars of JSON: which tokens may follow, so that an answer matches a JSON schema.

The library llguidance computes the allowed tokens. It is imported only when a grammar is needed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from nsa_models.errors import ModelError, NsaError
from nsa_models.tokenization.tokenizer import Tokenizer

if TYPE_CHECKING:
    from llguidance import LLTokenizer

_SPACES = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
"""White space of the generated JSON, as `json.dumps` writes it. Free white space would let a model
write spaces without end."""


class SchemaError(NsaError):
    """A JSON schema that cannot be used."""

    default_code = "invalid_schema"


def check_schema(schema: Mapping[str, Any]) -> None:
    """Check a JSON schema.

    Raises:
        SchemaError: If it is not a JSON schema, or uses unsupported keywords.
        ModelError: With code `missing_library` if llguidance is not installed.
    """
    matcher = _library().LLMatcher
    try:
        problem = matcher.validate_grammar(_grammar(schema))
    except ValueError as error:
        problem = str(error)
    if problem:
        raise SchemaError(f"cannot use the JSON schema: {' '.join(problem.split())[:200]}")


class JsonGrammar:
    """The grammar of one answer; it advances token by token.

    Args:
        tokenizer: The model's tokenizer.
        schema: The JSON schema.

    Raises:
        SchemaError: If the schema cannot be used.
        ModelError: With code `missing_library` if llguidance is not installed.
    """

    def __init__(self, tokenizer: Tokenizer, schema: Mapping[str, Any]) -> None:
        check_schema(schema)
        self._matcher = _library().LLMatcher(_tokens(tokenizer), _grammar(schema))
        self._stop_ids = tokenizer.stop_ids

    def allowed(self, size: int) -> Tensor:
        """Return which tokens may come next.

        Args:
            size: V, number of logits.

        Returns:
            (V,) booleans on the CPU; at least one is true.
        """
        mask = torch.zeros(size, dtype=torch.bool)
        if not self._matcher.is_stopped():
            words = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
            bits = np.unpackbits(words, bitorder="little")[:size]
            mask[: len(bits)] = torch.from_numpy(bits.astype(bool))
        if not bool(mask.any()):  # the text is complete
            mask[sorted(self._stop_ids)] = True
        return mask

    def accept(self, token: int) -> None:
        """Advance by the token that was chosen."""
        if token not in self._stop_ids:
            self._matcher.consume_token(token)


def _library() -> Any:
    try:
        import llguidance
    except ModuleNotFoundError as error:
        raise ModelError(
            "answers in JSON need the library llguidance, which is not installed",
            hint="install it with `pip install llguidance`",
            code="missing_library",
        ) from error
    return llguidance


def _grammar(schema: Mapping[str, Any]) -> str:
    """Return llguidance's grammar of a JSON schema."""
    grammar: str = _library().LLMatcher.grammar_from_json_schema(
        json.dumps(schema), defaults=_SPACES
    )
    return grammar


@lru_cache(maxsize=2)
def _tokens(tokenizer: Tokenizer) -> LLTokenizer:
    """Return a tokenizer as llguidance needs it: the bytes of all tokens."""
    library = _library()
    made: LLTokenizer = library.LLTokenizer(library.TokenizerWrapper(_Vocabulary(tokenizer)))
    return made


class _Vocabulary:
    """The attributes and the call that llguidance asks of a tokenizer."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self.eos_token_id = min(tokenizer.stop_ids)
        self.bos_token_id = None
        special = tokenizer.special_ids
        self.special_token_ids: Sequence[int] = sorted(special)
        self.tokens: Sequence[bytes] = [
            # The prefix 0xFF, which UTF-8 never has, marks special tokens.
            (b"\xff" if index in special else b"") + tokenizer.decode_bytes(index)
            for index in range(tokenizer.vocab_size)
        ]

    def __call__(self, text: str | bytes) -> list[int]:
        """Return the ids of a text."""
        decoded = text if isinstance(text, str) else text.decode(errors="replace")
        return [int(index) for index in self._tokenizer.encode(decoded)]

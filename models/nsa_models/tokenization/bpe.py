"""Byte-level BPE with tiktoken: the ids of the `tokenizers` library, ten times as fast.

tiktoken merges the pair whose token has the lowest rank, so it agrees with a list of merges in
the order of their ids, which `fast_encoder` checks. This module covers two weaknesses: memory on
long texts, which are cut where a cut cannot change the result, and a regex engine that fails in a
very long run of white space.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import tiktoken

from nsa_models.tokenization.byte_level import (
    BYTE_TO_CHARACTER,
    GPT2_PATTERN,
    LLAMA3_PATTERN,
    QWEN2_PATTERN,
    SMOLLM_PATTERN,
    digits_then_gpt2,
    split_then_bytes,
    token_bytes,
)
from nsa_models.tokenization.ids import TokenIds

CHUNK_CHARACTERS = 1 << 16
"""Characters per call of tiktoken, if the text can be cut there."""

LONG_RUN = 1 << 14
"""Length from which a run of white space bypasses the regex engine."""

_LETTERS = "0-9A-Za-zÀ-ÖØ-öø-ÿА-яぁ-ゖァ-ヺ一-龥가-힣"
_SAFE_CUT = re.compile(rf"(?<=\S) |(?<=[{_LETTERS}])[\n.,;。、]")
"""Positions where every supported pattern starts a new word in any context.

In no pattern does a word continue from a visible character into a space, or from a letter or a
digit into a newline or a full stop, and no pattern has a lookbehind.
"""

_SPACE_CLASS = r"[\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]"
"""Unicode's White_Space, the `\\s` of tiktoken; Python's `\\s` has four more characters."""

_LONG_RUN = re.compile(f"{_SPACE_CLASS}{{{LONG_RUN},}}")
_SURROGATE = re.compile("[\ud800-\udfff]")

Starts = npt.NDArray[np.int64]


class ByteLevelBPE:
    """Encoder of a byte-level vocabulary.

    Args:
        pattern: The pattern of `byte_level` that splits text into words.
        ranks: Token ids by the tokens' bytes; lower ids are merged first.
    """

    name: ClassVar[str] = "tiktoken"

    def __init__(self, pattern: str, ranks: dict[bytes, int]) -> None:
        self._pattern = pattern
        self._id_limit = max(ranks.values()) + 1
        """The first id for bytes that the vocabulary lacks."""
        missing = [byte for byte in map(_one_byte, range(256)) if byte not in ranks]
        dummies = {byte: self._id_limit + index for index, byte in enumerate(missing)}
        self._has_dummies = bool(dummies)
        known = ranks | dummies
        self._lengths = _lengths(known)
        self._encoding = _encoder(pattern, known, self._id_limit + len(dummies))

    def __getstate__(self) -> dict[str, Any]:
        """Its attributes, with the vocabulary in place of the encoder, for spawned processes."""
        encoding = self._encoding
        known = np.flatnonzero(self._lengths).tolist()
        ranks = {encoding.decode_single_token_bytes(token_id): token_id for token_id in known}
        parts = (encoding._pat_str, ranks, encoding.max_token_value)
        return {**self.__dict__, "_encoding": parts}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Build the encoder again."""
        self.__dict__ |= {**state, "_encoding": _encoder(*state["_encoding"])}

    def encode(self, text: str) -> TokenIds:
        """Return the ids of `text`, without bytes that the vocabulary lacks."""
        parts = [self._encode_chunk(chunk) for chunk in chunks(text)]
        return self._known(np.concatenate(parts) if parts else np.empty(0, np.int32))

    def encode_with_offsets(self, text: str) -> tuple[TokenIds, Starts]:
        """Return the ids, and for each the index of the character in which it starts."""
        id_parts = [np.empty(0, np.int32)]
        start_parts = [np.empty(0, np.int64)]
        position = 0
        for chunk in chunks(text):
            ids = self._encode_chunk(chunk)
            ends = np.cumsum(self._lengths[ids])
            starts = np.concatenate([[0], ends[:-1]])
            if not chunk.isascii():
                starts = _character_of_byte(chunk)[starts]
            id_parts.append(ids)
            start_parts.append(starts + position)
            position += len(chunk)
        ids, starts = np.concatenate(id_parts), np.concatenate(start_parts)
        return self._known(ids), starts[ids < self._id_limit] if self._has_dummies else starts

    def _known(self, ids: TokenIds) -> TokenIds:
        return ids[ids < self._id_limit] if self._has_dummies else ids

    def _encode_chunk(self, chunk: str) -> TokenIds:
        """Return the ids of a chunk, including ids for missing bytes."""
        if len(chunk) < 2 * CHUNK_CHARACTERS:
            return self._encode_safe(chunk)
        parts = []
        for piece, is_run in self._split_long_runs(chunk):
            if is_run:
                ids = self._encoding._encode_single_piece(piece)
                parts.append(np.array(ids, np.int32))
            else:
                parts.append(self._encode_safe(piece))
        return np.concatenate(parts)

    def _encode_safe(self, text: str) -> TokenIds:
        ids = self._encoding.encode_to_numpy(
            replace_surrogates(text), allowed_special=set(), disallowed_special=()
        )
        return ids.astype(np.int32)

    def _split_long_runs(self, text: str) -> Iterator[tuple[str, bool]]:
        """Split `text` around long runs of white space as the pattern does.

        A run that is a word comes with True.
        """
        done = 0
        for match in _LONG_RUN.finditer(text):
            start, end = match.span()
            if self._pattern in (QWEN2_PATTERN, LLAMA3_PATTERN):
                # Line ends belong to punctuation before them; otherwise the run up to its last
                # line end is one word.
                if start and _is_punctuation(text[start - 1]):
                    while start < end and text[start] in "\r\n":
                        start += 1
                last_line_end = max(text.rfind("\n", start, end), text.rfind("\r", start, end))
                words = [start, last_line_end + 1] if last_line_end >= 0 else [start]
            else:
                words = [start]
            # The last white space character belongs to the next word, if any.
            followed = end < len(text) and not (
                self._pattern == SMOLLM_PATTERN and unicodedata.category(text[end])[0] == "N"
            )
            words.append(max(words[-1], end - 1 if followed else end))
            if text[done : words[0]]:
                yield text[done : words[0]], False
            for left, right in itertools.pairwise(words):
                if left < right:
                    yield text[left:right], True
            done = words[-1]
        if text[done:]:
            yield text[done:], False


def chunks(text: str) -> Iterator[str]:
    """Split `text` into chunks whose concatenated ids are the ids of the whole text.

    Chunks have about `CHUNK_CHARACTERS` characters, or more where the text has no safe cut.
    """
    start = 0
    while start < len(text):
        cut = _SAFE_CUT.search(text, start + CHUNK_CHARACTERS)
        end = cut.start() if cut else len(text)
        yield text[start:end]
        start = end


def replace_surrogates(text: str) -> str:
    """Return `text` with U+FFFD for each lone surrogate, which has no UTF-8 form."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return _SURROGATE.sub("\ufffd", text)
    return text


def merge_ranks(tokenizer: dict[str, Any]) -> tuple[str, dict[bytes, int]] | None:
    """Return the arguments of `ByteLevelBPE` for a parsed `tokenizer.json`.

    None if tiktoken cannot reproduce it.
    """
    model = tokenizer["model"]
    pattern = _pattern(tokenizer.get("pre_tokenizer"))
    plain = not any(
        model.get(key)
        for key in ("dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix")
    )
    adjusted = any(
        token.get("lstrip") or token.get("rstrip") or token.get("single_word")
        for token in tokenizer.get("added_tokens") or ()
    )
    normalizer = tokenizer.get("normalizer")
    if (
        model.get("type") != "BPE"
        or pattern is None
        or not plain
        or model.get("byte_fallback")
        or adjusted
        or (normalizer is not None and normalizer.get("type") != "NFC")
    ):
        return None
    ranks = _ranks(tokenizer)
    return (pattern, ranks) if ranks else None


def _ranks(tokenizer: dict[str, Any]) -> dict[bytes, int] | None:
    """Return the ids of all tokens that merges can reach, or None if ids and merges disagree."""
    model = tokenizer["model"]
    vocab: dict[str, int] = model["vocab"]
    merges = model["merges"]
    if merges and isinstance(merges[0], str):
        merged = [pair.replace(" ", "", 1) for pair in merges]
    else:
        merged = ["".join(pair) for pair in merges]
    try:
        order = np.fromiter(map(vocab.__getitem__, merged), np.int64, len(merged))
        if not merged or (np.diff(order) < 0).any():
            return None
        spelled = dict.fromkeys(merged) | dict.fromkeys(BYTE_TO_CHARACTER.values())
        if model.get("ignore_merges"):
            added = {token["content"] for token in tokenizer.get("added_tokens") or ()}
            if not vocab.keys() <= spelled.keys() | added:
                return None
        return {token_bytes(token): vocab[token] for token in spelled if token in vocab}
    except (KeyError, UnicodeEncodeError):
        return None


def _pattern(pre_tokenizer: dict[str, Any] | None) -> str | None:
    """Return the pattern of a pre-tokenizer, or None if it is unknown."""
    known = {
        **{
            _canonical(split_then_bytes(pattern)): pattern
            for pattern in (QWEN2_PATTERN, LLAMA3_PATTERN, GPT2_PATTERN)
        },
        _canonical({"type": "ByteLevel", "use_regex": True}): GPT2_PATTERN,
        _canonical(digits_then_gpt2()): SMOLLM_PATTERN,
    }
    return known.get(_canonical(pre_tokenizer))


def _canonical(step: Any) -> str:
    """Return a pre-tokenizer step as text, without options that do not affect the ids."""
    if isinstance(step, dict):
        defaults = {"use_regex": True} if step.get("type") == "ByteLevel" else {}
        options = {**defaults, **step}
        # This module computes offsets itself; known pre-tokenizers have no prefix space.
        options.pop("trim_offsets", None)
        if options.get("add_prefix_space") is False or step.get("type") != "ByteLevel":
            options.pop("add_prefix_space", None)
        if options.get("behavior") == "Removed" and options.get("invert"):
            # The inverted form of the same split.
            options |= {"behavior": "Isolated", "invert": False}
        return repr(sorted((key, _canonical(value)) for key, value in options.items()))
    if isinstance(step, list):
        return repr([_canonical(part) for part in step])
    return repr(step)


def _encoder(pattern: str, ranks: dict[bytes, int], unused: int) -> tiktoken.Encoding:
    """Return an encoder without its second copy of the vocabulary, 13 MB for 150,000 tokens.

    Args:
        pattern: Regular expression of the pieces that are encoded apart.
        ranks: Ids of the tokens.
        unused: An id above all others.
    """
    encoding = tiktoken.Encoding(
        "nsa",
        pat_str=pattern,
        mergeable_ranks=ranks,
        # Never matched; without special tokens tiktoken's search matches everywhere.
        special_tokens={"<|nsa-none|>": unused},
    )
    encoding._mergeable_ranks = {}
    return encoding


def _lengths(ranks: dict[bytes, int]) -> npt.NDArray[np.int64]:
    """Return the number of bytes of each token, by id."""
    lengths = np.zeros(max(ranks.values()) + 1, np.int64)
    ids = np.fromiter(ranks.values(), np.int64, len(ranks))
    lengths[ids] = np.fromiter(map(len, ranks), np.int64, len(ranks))
    return lengths


def _character_of_byte(text: str) -> npt.NDArray[np.int64]:
    """Return the index of the character of each byte of the UTF-8 form."""
    encoded = np.frombuffer(replace_surrogates(text).encode(), np.uint8)
    return np.cumsum((encoded & 0xC0) != 0x80, dtype=np.int64) - 1


def _is_punctuation(character: str) -> bool:
    """Return whether a character that is not white space is neither letter nor digit."""
    return unicodedata.category(character)[0] not in "LN"


def _one_byte(value: int) -> bytes:
    return bytes([value])

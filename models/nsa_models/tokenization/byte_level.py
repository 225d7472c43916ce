"""Alphabet and splitting patterns of byte-level BPE vocabularies.

A byte-level vocabulary writes each byte as one printable character (`Ġ` is a space). A pattern
splits text into words before pairs of bytes are merged. Both are published conventions that
readers and writers of `tokenizer.json` need.
"""

from __future__ import annotations

from typing import Any

_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+"
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"

QWEN2_PATTERN = rf"{_WORDS}|\p{{N}}|{_REST}"
LLAMA3_PATTERN = rf"{_WORDS}|\p{{N}}{{1,3}}|{_REST}"
GPT2_PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
SMOLLM_PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?![^\s\p{N}])|\s+"
"""The split into single digits followed by GPT-2's pattern, as one pattern."""


def _alphabet() -> dict[int, str]:
    """Return GPT-2's map of bytes: printable Latin-1 stays, other bytes map to U+0100 and up."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAC + 1), *range(0xAE, 0xFF + 1)]
    moved = (byte for byte in range(256) if byte not in printable)
    return {byte: chr(byte) for byte in printable} | {
        byte: chr(256 + index) for index, byte in enumerate(moved)
    }


BYTE_TO_CHARACTER = _alphabet()
_TO_LATIN1 = {ord(character): byte for byte, character in BYTE_TO_CHARACTER.items()}


def token_bytes(token: str) -> bytes:
    """Return the bytes of a token of a byte-level vocabulary.

    Raises:
        UnicodeEncodeError: If a character is outside the alphabet and Latin-1.
    """
    return token.translate(_TO_LATIN1).encode("latin-1")


def byte_level(*, use_regex: bool) -> dict[str, Any]:
    """Return the `ByteLevel` step of a `tokenizer.json`."""
    return {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": False,
        "use_regex": use_regex,
    }


def split_then_bytes(pattern: str) -> dict[str, Any]:
    """Return the pre-tokenizer that splits by `pattern` and then maps bytes to characters."""
    split = {
        "type": "Split",
        "pattern": {"Regex": pattern},
        "behavior": "Isolated",
        "invert": False,
    }
    return {"type": "Sequence", "pretokenizers": [split, byte_level(use_regex=False)]}


def digits_then_gpt2() -> dict[str, Any]:
    """Return SmolLM's pre-tokenizer: a split into single digits, then GPT-2's pattern."""
    digits = {"type": "Digits", "individual_digits": True}
    return {"type": "Sequence", "pretokenizers": [digits, byte_level(use_regex=True)]}

"""What encoding and decoding need of a `tokenizer.json`, kept ready to use.

Parsing a file of 150,000 tokens and its merges takes 0.6 s, and what follows from it 0.2 s:

    models/prepared/<hash of the file>.tokens

holds, after a checksum of the rest, one line of JSON and the arrays that it describes. A missing or
damaged file is made again.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import numpy as np

from nsa_models.errors import ModelError
from nsa_models.paths import atomic_write, prepared_folder
from nsa_models.tokenization.bpe import ByteLevelBPE, merge_ranks
from nsa_models.tokenization.hf_tokens import LibraryTokens

_FORMAT = 1
"""Format version; bump when the tables of a file change."""

_MOST = 8
"""Tokenizers to keep: 4 MB for 150,000 tokens."""

_CHECKSUM_BYTES = 32

_ENCODED = ("utf-8", "surrogatepass")
"""JSON may spell half of a surrogate pair."""


class Spelled:
    """Tokens by id in one string: a dictionary of 150,000 takes 40 MB.

    Args:
        text: The tokens, one after another.
        lengths: (V,) characters of each.
    """

    def __init__(self, text: str, lengths: np.ndarray[Any, np.dtype[np.int32]]) -> None:
        self.text, self.lengths = text, lengths
        self._ends = np.cumsum(lengths, dtype=np.int64)

    @classmethod
    def of(cls, vocabularies: Sequence[dict[str, int]]) -> Spelled:
        """Join vocabularies.

        Args:
            vocabularies: Ids by token; of several tokens with one id, the last is kept.
        """
        tokens = [""] * (1 + max(max(each.values(), default=-1) for each in vocabularies))
        for each in vocabularies:
            for token, token_id in each.items():
                tokens[token_id] = token
        return cls("".join(tokens), np.fromiter(map(len, tokens), np.int32, len(tokens)))

    def __len__(self) -> int:
        """Return the largest id plus one."""
        return len(self._ends)

    def __getitem__(self, token_id: int) -> str:
        """Return the token of an id; empty for an unknown id."""
        if not 0 <= token_id < len(self._ends):
            return ""
        start = self._ends[token_id - 1] if token_id else 0
        return self.text[start : self._ends[token_id]]


@dataclass(frozen=True, kw_only=True)
class Tables:
    """A `tokenizer.json`, ready to use.

    Attributes:
        described: The file's object without vocabulary and merges.
        tokens: The encoder.
        spelled: Tokens by id, the added ones included.
        end_id: Id of the token that ends a text by its configuration; None without one.
    """

    described: dict[str, Any]
    tokens: ByteLevelBPE | LibraryTokens
    spelled: Spelled
    end_id: int | None


_in_use: WeakValueDictionary[str, Tables] = WeakValueDictionary()
"""Tables of the tokenizers in memory: two models may have one vocabulary, which takes 40 MB."""


def load_tables(content: bytes, digest: str, end_token: str, path: Path) -> Tables:
    """Return the tables of a file, and keep them if tiktoken can reproduce it.

    Tokenizers of the same file share them.

    Args:
        content: The file.
        digest: Its SHA-256 in hexadecimal.
        end_token: The token that ends a text; empty without one.
        path: Its path, for messages.

    Raises:
        ModelError: With code `model_broken` if it cannot be read.
    """
    key = hashlib.sha256(json.dumps([_FORMAT, digest, end_token]).encode()).hexdigest()[:32]
    found = _in_use.get(key)
    if found is None:
        found = _in_use[key] = _kept_or_made(content, key, end_token, path)
    return found


def _kept_or_made(content: bytes, key: str, end_token: str, path: Path) -> Tables:
    """`load_tables` by what is on the disk; `key` names the kept file."""
    try:
        kept: Path | None = prepared_folder() / f"{key}.tokens"
    except ModelError:  # no home folder
        kept = None
    if kept is not None and (found := _read(kept)) is not None:
        return found
    tokenizer = _parsed(content, path)
    vocab = _vocabulary(tokenizer)
    added = {token["content"]: token["id"] for token in tokenizer.get("added_tokens") or ()}
    model = {k: x for k, x in tokenizer["model"].items() if k not in ("vocab", "merges")}
    merges = merge_ranks(tokenizer)
    tables = Tables(
        described={**tokenizer, "model": model},
        tokens=LibraryTokens(tokenizer, path) if merges is None else ByteLevelBPE(*merges),
        spelled=Spelled.of([vocab, added]),
        end_id=added.get(end_token, vocab.get(end_token)),
    )
    if kept is not None and merges is not None:
        _write(kept, tables, *merges)
    return tables


def kept_tables() -> list[Path]:
    """Return the files of kept tables, the least recently used first."""
    files = prepared_folder().glob("*.tokens")
    return sorted(files, key=lambda path: path.stat().st_mtime)


def _read(path: Path) -> Tables | None:
    """Return the tables of a kept file; None if it is missing or damaged."""
    try:
        data = path.read_bytes()
        body = memoryview(data)[_CHECKSUM_BYTES:]
        if hashlib.sha256(body).digest() != data[:_CHECKSUM_BYTES]:
            return None
    except OSError:
        return None
    line_end = data.index(b"\n", _CHECKSUM_BYTES)
    head = json.loads(data[_CHECKSUM_BYTES:line_end])
    place, parts = line_end + 1, []
    for size in head["sizes"]:
        parts.append(data[place : place + size])
        place += size
    words, text = parts[0], parts[3].decode(*_ENCODED)
    word_lengths, ids, lengths = (np.frombuffer(parts[n], "<i4") for n in (1, 2, 4))
    bounds = np.concatenate([[0], np.cumsum(word_lengths)]).tolist()
    ranks = dict(zip([words[a:b] for a, b in pairwise(bounds)], ids.tolist(), strict=True))
    with suppress(OSError):  # a read-only disk
        os.utime(path)
    return Tables(
        described=head["described"],
        tokens=ByteLevelBPE(head["pattern"], ranks),
        spelled=Spelled(text, lengths.astype(np.int32)),
        end_id=head["end_id"],
    )


def _write(path: Path, tables: Tables, pattern: str, ranks: dict[bytes, int]) -> None:
    """Keep tables, if the disk allows it, and remove the least recently used ones."""
    parts = [
        b"".join(ranks),
        np.fromiter(map(len, ranks), "<i4", len(ranks)).tobytes(),
        np.fromiter(ranks.values(), "<i4", len(ranks)).tobytes(),
        tables.spelled.text.encode(*_ENCODED),
        tables.spelled.lengths.astype("<i4").tobytes(),
    ]
    head = {
        "described": tables.described,
        "pattern": pattern,
        "end_id": tables.end_id,
        "sizes": [len(part) for part in parts],
    }
    body = b"".join([json.dumps(head).encode(), b"\n", *parts])
    with suppress(OSError):
        with atomic_write(path) as partial:
            partial.write_bytes(hashlib.sha256(body).digest() + body)
        for old in kept_tables()[:-_MOST]:
            old.unlink(missing_ok=True)


def _parsed(content: bytes, path: Path) -> dict[str, Any]:
    tokenizer = parse_object(content, path)
    if not isinstance(tokenizer.get("model"), dict):
        raise unreadable(path, "it does not describe a tokenizer")
    return tokenizer


def parse_object(content: bytes, path: Path) -> dict[str, Any]:
    """Return the object of a JSON file.

    Raises:
        ModelError: With code `model_broken` if it has none.
    """
    try:
        parsed = json.loads(content)
    except ValueError as error:
        raise unreadable(path, str(error)) from error
    if not isinstance(parsed, dict):
        raise unreadable(path, "it is not a JSON object")
    return parsed


def unreadable(path: Path, why: str) -> ModelError:
    """Return the error for a file that cannot be read."""
    return ModelError(f"cannot read {path}: {why}", code="model_broken")


def _vocabulary(tokenizer: dict[str, Any]) -> dict[str, int]:
    """Return ids by token; Unigram files have a list of tokens and scores."""
    vocab = tokenizer["model"].get("vocab", {})
    if isinstance(vocab, dict):
        return vocab
    return {token: index for index, (token, *_) in enumerate(vocab)}

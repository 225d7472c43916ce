"""Token shards: documents as token ids on disk, in two splits, with the tokenizer that made them.

A folder of shards has `shards.json`, the tokenizer's files, and for each split numbered pairs of
files: `NNNNN.npy` has the tokens of whole documents, one after the other, and `NNNNN.ends.npy` the
end of each document in it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nsa_models.errors import DataError, UsageError
from nsa_models.paths import atomic_write

INDEX = "shards.json"
SPLITS = ("train", "heldout")
_FORMAT = 1
_SHARD_TOKENS = 2**26

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardIndex:
    """The content of `shards.json`.

    Attributes:
        tokenizer: Fingerprint of the tokenizer; see `Tokenizer.fingerprint`.
        vocab_size: Number of token ids (V).
        end_id: The token after each document.
        dtype: numpy's name of the type of the token ids.
        documents: Number of documents by split.
        tokens: Number of tokens by split, the tokens after documents included.
        longest: Tokens of the longest document by split.
    """

    tokenizer: str
    vocab_size: int
    end_id: int
    dtype: str
    documents: dict[str, int]
    tokens: dict[str, int]
    longest: dict[str, int]


class ShardWriter:
    """Writes documents to a folder of shards; `close` completes it.

    Args:
        folder: The folder, without `shards.json` until `close`.
        tokenizer: Fingerprint of the tokenizer.
        vocab_size: Number of token ids (V).
        end_id: The token that is added after each document.
        shard_tokens: Tokens after which a new file begins.
    """

    def __init__(
        self,
        folder: Path,
        *,
        tokenizer: str,
        vocab_size: int,
        end_id: int,
        shard_tokens: int = _SHARD_TOKENS,
    ) -> None:
        self._folder, self._tokenizer, self._vocab_size = folder, tokenizer, vocab_size
        self._end_id, self._shard_tokens = end_id, shard_tokens
        self._dtype = np.dtype(np.uint16 if vocab_size <= 2**16 else np.uint32)
        self._waiting: dict[str, list[npt.NDArray[Any]]] = {split: [] for split in SPLITS}
        self._files = dict.fromkeys(SPLITS, 0)
        self._waiting_tokens = dict.fromkeys(SPLITS, 0)
        self._lengths: dict[str, list[int]] = {split: [] for split in SPLITS}

    def add(self, split: str, ids: npt.NDArray[Any]) -> None:
        """Add a document (T,) to `train` or `heldout`."""
        end = np.array([self._end_id], self._dtype)
        document = np.concatenate([ids.astype(self._dtype), end])
        self._lengths[split].append(len(document))
        self._waiting[split].append(document)
        self._waiting_tokens[split] += len(document)
        if self._waiting_tokens[split] >= self._shard_tokens:
            self._flush(split)

    def close(self) -> ShardIndex:
        """Write the rest and the index."""
        for split in SPLITS:
            self._flush(split)
        index = ShardIndex(
            tokenizer=self._tokenizer,
            vocab_size=self._vocab_size,
            end_id=self._end_id,
            dtype=self._dtype.name,
            documents={split: len(lengths) for split, lengths in self._lengths.items()},
            tokens={split: sum(lengths) for split, lengths in self._lengths.items()},
            longest={split: max(lengths, default=0) for split, lengths in self._lengths.items()},
        )
        with atomic_write(self._folder / INDEX) as path:
            path.write_text(json.dumps({"format": _FORMAT, **asdict(index)}, indent=1) + "\n")
        return index

    def _flush(self, split: str) -> None:
        waiting = self._waiting[split]
        if not waiting:
            return
        folder = self._folder / split
        folder.mkdir(parents=True, exist_ok=True)
        name = f"{self._files[split]:05}"
        np.save(folder / f"{name}.npy", np.concatenate(waiting))
        np.save(folder / f"{name}.ends.npy", np.cumsum([len(each) for each in waiting]))
        self._files[split] += 1
        self._waiting_tokens[split] = 0
        waiting.clear()


class TokenDocuments:
    """The documents of a split, mapped from files and opened at first use.

    Args:
        files: Pairs of a file of tokens and a file of the documents' ends.

    Attributes:
        lengths: (N,) tokens of each document.
    """

    def __init__(self, files: Sequence[tuple[Path, Path]]) -> None:
        self._files = tuple(files)
        ends = [_ends(path) for _, path in self._files]
        self._firsts: Counts = np.cumsum([0, *map(len, ends)])
        self._starts: Counts = np.concatenate(
            [np.zeros(0, np.int64), *(np.concatenate([[0], each[:-1]]) for each in ends)]
        )
        self.lengths: Counts = np.concatenate(
            [np.zeros(0, np.int64), *(np.diff(each, prepend=0) for each in ends)]
        )
        self._open: dict[int, npt.NDArray[Any]] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without mapped files, whose data would be copied."""
        return {**self.__dict__, "_open": {}}

    def tokens(self, document: int, start: int, stop: int) -> npt.NDArray[np.int64]:
        """Return the ids (stop - start,) of a part of a document."""
        file = int(np.searchsorted(self._firsts, document, side="right")) - 1
        if file not in self._open:
            self._open[file] = np.load(self._files[file][0], mmap_mode="r")
        first = self._starts[document]
        ids: npt.NDArray[np.int64] = self._open[file][first + start : first + stop].astype(np.int64)
        return ids


@dataclass(frozen=True, slots=True, kw_only=True)
class Shards:
    """One or several folders of shards with the same tokenizer.

    Attributes:
        folder: The first folder, which has the tokenizer's files.
        index: Index of the first folder; its counts are sums over all folders.
        train: Documents to train on.
        heldout: Documents to measure the loss on.
    """

    folder: Path
    index: ShardIndex
    train: TokenDocuments
    heldout: TokenDocuments


def open_shards(folders: Sequence[Path]) -> Shards:
    """Open folders of shards.

    Raises:
        DataError: If a folder has no shards, or they cannot be read.
        UsageError: If two folders have different tokenizers.
    """
    indexes = [_index(folder) for folder in folders]
    first = indexes[0]
    for folder, index in zip(folders, indexes, strict=True):
        if (index.tokenizer, index.end_id) != (first.tokenizer, first.end_id):
            raise UsageError(
                f"{folder} was made with another tokenizer than {folders[0]}",
                hint=f"make both with the same tokenizer: the one in {folders[0]}",
            )
    documents = {split: TokenDocuments(_files(folders, split)) for split in SPLITS}
    lengths = {split: found.lengths for split, found in documents.items()}
    total = ShardIndex(
        tokenizer=first.tokenizer,
        vocab_size=first.vocab_size,
        end_id=first.end_id,
        dtype=first.dtype,
        documents={split: len(each) for split, each in lengths.items()},
        tokens={split: int(each.sum()) for split, each in lengths.items()},
        longest={split: int(each.max(initial=0)) for split, each in lengths.items()},
    )
    return Shards(folder=folders[0], index=total, **documents)


def _index(folder: Path) -> ShardIndex:
    path = folder / INDEX
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(
            f"{folder} has no token shards: it has no {INDEX}",
            hint="name a folder of shards",
            code="missing",
        ) from error
    except (OSError, ValueError) as error:
        raise _broken(path, str(error)) from error
    try:
        if values.pop("format") != _FORMAT:
            raise _broken(path, "its format is of another version")
        return ShardIndex(**values)
    except (KeyError, TypeError, AttributeError) as error:
        raise _broken(path, "it does not describe token shards") from error


def _files(folders: Sequence[Path], split: str) -> list[tuple[Path, Path]]:
    return [
        (path.with_name(path.name.replace(".ends", "")), path)
        for folder in folders
        for path in sorted((folder / split).glob("*.ends.npy"))
    ]


def _ends(path: Path) -> Counts:
    try:
        ends: Counts = np.load(path).astype(np.int64)
    except (OSError, ValueError) as error:
        raise _broken(path, str(error)) from error
    return ends


def _broken(path: Path, why: str) -> DataError:
    return DataError(f"cannot read {path}: {why}", hint="make the shards again", code="broken")

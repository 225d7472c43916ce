"""Rows of packed documents: what each step of a training from scratch reads, by its number alone.

The documents of an epoch, in an order that follows from the seed, form one stream of tokens, which
is cut into rows of equal length. A row holds parts of several documents; attention, positions and
losses stop at their ends. Any step can be made again from its number, so that a resumed run and a
twin with another attention see the same tokens in the same order.

Letters: R rows, T tokens of a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from nsa_models.errors import DataError
from nsa_models.training.shards import Counts, TokenDocuments

IGNORED = -100
"""The target of a position without a loss."""


@dataclass(frozen=True, slots=True)
class PackedBatch:
    """Rows of packed documents.

    Attributes:
        ids: (R, T) token ids.
        targets: (R, T) the next token of the same document, or `IGNORED`.
        lengths: Tokens of each part of a document, in order through all rows.
    """

    ids: Tensor
    targets: Tensor
    lengths: tuple[int, ...]

    @property
    def whole(self) -> bool:
        """Whether each row is one part of one document."""
        rows, tokens = self.ids.shape
        return self.lengths == (tokens,) * rows

    def to(self, device: torch.device) -> PackedBatch:
        """Return the batch on a device, without waiting for the copy."""
        ids, targets = (x.to(device, non_blocking=True) for x in (self.ids, self.targets))
        return PackedBatch(ids, targets, self.lengths)

    def pin_memory(self) -> PackedBatch:
        """Return the batch in page-locked memory, as PyTorch's loader asks for it."""
        return PackedBatch(self.ids.pin_memory(), self.targets.pin_memory(), self.lengths)


class PackedRows:
    """Rows of `context` tokens out of shuffled documents, in endless epochs.

    Args:
        documents: The documents.
        context: T.
        seed: Seed of the order.

    Attributes:
        rows: Complete rows of an epoch. The last tokens of an epoch's stream, fewer than a row,
            have no row; each epoch leaves out others.

    Raises:
        DataError: If the documents have fewer tokens than a row.
    """

    def __init__(self, documents: TokenDocuments, context: int, seed: int) -> None:
        self._documents, self._context, self._seed = documents, context, seed
        total = int(documents.lengths.sum())
        self.rows = (total - 1) // context
        if self.rows < 1:
            raise DataError(
                f"the shards have {total:,} tokens to train on, and a row has a context of "
                f"{context:,} and one more",
                hint="use a shorter context, or make shards of more text",
                code="empty",
            )
        self._epoch: tuple[int, Counts, Counts] | None = None

    def targets(self, first: int, count: int) -> int:
        """Return the number of positions with a loss in `count` rows from number `first`."""
        return sum(
            int((targets != IGNORED).sum())
            for targets in (self._boundaries(row)[1] for row in range(first, first + count))
        )

    def batch(self, first: int, count: int) -> PackedBatch:
        """Return `count` rows from number `first`, counted through all epochs."""
        made = [self._row(row) for row in range(first, first + count)]
        ids, targets = (torch.from_numpy(np.stack([row[n] for row in made])) for n in (0, 1))
        return PackedBatch(ids, targets, tuple(n for row in made for n in row[2]))

    def _row(
        self, number: int
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], tuple[int, ...]]:
        """Return ids (T,), targets (T,) and the lengths of a row's parts."""
        order, ends = self._order(number // self.rows)
        inner, targets = self._boundaries(number)
        start = number % self.rows * self._context
        stop = start + self._context + 1
        first = int(np.searchsorted(ends, start, side="right"))
        last = int(np.searchsorted(ends, stop, side="left"))
        parts = []
        for place in range(first, last + 1):
            begins = int(ends[place - 1]) if place else 0
            low, high = max(start, begins), min(stop, int(ends[place]))
            parts.append(self._documents.tokens(int(order[place]), low - begins, high - begins))
        ids = np.concatenate(parts)
        targets = np.where(targets == IGNORED, IGNORED, ids[1:])
        lengths = np.diff([0, *inner, self._context])
        return ids[:-1], targets, tuple(int(n) for n in lengths)

    def _boundaries(self, number: int) -> tuple[Counts, npt.NDArray[np.int64]]:
        """Return the ends of documents inside a row, and its targets (T,) with 0 for any token."""
        _, ends = self._order(number // self.rows)
        start = number % self.rows * self._context
        low, high = np.searchsorted(ends, [start, start + self._context], side="right")
        found = ends[low:high] - start  # in (0, T]: the next token is of another document
        targets = np.zeros(self._context, np.int64)
        targets[found - 1] = IGNORED
        return found[found < self._context], targets

    def _order(self, epoch: int) -> tuple[Counts, Counts]:
        """Return the order of an epoch's documents and their ends in its stream."""
        if self._epoch is None or self._epoch[0] != epoch:
            lengths = self._documents.lengths
            order = np.random.default_rng([self._seed, epoch]).permutation(len(lengths))
            self._epoch = epoch, order, np.cumsum(lengths[order])
        return self._epoch[1], self._epoch[2]


class Rows(Protocol):
    """Rows by number, which any step can make again."""

    def targets(self, first: int, count: int) -> int:
        """Return the number of positions with a loss in `count` rows from number `first`."""

    def batch(self, first: int, count: int) -> PackedBatch:
        """Return `count` rows from number `first`."""


class WholeRows:
    """Rows of `context` tokens out of one document each, in endless epochs of shuffled rows.

    A document gives as many rows as it fills, from its beginning. Its rest, and documents that are
    shorter than a row, are left out.

    Args:
        documents: The documents.
        context: T.
        seed: Seed of the order.

    Attributes:
        rows: Rows of an epoch.

    Raises:
        DataError: If no document fills a row.
    """

    def __init__(self, documents: TokenDocuments, context: int, seed: int) -> None:
        self._documents, self._context, self._seed = documents, context, seed
        counts = documents.lengths // context
        self.rows = int(counts.sum())
        if self.rows < 1:
            raise DataError(
                f"the longest document has {int(documents.lengths.max(initial=0)):,} tokens, and a "
                f"row has a context of {context:,}",
                hint="use a shorter context, leave whole_rows out, or make shards of longer texts",
                code="empty",
            )
        self._document = np.repeat(np.arange(len(counts)), counts)
        self._start = (
            np.arange(self.rows) - np.repeat(np.cumsum(counts) - counts, counts)
        ) * context
        self._epoch: tuple[int, Counts] | None = None

    def targets(self, first: int, count: int) -> int:
        """Return the number of positions with a loss in `count` rows from number `first`."""
        return sum(self._length(self._place(row)) - 1 for row in range(first, first + count))

    def batch(self, first: int, count: int) -> PackedBatch:
        """Return `count` rows from number `first`, counted through all epochs."""
        ids = np.zeros((count, self._context), np.int64)
        targets = np.full((count, self._context), IGNORED, np.int64)
        for row in range(count):
            place = self._place(first + row)
            start, length = int(self._start[place]), self._length(place)
            found = self._documents.tokens(int(self._document[place]), start, start + length)
            ids[row] = found[: self._context]
            targets[row, : length - 1] = found[1:]
        lengths = (self._context,) * count
        return PackedBatch(torch.from_numpy(ids), torch.from_numpy(targets), lengths)

    def _length(self, place: int) -> int:
        """Return the tokens of a row and the one after it, if the document has one."""
        rest = int(self._documents.lengths[self._document[place]] - self._start[place])
        return min(self._context + 1, rest)

    def _place(self, number: int) -> int:
        """Return which row of the documents has a number."""
        epoch = number // self.rows
        if self._epoch is None or self._epoch[0] != epoch:
            order = np.random.default_rng([self._seed, epoch]).permutation(self.rows)
            self._epoch = epoch, order
        return int(self._epoch[1][number % self.rows])


class RowsInTurn:
    """Rows of some documents up to a number, and rows of others from there on.

    Args:
        before: The first rows.
        after: The rows from number `change` on, counted from 0 again.
        change: Number of the first row of `after`.
    """

    def __init__(self, before: Rows, after: Rows, change: int) -> None:
        self._before, self._after, self._change = before, after, change

    def targets(self, first: int, count: int) -> int:
        """Return the number of positions with a loss in `count` rows from number `first`."""
        return sum(rows.targets(*part) for rows, part in self._parts(first, count))

    def batch(self, first: int, count: int) -> PackedBatch:
        """Return `count` rows from number `first`."""
        made = [rows.batch(*part) for rows, part in self._parts(first, count)]
        if len(made) == 1:
            return made[0]
        ids, targets = (
            torch.cat(each) for each in zip(*((x.ids, x.targets) for x in made), strict=True)
        )
        return PackedBatch(ids, targets, tuple(n for each in made for n in each.lengths))

    def _parts(self, first: int, count: int) -> list[tuple[Rows, tuple[int, int]]]:
        """Return the rows that have a part of the range, each with its own range."""
        early = min(count, max(0, self._change - first))
        parts: list[tuple[Rows, tuple[int, int]]] = []
        if early:
            parts.append((self._before, (first, early)))
        if early < count:
            parts.append((self._after, (first + early - self._change, count - early)))
        return parts


class Passes(Dataset[PackedBatch]):
    """The batch of each forward pass of a process, by the number of the pass.

    Args:
        rows: All rows.
        rows_per_pass: R.
        process: Number of the process.
        processes: Number of processes; the rows of consecutive processes follow each other.
    """

    def __init__(
        self, rows: Rows, rows_per_pass: int, process: int = 0, processes: int = 1
    ) -> None:
        self._rows, self._count = rows, rows_per_pass
        self._process, self._processes = process, processes

    def __getitem__(self, number: int) -> PackedBatch:
        """Return the batch of a pass."""
        first = (number * self._processes + self._process) * self._count
        return self._rows.batch(first, self._count)


def heldout_batches(
    documents: TokenDocuments, context: int, tokens: int, fewest: int = 2
) -> list[PackedBatch]:
    """Return rows that begin with the beginnings of documents, in a fixed order.

    Args:
        documents: Held-out documents. Each gives its first `context` positions.
        context: Most tokens of a row; a row ends before a document that does not fit.
        tokens: Most tokens of all rows.
        fewest: Tokens of the shortest document.
    """
    rows: list[list[int]] = []
    filled, total = context, 0
    for document in np.random.default_rng(0).permutation(len(documents.lengths)):
        length = min(int(documents.lengths[document]) - 1, context)
        if length < fewest - 1 or total + length > tokens:
            continue
        if filled + length > context:
            rows.append([])
            filled = 0
        rows[-1].append(int(document))
        filled, total = filled + length, total + length
    return [_heldout_row(documents, row, context) for row in rows]


def _heldout_row(documents: TokenDocuments, row: Sequence[int], context: int) -> PackedBatch:
    """Return one row of whole documents, or of a document's first tokens: (1, T)."""
    found = [
        documents.tokens(each, 0, min(int(documents.lengths[each]), context + 1)) for each in row
    ]
    ids = torch.from_numpy(np.concatenate([each[:-1] for each in found]))[None]
    targets = torch.from_numpy(np.concatenate([each[1:] for each in found]))[None]
    return PackedBatch(ids, targets, tuple(len(each) - 1 for each in found))

"""Rows of packed documents: every token once in an epoch, no loss across documents."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from nsa_models.errors import DataError
from nsa_models.training.rows import (
    IGNORED,
    PackedRows,
    Passes,
    RowsInTurn,
    WholeRows,
    heldout_batches,
)
from nsa_models.training.shards import Shards

WriteShards = Callable[..., Shards]
Words = Callable[[int], Any]
END = 63
CONTEXT = 16


def test_rows_are_the_shuffled_documents_one_after_the_other(
    write_shards: WriteShards, words: Words
) -> None:
    documents = words(30)
    rows = PackedRows(write_shards(documents).train, CONTEXT, seed=3)
    for epoch in (0, 1):
        batch = rows.batch(epoch * rows.rows, rows.rows)
        stream = [*batch.ids.flatten().tolist()]
        targets = batch.targets.flatten().tolist()
        assert sum(batch.lengths) == len(stream)
        for place, (token, target) in enumerate(zip(stream, targets, strict=True)):
            assert (target == IGNORED) == (token == END)
            if target != IGNORED and place + 1 < len(stream):
                assert target == stream[place + 1]
        parts = " ".join(map(str, stream)).split(f" {END} ")
        whole = {" ".join(map(str, each)) for each in documents}
        assert sum(part in whole for part in parts) >= len(parts) - 1  # the last may be cut
    assert rows.batch(0, 2).ids.tolist() != rows.batch(rows.rows, 2).ids.tolist()


def test_lengths_end_where_documents_end(write_shards: WriteShards, words: Words) -> None:
    rows = PackedRows(write_shards(words(30)).train, CONTEXT, seed=0)
    for number in range(rows.rows):
        batch = rows.batch(number, 1)
        end, ids = 0, batch.ids[0].tolist()
        for length in batch.lengths[:-1]:
            end += length
            assert ids[end - 1] == END
        assert END not in ids[end:-1]
        assert rows.targets(number, 1) == int((batch.targets != IGNORED).sum())


def test_processes_share_the_rows_of_one_process(write_shards: WriteShards, words: Words) -> None:
    rows = PackedRows(write_shards(words(30)).train, CONTEXT, seed=0)
    alone = [Passes(rows, 4)[number] for number in range(3)]
    shared = [Passes(rows, 2, process, 2)[number] for number in range(3) for process in range(2)]
    assert [row for each in alone for row in each.ids.tolist()] == [
        row for each in shared for row in each.ids.tolist()
    ]


def test_too_few_tokens_for_a_row_are_refused(write_shards: WriteShards, words: Words) -> None:
    shards = write_shards(words(2))
    total = int(shards.train.lengths.sum())
    assert PackedRows(shards.train, total - 1, 0).rows == 1
    with pytest.raises(DataError, match=f"{total} tokens to train on, and a row has a context"):
        PackedRows(shards.train, total, 0)


def test_held_out_rows_begin_with_documents(write_shards: WriteShards, words: Words) -> None:
    documents = words(12)
    shards = write_shards([], documents)
    found = []
    for batch in heldout_batches(shards.heldout, 24, 10_000):
        assert batch.ids.shape[1] == sum(batch.lengths) <= 24
        start = 0
        for length in batch.lengths:
            part = batch.ids[0, start : start + length].tolist()
            after = batch.targets[0, start : start + length].tolist()
            assert part[1:] == after[:-1]
            found.append([*part, after[-1]])
            start += length
    wanted = [[*each, END][:25] for each in documents]
    assert sorted(found) == sorted([int(x) for x in each] for each in wanted)
    few = heldout_batches(shards.heldout, 24, 50)
    assert 0 < sum(sum(batch.lengths) for batch in few) <= 50


def test_rows_in_turn_change_at_a_row(write_shards: WriteShards, words: Words) -> None:
    before = PackedRows(write_shards(words(30)).train, CONTEXT, seed=0)
    after = PackedRows(write_shards(words(20)).train, CONTEXT, seed=1)
    rows = RowsInTurn(before, after, 3)
    wanted = [before.batch(n, 1) for n in range(3)] + [after.batch(n, 1) for n in range(4)]
    for first, count in ((0, 2), (0, 3), (1, 4), (2, 2), (3, 1), (3, 4), (0, 7)):
        found, parts = rows.batch(first, count), wanted[first : first + count]
        assert found.ids.tolist() == [row for each in parts for row in each.ids.tolist()]
        assert found.targets.tolist() == [row for each in parts for row in each.targets.tolist()]
        assert found.lengths == tuple(n for each in parts for n in each.lengths)
        assert rows.targets(first, count) == int((found.targets != IGNORED).sum())


def test_whole_rows_are_of_one_document(write_shards: WriteShards, words: Words) -> None:
    made = words(30)
    shards = write_shards(made)
    documents = [[*map(int, each), END] for each in made]
    context = 4
    rows = WholeRows(shards.train, context, seed=3)
    wanted = sorted(
        each[start : start + context + 1]
        for each in documents
        for start in range(0, len(each) - context + 1, context)
    )
    assert rows.rows == len(wanted)
    assert min(map(len, wanted)) == context < max(map(len, wanted))
    orders = []
    for epoch in (0, 1):
        batch = rows.batch(epoch * rows.rows, rows.rows)
        found = []
        for ids, targets in zip(batch.ids.tolist(), batch.targets.tolist(), strict=True):
            after = [each for each in targets if each != IGNORED]
            assert ids[1:] == after[: context - 1]
            found.append([ids[0], *after])
        assert sorted(found) == wanted
        assert batch.whole
        assert rows.targets(epoch * rows.rows, rows.rows) == int((batch.targets != IGNORED).sum())
        orders.append(found)
    assert orders[0] != orders[1]
    one = rows.batch(2, 1)
    assert (one.ids.tolist(), one.lengths) == (rows.batch(0, 3).ids.tolist()[2:], (context,))


def test_documents_that_fill_no_row_are_refused(write_shards: WriteShards, words: Words) -> None:
    with pytest.raises(DataError, match="and a row has a context of 1,000"):
        WholeRows(write_shards(words(5)).train, 1000, seed=0)

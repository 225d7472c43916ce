"""Token shards: documents come back as they were written."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nsa_models.errors import DataError, UsageError
from nsa_models.training.shards import INDEX, Shards, ShardWriter, open_shards

END = 63


def test_documents_come_back_from_several_files_and_folders(
    write_shards: Callable[..., Shards], words: Callable[[int], Any], tmp_path: Path
) -> None:
    first, second = words(9), words(4)
    shards = write_shards(first, second[:1], name="a", shard_tokens=50)
    write_shards(second[1:], name="b")
    assert len(list((tmp_path / "a" / "train").glob("*.ends.npy"))) > 1
    both = open_shards([tmp_path / "a", tmp_path / "b"])
    wanted = [*first, *second[1:]]
    assert both.index.documents == {"train": 12, "heldout": 1}
    assert both.index.tokens["train"] == sum(len(each) + 1 for each in wanted)
    assert both.index.longest["train"] == max(map(len, wanted)) + 1
    copied = pickle.loads(pickle.dumps(both.train))
    for number, document in enumerate(wanted):
        length = int(both.train.lengths[number])
        found = copied.tokens(number, 0, length)
        assert found.tolist() == [*document, END]
        assert both.train.tokens(number, 1, 3).tolist() == document[1:3].tolist()
    assert shards.heldout.tokens(0, 0, 2).tolist() == second[0][:2].tolist()


def test_ids_beyond_two_bytes_are_kept(tmp_path: Path) -> None:
    writer = ShardWriter(tmp_path, tokenizer="t", vocab_size=70_000, end_id=0)
    writer.add("train", np.array([69_999, 5]))
    assert writer.close().dtype == "uint32"
    assert open_shards([tmp_path]).train.tokens(0, 0, 3).tolist() == [69_999, 5, 0]


def test_a_folder_without_shards_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no token shards: it has no shards\.json"):
        open_shards([tmp_path])


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"format": 2}', '{"format": 1, "x": 2}'])
def test_a_broken_index_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / INDEX).write_text(content)
    with pytest.raises(DataError, match=r"cannot read .*shards\.json") as raised:
        open_shards([tmp_path])
    assert raised.value.code == "broken"


def test_folders_of_two_tokenizers_are_refused(
    write_shards: Callable[..., Shards], words: Callable[[int], Any], tmp_path: Path
) -> None:
    for name in "ab":
        write_shards(words(2), name=name)
    path = tmp_path / "b" / INDEX
    path.write_text(json.dumps({**json.loads(path.read_text()), "tokenizer": "other"}))
    with pytest.raises(UsageError, match="b was made with another tokenizer than"):
        open_shards([tmp_path / "a", tmp_path / "b"])

"""Kept tables of a tokenizer against the file that they were made from."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import pytest

from nsa_models.gguf.file import read_gguf
from nsa_models.gguf.tokenizer import tokenizer_files
from nsa_models.paths import prepared_folder
from nsa_models.tokenization import tables
from nsa_models.tokenization.tokenizer import Tokenizer

TEXT = "The harbour, 1871: Gr\u00fc\u00dfe \n\t \u6771\u4eac <|im_end|> \U0001f680"


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of this test alone."""
    monkeypatch.setenv("NSA_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(tables, "_in_use", Forgetful())


class Forgetful(dict[str, Any]):
    """Holds nothing, so that each tokenizer gets the tables on the disk."""

    def __setitem__(self, key: str, value: Any) -> None:
        pass


@pytest.fixture
def folder(write_gguf: Any, tmp_path: Path) -> Path:
    """A folder with a small vocabulary."""
    path = write_gguf(tmp_path / "small.gguf", facts={"qwen2.context_length": 64})
    folder = tmp_path / "model"
    folder.mkdir()
    for name, content in tokenizer_files(read_gguf(path)).items():
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
    return folder


def facts(tokenizer: Tokenizer) -> list[Any]:
    """All that a tokenizer gives."""
    ids, starts = tokenizer.encode_with_offsets(tokenizer.normalize(TEXT))
    return [
        *(ids.tolist(), starts.tolist(), tokenizer.encode_template(TEXT).tolist()),
        [tokenizer.decode_bytes(token_id) for token_id in range(-1, tokenizer.vocab_size + 1)],
        *(tokenizer.backend, tokenizer.fingerprint, tokenizer.vocab_size),
        *(tokenizer.stop_ids, tokenizer.special_ids, tokenizer.has_template),
    ]


def kept_files() -> list[Path]:
    return sorted(prepared_folder().glob("*.tokens"))


def test_kept_tables_give_the_same(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = facts(Tokenizer.from_folder(folder))
    assert len(kept_files()) == 1
    monkeypatch.setattr(tables, "merge_ranks", None)  # the file is not parsed again
    assert facts(Tokenizer.from_folder(folder)) == made


def test_another_file_has_other_tables(folder: Path) -> None:
    before = facts(Tokenizer.from_folder(folder))
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text())
    content["added_tokens"].append({"id": 5000, "content": "<|more|>"})
    path.write_text(json.dumps(content))
    after = Tokenizer.from_folder(folder)
    assert after.vocab_size == 5001
    assert facts(after) != before
    assert len(kept_files()) == 2


def test_another_end_token_has_other_tables(folder: Path) -> None:
    Tokenizer.from_folder(folder)
    vocab = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    token, token_id = next(iter(vocab.items()))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": token}))
    for _ in range(2):
        assert token_id in Tokenizer.from_folder(folder).stop_ids


@pytest.mark.parametrize("damage", [0, 40, -1], ids=["checksum", "head", "end"])
def test_a_damaged_file_is_made_again(folder: Path, damage: int) -> None:
    made = facts(Tokenizer.from_folder(folder))
    [path] = kept_files()
    whole = path.read_bytes()
    broken = bytearray(whole)
    broken[damage] ^= 1
    for content in (bytes(broken), whole[:-7], b""):
        path.write_bytes(content)
        assert facts(Tokenizer.from_folder(folder)) == made
        assert path.read_bytes() == whole


def test_the_least_recently_used_tables_are_removed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "_MOST", 1)
    Tokenizer.from_folder(folder)
    [first] = kept_files()
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "none"}))
    Tokenizer.from_folder(folder)
    [second] = kept_files()
    assert second != first
    assert tables.kept_tables() == [second]


def test_a_disk_that_refuses_is_no_error(folder: Path, tmp_path: Path) -> None:
    made = facts(Tokenizer.from_folder(folder))
    [path] = kept_files()
    path.unlink()
    path.parent.rmdir()
    path.parent.write_bytes(b"a file in place of the folder")
    assert facts(Tokenizer.from_folder(folder)) == made
    assert not (tmp_path / "model" / path.name).exists()


def test_half_a_surrogate_pair_in_the_vocabulary(folder: Path) -> None:
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text())
    content["added_tokens"].append({"id": 5000, "content": "\ud83d"})
    path.write_text(json.dumps(content))
    spelled = [Tokenizer.from_folder(folder)._spelled[5000] for _ in range(2)]
    assert spelled == ["\ud83d"] * 2
    assert len(kept_files()) == 1


def test_tokenizers_of_the_same_file_share_the_tables(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "_in_use", WeakValueDictionary())
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    first, second = Tokenizer.from_folder(folder), Tokenizer.from_folder(other)
    assert first._tables is second._tables
    assert first.encode("One text.").tolist() == second.encode("One text.").tolist()
    del first, second
    assert not tables._in_use, "they are kept only as long as a tokenizer needs them"

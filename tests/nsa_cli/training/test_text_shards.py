"""`nsa shards`: text of files and folders becomes token shards."""

from __future__ import annotations

import gzip
import json
import lzma
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from nsa_cli.training.text_shards import ShardPlan, counted, documents_of, make_shards, sample
from nsa_models.tokenization.tokenizer import Tokenizer
from nsa_models.training.shards import TokenDocuments, open_shards

Run = Callable[..., tuple[int, str, str]]
TEXTS = [f"Line {n}: the harbour of town {n * 37 % 101} is open.\n" * 3 for n in range(40)]


def write_lines(path: Path, texts: list[str], key: str = "text") -> Path:
    path.write_text("".join(json.dumps({key: text}) + "\n" for text in texts))
    return path


def decoded(documents: TokenDocuments, tokenizer: Tokenizer) -> list[str]:
    return [
        tokenizer.decode(documents.tokens(number, 0, int(length) - 1))
        for number, length in enumerate(documents.lengths)
    ]


def test_documents_are_split_and_decode_to_their_text(tmp_path: Path) -> None:
    source = write_lines(tmp_path / "a.jsonl", [*TEXTS, "naïve 你好 \u0000 <|endoftext|>"])
    plan = ShardPlan(out=tmp_path / "out", sources=(source,), vocabulary=400, heldout=0.25)
    notes: list[str] = []
    report = make_shards(plan, notes.append)
    shards = open_shards([plan.out])
    tokenizer = Tokenizer.from_folder(plan.out)
    assert tokenizer.backend == "tiktoken"
    assert tokenizer.vocab_size == shards.index.vocab_size <= 400
    train, heldout = (decoded(each, tokenizer) for each in (shards.train, shards.heldout))
    assert sorted([*train, *heldout]) == sorted([*TEXTS, "naïve 你好 \u0000 <|endoftext|>"])
    assert heldout
    assert train
    assert report.text_bytes == sum(len(text.encode()) for text in [*train, *heldout])
    assert notes[0] == "training a tokenizer of 400 tokens"
    end = shards.index.end_id
    assert end in tokenizer.stop_ids
    assert int(shards.train.tokens(0, int(shards.train.lengths[0]) - 1, 10**6)[0]) == end

    again = ShardPlan(out=tmp_path / "again", sources=(source,), vocabulary=400, heldout=0.25)
    make_shards(again, notes.append)
    for path in plan.out.rglob("*.*"):
        assert path.read_bytes() == (again.out / path.relative_to(plan.out)).read_bytes(), path


def test_folders_and_compressed_files_are_read_and_binary_files_counted(tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    (folder / "below").mkdir(parents=True)
    (folder / "a.txt").write_text("one")
    (folder / "below" / "b.txt.gz").write_bytes(gzip.compress(b"two"))
    (folder / "below" / "c.jsonl.xz").write_bytes(lzma.compress(b'{"text": "three"}\n\n'))
    (folder / "binary").write_bytes(bytes(range(256)) * 9)
    (folder / "damaged.gz").write_bytes(b"no gzip")
    (folder / "empty.txt").write_text(" \n")
    (tmp_path / "d.ndjson").write_text('{"text": "four"}\n')
    plan = ShardPlan(out=tmp_path / "out", sources=(folder, tmp_path / "d.ndjson"))
    skipped: Counter[str] = Counter()
    assert list(documents_of(plan, skipped)) == ["one", "two", "three", "four"]
    assert skipped == {"binary file": 1, "file that cannot be read": 1}


def test_the_sample_is_independent_of_the_order() -> None:
    assert sample(TEXTS, 10**9) == TEXTS
    some = sample(TEXTS, 1500)
    assert 0 < sum(map(len, some)) <= 1500
    assert sorted(sample(TEXTS[::-1], 1500)) == sorted(some)
    assert len(sample(TEXTS, 1)) == 1


def test_reasons_are_counted_in_english() -> None:
    assert counted("binary file", 1) == "binary file"
    assert counted("binary file", 2) == "binary files"
    assert counted("file that cannot be read", 2) == "files that cannot be read"


def test_the_tokenizer_of_a_model_is_used(nsa: Run, tiny_model: Path, tmp_path: Path) -> None:
    source = write_lines(tmp_path / "a.jsonl", TEXTS, key="body")
    out = tmp_path / "out"
    common = ("shards", str(out), str(source), "--tokenizer", str(tiny_model))
    code, _, err = nsa(*common)
    assert code == 3
    assert "a.jsonl, line 1: no text under 'text'" in err
    code, output, err = nsa(*common, "--field", "body", "--held-out", "0")
    assert code == 0, err
    assert "in 40 documents to train on, 0 in 0 documents held out" in output
    shards = open_shards([out])
    assert shards.index.tokenizer == Tokenizer.from_folder(tiny_model).fingerprint
    code, _, err = nsa(*common)
    assert code == 2
    assert "out already has token shards" in err


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", '{"text": 3}\n', "a.jsonl, line 1: no text under 'text'"),
        ("a.jsonl", '{"text": "a"}\n{"te', "a.jsonl, line 2: not JSON"),
        ("a.txt", "", "no text to train on in"),
        ("missing", None, "missing does not exist"),
    ],
)
def test_a_bad_source_is_one_line(
    nsa: Run, tmp_path: Path, name: str, content: str | None, message: str
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_text(content)
    code, output, err = nsa("shards", str(tmp_path / "out"), str(path))
    assert (code, output) == (3, "")
    assert message in err
    assert not (tmp_path / "out" / "shards.json").exists()

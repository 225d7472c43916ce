"""Stored answers are found only for the same question about the same bytes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import pytest

from nsa_cli.caches import answers
from nsa_cli.caches.answers import AnswerCache
from nsa_cli.config.options import Options
from nsa_cli.events import AnswerFinished
from nsa_cli.results import Citation, Stats
from nsa_models.model_folder import ModelFolder

STATS = Stats(
    document_tokens=300,
    reused_tokens=64,
    question_tokens=20,
    answer_tokens=7,
    load_seconds=1.5,
    prefill_seconds=52.0,
    time_to_first_token_seconds=2.3,
    decode_tokens_per_second=15.0,
    peak_memory_bytes=10**9,
    cache_bytes=1000,
    cache_bytes_touched=100,
)
CITATION = Citation(
    source="a.txt",
    page=None,
    page_label=None,
    line_start=1,
    line_end=2,
    quote="雨 in “March”",
    verified=True,
    score=0.5,
)
FINISHED = AnswerFinished(
    answer="March …",
    citations=(CITATION,),
    model="m",
    attention={"reading": {"window": 512}},
    finish_reason="stop",
    stats=STATS,
)
WHERE = ModelFolder(name="m", folder=Path("m"), fingerprint="f")
OPTIONS = Options(model="m")


def make(
    content: bytes = b"text",
    source: str = "a.txt",
    question: str = "When?",
    where: ModelFolder = WHERE,
    **changes: Any,
) -> AnswerCache:
    return AnswerCache(content, source, question, where, replace(OPTIONS, **changes))


def test_an_answer_is_found(cache_folder: Path) -> None:
    assert make().recall(0.1) is None
    make().keep(FINISHED)
    found = make().recall(0.1234)
    assert found is not None
    assert replace(found, stats=STATS) == FINISHED
    assert found.stats == replace(
        STATS,
        reused_tokens=300,
        load_seconds=0.123,
        prefill_seconds=0.0,
        time_to_first_token_seconds=0.0,
        decode_tokens_per_second=0.0,
    )
    assert [path.suffix for path in (cache_folder / "answers").iterdir()] == [".json"]


@pytest.mark.parametrize(
    "other",
    [
        lambda: make(content=b"texts"),
        lambda: make(source="b.txt"),
        lambda: make(question="Who?"),
        lambda: make(where=replace(WHERE, fingerprint="g")),
        lambda: make(where=replace(WHERE, name="n")),
        lambda: make(dense=True),
        lambda: make(system="Be brief."),
        lambda: make(max_tokens=10),
        lambda: make(device="cuda"),
    ],
)
def test_other_options_have_other_answers(other: Callable[[], AnswerCache]) -> None:
    make().keep(FINISHED)
    assert other().recall(0.1) is None
    assert make().recall(0.1) is not None


OTHER_VALUES: dict[str, Any] = {
    "device": "cuda",
    "dense": True,
    "answer_blocks": 64,
    "quantization": "int8",
    "system": "Be brief.",
    "max_tokens": 9,
    "password": "p",
    "pages": "1-2",
    "ocr": "eng",
    "every_line": True,
    "yarn": True,
}
LATER_VALUES: dict[str, Any] = {"hidden": True, "compute": False, "answer_model": "m"}
"""Options that joined the key after format 2 was defined."""

NOT_IN_THE_KEY: dict[str, Any] = {
    "model": "n",
    "adapter": None,
    "seed": 5,
    "store": False,
    "cache_limit_bytes": 7,
    "memory_bytes": 8,
    "allow_private": True,
    "server": False,
}


@dataclass(frozen=True, kw_only=True)
class MoreOptions(Options):
    """Options with additional fields."""

    top_p: float = 1.0
    log_level: int = field(default=0, metadata={"changes": "nothing"})


def test_keys_of_an_earlier_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys computed by the commit that listed each field of the key by hand."""
    monkeypatch.setattr(answers, "__version__", "0.1.0")
    assert make()._path.name == "cdc63ad49ce988c1b3945c89c4d03d66.json"
    everything = make(**{**OTHER_VALUES, **NOT_IN_THE_KEY})
    assert everything._path.name == "1ce10a7d94108c8bf2b858cf73465610.json"


def test_every_option_that_changes_answers_is_in_the_key() -> None:
    values = {**OTHER_VALUES, **LATER_VALUES}
    paths = {name: make(**{name: value})._path for name, value in values.items()}
    assert len({make()._path, *paths.values()}) == 1 + len(values)
    for name, value in NOT_IN_THE_KEY.items():
        assert make(**{name: value})._path == make()._path
    named = {*values, *NOT_IN_THE_KEY, "temperature"}
    assert named == {field.name for field in fields(Options)}


def test_a_new_option_joins_the_key() -> None:
    def path(**changes: Any) -> Path:
        options = MoreOptions(model="m", **changes)
        return AnswerCache(b"text", "a.txt", "When?", WHERE, options)._path

    assert path() == make()._path
    assert path(top_p=0.9) != make()._path
    assert path(top_p=0.9) != path(top_p=0.8)
    assert path(log_level=2) == make()._path


@pytest.mark.parametrize("changes", [{"store": False}, {"temperature": 0.5}])
def test_some_answers_are_not_stored(changes: dict[str, Any], cache_folder: Path) -> None:
    make(**changes).keep(FINISHED)
    assert not cache_folder.exists()
    make().keep(FINISHED)
    assert make(**changes).recall(0.1) is None


def stored_file(cache: Path) -> Path:
    [path] = (cache / "answers").glob("*.json")
    return path


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"answer": 1}', "[1, 2]"])
def test_a_damaged_file_is_ignored(cache_folder: Path, content: str) -> None:
    make().keep(FINISHED)
    stored_file(cache_folder).write_text(content)
    assert make().recall(0.1) is None
    make().keep(FINISHED)
    assert make().recall(0.1) is not None


def test_a_file_of_another_shape_is_ignored(cache_folder: Path) -> None:
    make().keep(FINISHED)
    path = stored_file(cache_folder)
    content = json.loads(path.read_text())
    for part, key in (("stats", "reused_tokens"), ("citations", "quote")):
        changed = json.loads(json.dumps(content))
        inner = changed[part] if part == "stats" else changed[part][0]
        del inner[key]
        path.write_text(json.dumps(changed))
        assert make().recall(0.1) is None


@pytest.mark.parametrize("content", ["5", '"x"', "null"])
def test_a_file_without_an_object_is_ignored(cache_folder: Path, content: str) -> None:
    make().keep(FINISHED)
    stored_file(cache_folder).write_text(content)
    assert make().recall(0.1) is None


def test_a_file_with_a_flipped_bit_is_ignored(cache_folder: Path) -> None:
    make().keep(FINISHED)
    path = stored_file(cache_folder)
    path.write_bytes(path.read_bytes().replace(b"March \xe2", b"Match \xe2"))
    assert make().recall(0.1) is None


def test_the_number_of_answers_is_limited(
    cache_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "MOST", 2)
    for number in range(3):
        make(question=str(number)).keep(FINISHED)
        for path in (cache_folder / "answers").iterdir():
            at = path.stat().st_mtime - 10
            os.utime(path, (at, at))
    assert [make(question=str(number)).recall(0.1) is None for number in range(3)] == [
        True,
        False,
        False,
    ]


def test_a_full_disk_is_not_an_error(cache_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, *_: Any, **__: Any) -> None:
        self.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    make().keep(FINISHED)
    assert list((cache_folder / "answers").iterdir()) == []


@pytest.mark.parametrize("name", ["", "answers"])
def test_an_impossible_folder_is_not_an_error(cache_folder: Path, name: str) -> None:
    if name:
        cache_folder.mkdir()
    (cache_folder / name).write_text("in the way")
    make().keep(FINISHED)
    assert make().recall(0.1) is None


def test_a_name_outside_utf_8_is_not_an_error() -> None:
    citation = replace(CITATION, source="caf\udce9.txt")
    make(source="caf\udce9.txt").keep(replace(FINISHED, citations=(citation,)))


def test_torch_is_not_imported() -> None:
    code = (
        "import sys; sys.modules['torch'] = None; "
        "import nsa_cli.caches.answers, nsa_cli.answering.ask"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

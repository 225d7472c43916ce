"""Small JSON files are read as written, or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nsa_cli.caches.json_files import read, write


def test_an_object_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.json"
    assert read(path) is None
    write(path, {"text": "größe", "list": (1, 2)}, most=10)
    assert read(path) == {"text": "größe", "list": [1, 2]}


@pytest.mark.parametrize("change", [("größe", "grüße"), ("{", ""), ("checksum", "checkout")])
def test_a_damaged_file_is_none(change: tuple[str, str], tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write(path, {"text": "größe"}, most=10)
    path.write_text(path.read_text(encoding="utf-8").replace(*change), encoding="utf-8")
    assert read(path) is None


@pytest.mark.parametrize("content", ["", "[]", "null", '"checksum"', "\udcff"])
def test_a_file_without_an_object_is_none(content: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(content, encoding="utf-8", errors="surrogateescape")
    assert read(path) is None


def test_a_failed_write_is_not_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    write(tmp_path / "file" / "a.json", {}, most=10)
    write(tmp_path / "a.json", {"name": "\udcff"}, most=10)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(("most", "most_bytes"), [(2, 10**9), (9, 250)])
def test_the_least_recently_used_are_removed(most: int, most_bytes: int, tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.json" for name in "abcd"]
    for age, path in enumerate(paths[:3]):
        write(path, {"text": path.name}, most=9)
        os.utime(path, (1000 + age, 1000 + age))
    assert read(paths[0]) is not None  # this counts as use
    write(paths[3], {"text": "d"}, most=most, most_bytes=most_bytes)
    assert sorted(tmp_path.iterdir()) == [paths[0], paths[3]]

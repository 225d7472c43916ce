"""Folders of the cache, and atomic writes."""

from __future__ import annotations

from pathlib import Path

import platformdirs
import pytest

from nsa_models.errors import ModelError
from nsa_models.paths import (
    atomic_write,
    cache_root,
    imported_name,
    models_folder,
    partial_targets,
    readings_folder,
    require_space,
)


def test_the_platforms_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NSA_CACHE_DIR", " ")
    assert cache_root() == Path(platformdirs.user_cache_dir("nsa"))


def test_another_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NSA_CACHE_DIR", str(tmp_path))
    assert models_folder() == tmp_path / "models"
    assert readings_folder() == tmp_path / "readings"
    monkeypatch.setenv("NSA_CACHE_DIR", "~/elsewhere")
    assert cache_root() == Path.home() / "elsewhere"


def test_free_disk_space(tmp_path: Path) -> None:
    require_space(tmp_path, 1, "to test")
    with pytest.raises(ModelError, match=r"to test: 1000000000\.00 GB needed, \d+\.\d\d GB") as e:
        require_space(tmp_path, 10**18, "to test")
    assert e.value.code == "disk_full"


@pytest.mark.parametrize("locked", [False, True])
def test_a_file_is_written_completely_or_not_at_all(locked: bool, tmp_path: Path) -> None:
    path = tmp_path / "folder" / "file.json"
    with atomic_write(path, locked=locked) as partial:
        partial.write_text("old")
        assert not path.exists()
        assert (path in partial_targets(path.parent)) == locked
    assert path.read_text() == "old"

    def fail() -> None:
        with atomic_write(path, locked=locked) as partial:
            partial.write_text("new")
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        fail()
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]


def test_names_of_imported_models() -> None:
    assert imported_name("tiny", "0123456789abcdef") == "tiny-0123456789ab"

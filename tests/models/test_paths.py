"""Tests of where things are kept."""

from __future__ import annotations

from pathlib import Path

import platformdirs
import pytest

from nsa_models.errors import ModelError
from nsa_models.paths import cache_root, models_folder, readings_folder, require_space


def test_the_platforms_own_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NSA_CACHE_DIR", " ")
    assert cache_root() == Path(platformdirs.user_cache_dir("nsa"))


def test_another_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NSA_CACHE_DIR", str(tmp_path))
    assert models_folder() == tmp_path / "models"
    assert readings_folder() == tmp_path / "readings"
    monkeypatch.setenv("NSA_CACHE_DIR", "~/elsewhere")
    assert cache_root() == Path.home() / "elsewhere"


def test_room_on_the_disk(tmp_path: Path) -> None:
    require_space(tmp_path, 1, "to test")
    with pytest.raises(ModelError, match=r"to test: 1000000000\.00 GB needed, \d+\.\d\d GB") as e:
        require_space(tmp_path, 10**18, "to test")
    assert e.value.code == "disk_full"

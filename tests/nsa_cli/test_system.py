"""Memory in bytes, also where the system does not tell it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nsa_cli.system import (
    available_memory_bytes,
    free_memory_bytes,
    install_hint,
    peak_memory_bytes,
    refuse_device,
    resident_bytes,
)
from nsa_models.errors import UsageError


def test_the_peak_rises_with_use() -> None:
    """In a separate process, which has used little memory so far."""
    program = (
        "from nsa_cli.system import peak_memory_bytes as peak\n"
        "before = peak()\n"
        "filled = bytearray(b'1') * (before + 200_000_000)\n"
        "after, size = peak(), len(filled)\n"
        "del filled\n"
        "print(size <= after < before + 2 * size, peak() >= after)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout.split() == [b"True", b"True"]


def test_a_system_without_posix_tells_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreadable(self: Path, *_: object, **__: object) -> str:
        raise FileNotFoundError(self)

    monkeypatch.setattr(Path, "read_text", unreadable)
    monkeypatch.setitem(sys.modules, "resource", None)
    for name in ("sysconf", "sysconf_names"):
        monkeypatch.delattr(os, name, raising=False)
    assert (peak_memory_bytes(), resident_bytes()) == (0, 0)
    assert available_memory_bytes() is None
    assert free_memory_bytes() == 2**32


def test_proc_without_sysconf_tells_no_resident_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sysconf", raising=False)
    assert resident_bytes() == 0


@pytest.mark.parametrize(
    ("file", "command"),
    [
        (None, "pip install 'nsa[serve]'"),
        ("uv-receipt.toml", "uv tool install '.[serve]'"),
        ("pipx_metadata.json", "pipx install --force '.[serve]'"),
    ],
)
def test_an_extra_is_installed_as_nsa_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str | None, command: str
) -> None:
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    if file is not None:
        (tmp_path / file).touch()
    assert f"`{command}`" in install_hint("serve")


def test_files_are_no_devices(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("")
    for path in (tmp_path / "a.jsonl", tmp_path / "missing.jsonl", tmp_path):
        refuse_device(path)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_device_is_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/dev/full")
    with pytest.raises(UsageError, match="link is a device, not a file"):
        refuse_device(tmp_path / "link")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
def test_a_pipe_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match="pipe is a pipe, not a file"):
        refuse_device(tmp_path / "pipe")

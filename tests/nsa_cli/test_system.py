"""Memory in bytes, also where the system does not tell it."""

from __future__ import annotations

import importlib.machinery
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nsa_cli import system
from nsa_cli.system import (
    available_memory_bytes,
    free_memory_bytes,
    gpu_memory_bytes,
    install_hint,
    peak_memory_bytes,
    refuse_device,
    resident_bytes,
)
from nsa_models.errors import UsageError


def test_the_peak_rises_with_use() -> None:
    """In a process of its own, which has used little so far."""
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


class FakeNvml:
    """NVIDIA's management library with some GPUs, of which one cannot be asked."""

    def __init__(self, memories: list[int], state: int = 0) -> None:
        self._memories, self._state = memories, state
        self.is_open = False

    def nvmlInit_v2(self) -> int:  # noqa: N802
        self.is_open = self._state == 0
        return self._state

    def nvmlDeviceGetCount_v2(self, count: Any) -> int:  # noqa: N802
        count._obj.value = len(self._memories)
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, index: int, device: Any) -> int:  # noqa: N802
        device._obj.value = index + 1
        return int(self._memories[index] < 0)

    def nvmlDeviceGetMemoryInfo(self, device: Any, memory: Any) -> int:  # noqa: N802
        memory._obj.total = self._memories[device.value - 1]
        return 0

    def nvmlShutdown(self) -> int:  # noqa: N802
        self.is_open = False
        return 0


@pytest.fixture
def asked_gpus(monkeypatch: pytest.MonkeyPatch) -> Callable[[object], int]:
    """A function that asks a library, or the error of loading it, for the memory of GPUs."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(system, "_torch_has_cuda", lambda: True)

    def ask(library: object) -> int:
        def load(_: str) -> object:
            if isinstance(library, Exception):
                raise library
            return library

        monkeypatch.setattr("ctypes.CDLL", load)
        return gpu_memory_bytes.__wrapped__()

    return ask


def test_the_largest_gpu_counts(asked_gpus: Callable[[object], int]) -> None:
    for memories, most in (([], 0), ([8 * 10**9], 8 * 10**9), ([10**9, -1, 3 * 10**9], 3 * 10**9)):
        nvml = FakeNvml(memories)
        assert asked_gpus(nvml) == most
        assert not nvml.is_open


def test_without_a_driver_there_is_no_gpu(asked_gpus: Callable[[object], int]) -> None:
    assert asked_gpus(OSError("no such library")) == 0
    assert asked_gpus(object()) == 0  # a library without these functions
    assert asked_gpus(FakeNvml([10**10], state=9)) == 0


@pytest.mark.parametrize("hidden", ["", "-1"])
def test_hidden_gpus_do_not_count(
    hidden: str, asked_gpus: Callable[[object], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    assert asked_gpus(FakeNvml([10**10])) == 0


def test_gpus_do_not_count_for_a_torch_without_cuda(
    tmp_path: Path, asked_gpus: Callable[[object], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    library = (
        tmp_path / "lib" / ("torch_cuda.dll" if sys.platform == "win32" else "libtorch_cuda.so")
    )
    library.parent.mkdir()
    spec = importlib.machinery.ModuleSpec("torch", None, origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr("importlib.util.find_spec", lambda _: spec)
    assert asked_gpus(FakeNvml([10**10])) == 0
    library.touch()
    assert asked_gpus(FakeNvml([10**10])) == 10**10
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert asked_gpus(FakeNvml([10**10])) == 0

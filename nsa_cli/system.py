"""The machine and its files: memory, processor, atomic writes, exit causes, the git commit."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import platform
import signal
import stat
import subprocess
import sys
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from nsa_models.errors import UsageError

_SAFE_SHARE = 0.7
"""Share of the free memory that reading may take by default."""


def today() -> str:
    """Today's date in ISO 8601, UTC."""
    return datetime.now(UTC).date().isoformat()


def peak_memory_bytes() -> int:
    """Peak resident memory of this process, mapped files included; 0 if unknown."""
    try:
        import resource
    except ImportError:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else peak * 1024)


def resident_bytes() -> int:
    """Current resident memory of this process, mapped files included; 0 if unknown."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError, AttributeError):
        return 0


def available_memory_bytes() -> int | None:
    """Memory that programs can take without swapping, or None if unknown."""
    with suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    if "SC_AVPHYS_PAGES" in getattr(os, "sysconf_names", {}):
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None


def free_memory_bytes() -> int:
    """Available memory; half of the physical memory, or 4 GiB, if unknown."""
    available = available_memory_bytes()
    if available is not None:
        return available
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (OSError, ValueError, AttributeError):
        return 2**32


def total_memory_bytes() -> int:
    """Physical memory; twice the free memory if unknown."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, AttributeError):
        return 2 * free_memory_bytes()


@cache
def gpu_memory_bytes() -> int:
    """Memory of the largest NVIDIA GPU that PyTorch can use; 0 without one.

    It asks the driver's library, which takes milliseconds, where PyTorch's import takes seconds.
    """
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip()
    if hidden in ("", "-1") or not _torch_has_cuda():
        return 0
    name = "nvml.dll" if sys.platform == "win32" else "libnvidia-ml.so.1"
    try:
        return _largest_gpu(ctypes.CDLL(name))
    except (OSError, AttributeError):  # no driver, or an old one
        return 0


def _torch_has_cuda() -> bool:
    """Whether the installed PyTorch is built for CUDA; it is not imported."""
    found = importlib.util.find_spec("torch")
    if found is None or found.origin is None:
        return False
    library = "torch_cuda.dll" if sys.platform == "win32" else "libtorch_cuda.so"
    return (Path(found.origin).parent / "lib" / library).is_file()


class _GpuMemory(ctypes.Structure):
    """What `nvmlDeviceGetMemoryInfo` fills, in bytes."""

    _fields_ = (
        ("total", ctypes.c_ulonglong),
        ("free", ctypes.c_ulonglong),
        ("used", ctypes.c_ulonglong),
    )


def _largest_gpu(nvml: ctypes.CDLL) -> int:
    """Memory of the largest GPU that NVIDIA's management library lists; 0 for none."""
    if nvml.nvmlInit_v2() != 0:
        return 0
    try:
        count, device, memory = ctypes.c_uint(), ctypes.c_void_p(), _GpuMemory()
        most = 0
        if nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)) != 0:
            return 0
        for index in range(count.value):
            if nvml.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(device)) != 0:
                continue
            if nvml.nvmlDeviceGetMemoryInfo(device, ctypes.byref(memory)) == 0:
                most = max(most, int(memory.total))
        return most
    finally:
        nvml.nvmlShutdown()


def memory_limit(wanted: int | None) -> int:
    """Bytes that reading may take: `wanted`, or a safe share of the free memory."""
    return wanted if wanted is not None else int(_SAFE_SHARE * free_memory_bytes())


def refuse_device(path: Path) -> None:
    """Refuse to write results to a device or a pipe: reading it back might never end.

    Raises:
        UsageError: If the path is one of them.
    """
    try:
        mode = path.stat().st_mode
    except OSError:
        return
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        kind = "a pipe" if stat.S_ISFIFO(mode) else "a device"
        raise UsageError(f"{path} is {kind}, not a file", hint="name a file with --out")


def install_hint(extra: str) -> str:
    """How to install an extra of nsa where it is installed: by uv, pipx or pip."""
    prefix = Path(sys.prefix)
    if (prefix / "uv-receipt.toml").exists():
        return f"in nsa's folder, run `uv tool install '.[{extra}]'`"
    if (prefix / "pipx_metadata.json").exists():
        return f"in nsa's folder, run `pipx install --force '.[{extra}]'`"
    return f"install it with `pip install 'nsa[{extra}]'`"


def git_commit() -> str:
    """The commit of the running source tree, or `unknown`."""
    root = Path(__file__).parents[1]
    if not (root / ".git").exists():
        return "unknown"
    try:
        run = subprocess.run(
            ["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True
        )
    except OSError:
        return "unknown"
    return run.stdout.strip() or "unknown"


def cpu_description() -> str:
    """Name of the processor and its instruction sets, as the system gives them."""
    lines = []
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            if line.partition(":")[0].strip() in ("model name", "flags", "Features"):
                lines.append(line.partition(":")[2].strip())
            if not line.strip() and lines:  # the first processor is enough
                break
    return " | ".join(lines) or platform.processor() or platform.machine()


def cause(code: int | None) -> str:
    """The reason a process ended: the signal's name, or the exit code."""
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        return f"{name}, probably out of memory" if name == "SIGKILL" else name
    return f"exit code {code}"

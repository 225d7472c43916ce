"""`nsa doctor`."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import typer

from nsa_cli import __version__
from nsa_cli.cli import console
from nsa_cli.cli import options as shared
from nsa_models.errors import NsaError
from nsa_models.hub.registry import DEFAULT_MODEL, MODELS
from nsa_models.paths import cache_root, models_folder, prepared_folder

HELP = """Check this machine, and say what to do about what is not well.

\b
    nsa doctor
    nsa doctor --json

Looks at the device, kernels, memory, the model, the cache, formats and settings. Exit code 1 if
something does not work.
"""


_MARKS = {"ok": "ok  ", "warning": "note", "failure": "FAIL"}


def doctor(json: shared.Json = False) -> None:
    """Check this machine, and say what to do about what is not well."""
    findings = examine()
    failed = any(finding.state == "failure" for finding in findings)
    if json:
        console.print_json({"ok": not failed, "checks": [asdict(each) for each in findings]})
    else:
        for finding in findings:
            remedy = f"\n                {finding.remedy}" if finding.remedy else ""
            sys.stdout.write(
                f"{_MARKS[finding.state]}  {finding.what:<8}  {finding.found}{remedy}\n"
            )
        sys.stdout.flush()
    if failed:
        raise typer.Exit(1)


_ENOUGH_MEMORY = 3e9
"""Bytes: what reading 30,000 tokens with the default model takes, and some room."""


_ENOUGH_DISK = 5e9


_FORMATS = {"docx": "python-docx", "pptx": "python-pptx", "openpyxl": "openpyxl"}


_FORMATS |= {"zstandard": "zstandard"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was examined.

    Attributes:
        what: Its name.
        state: Whether it works as it should, less well than it could, or not at all.
        found: What was found.
        remedy: What to do about it, or an empty string.
    """

    what: str
    state: Literal["ok", "warning", "failure"]
    found: str
    remedy: str = ""


def examine() -> list[Finding]:
    """Examine everything, in an order in which one thing may explain the next."""
    checks: tuple[Callable[[], Finding], ...] = (
        _program,
        _device,
        _kernels,
        _memory,
        _model,
        _cache,
        _formats,
        _config,
    )
    return [check() for check in checks]


def _program() -> Finding:
    found = f"nsa {__version__}, Python {platform.python_version()}, {platform.platform()}"
    return Finding(what="program", state="ok", found=found)


def _device() -> Finding:
    import torch

    if torch.cuda.is_available():
        name = torch.cuda.get_device_name()
        total = torch.cuda.get_device_properties(0).total_memory
        return Finding(what="device", state="ok", found=f"{name}, {total / 1e9:.0f} GB")
    cores = f"CPU, {torch.get_num_threads()} threads, torch {torch.__version__}"
    if shutil.which("nvidia-smi"):
        return Finding(
            what="device",
            state="warning",
            found=f"{cores}; there is an NVIDIA driver, and this torch cannot use it",
            remedy="install a torch that is built for CUDA, see https://pytorch.org/get-started",
        )
    if torch.backends.cpu.get_cpu_capability() == "AVX2" and _named("quantize") is None:
        cores += "; no bf16 in AVX2: `nsa config set quantize int8` reads 1.4 times as fast"
    return Finding(what="device", state="ok", found=cores)


def _named(setting: str) -> str | None:
    """What a setting is, in the environment or a file; None where it is not set."""
    from nsa_cli.config import settings

    try:
        found = settings.effective().get(setting)
    except NsaError:  # told by `_config`
        return None
    return None if found is None else str(found.value)


def _kernels() -> Finding:
    import torch

    if not torch.cuda.is_available():
        return Finding(what="kernels", state="ok", found="blockwise attention for the CPU")
    if importlib.util.find_spec("triton") is None:
        return Finding(
            what="kernels",
            state="warning",
            found="triton is not installed; the slower blockwise attention is used",
            remedy="install it with `pip install triton`",
        )
    return Finding(what="kernels", state="ok", found="Triton kernels for CUDA")


def _memory() -> Finding:
    free = _free_memory()
    if free is None:
        return Finding(what="memory", state="ok", found="not known on this system")
    found = f"{free / 1e9:.1f} GB free"
    if free < _ENOUGH_MEMORY:
        return Finding(
            what="memory",
            state="warning",
            found=f"{found}; reading a long document takes about {_ENOUGH_MEMORY / 1e9:.0f} GB",
            remedy="close other programs, or use --model smollm2-135m",
        )
    return Finding(what="memory", state="ok", found=found)


def _free_memory() -> int | None:
    """Bytes that a program can have, or None where that cannot be told."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    names = getattr(os, "sysconf_names", {})
    if "SC_AVPHYS_PAGES" in names:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None


def _model() -> Finding:
    name = _named("model") or DEFAULT_MODEL
    entry = MODELS.get(name)
    if entry is None:
        from nsa_models.hub.aliases import aliases

        try:
            path = aliases().get(name, Path(name).expanduser())
        except NsaError as error:
            return Finding(what="model", state="failure", found=error.message, remedy=error.hint)
        if path.exists():
            return Finding(what="model", state="ok", found=name)
        return Finding(
            what="model",
            state="warning",
            found=f"{name} is neither a name nor a file here; it is looked up on the hub",
            remedy="see `nsa models list` for names",
        )
    if any(models_folder().glob(f"{name}-{entry.sha256[:12]}-*/config.json")):
        return Finding(what="model", state="ok", found=f"{name} is here")
    return Finding(
        what="model",
        state="warning",
        found=f"{name} is not here yet; {entry.size_bytes / 1e6:.0f} MB are fetched at first use",
        remedy=f"fetch it now with `nsa models pull {name}`",
    )


def _cache() -> Finding:
    from nsa_cli.kv_store.inventory import disk_bytes, stored_entries

    root = cache_root()
    probe = root / f".probe-{os.getpid()}"
    try:
        root.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"x")
        probe.unlink()
        free = shutil.disk_usage(root).free
    except OSError as error:
        return Finding(
            what="cache",
            state="failure",
            found=f"{root} cannot be written: {error.strerror or error}",
            remedy="set NSA_CACHE_DIR to a folder that can be written",
        )
    readings = stored_entries()
    taken = sum(kept.bytes for kept in readings)
    prepared = disk_bytes(prepared_folder())
    found = (
        f"{root}: {len(readings)} kept, {taken / 1e9:.1f} GB; "
        f"prepared weights {prepared / 1e9:.1f} GB; {free / 1e9:.0f} GB free"
    )
    if free < _ENOUGH_DISK:
        return Finding(
            what="cache",
            state="warning",
            found=found,
            remedy="free some space, e.g. `nsa cache prune`, or set NSA_CACHE_DIR",
        )
    return Finding(what="cache", state="ok", found=found)


def _formats() -> Finding:
    missing = [p for module, p in _FORMATS.items() if importlib.util.find_spec(module) is None]
    if missing:
        return Finding(
            what="formats",
            state="warning",
            found=f"some files cannot be read without {', '.join(missing)}",
            remedy=f"install them with `{Path(sys.executable).name} -m pip install "
            f"{' '.join(missing)}`",
        )
    return Finding(what="formats", state="ok", found="all that nsa knows can be read")


def _config() -> Finding:
    from nsa_cli.config import settings

    try:
        found = settings.effective()
    except NsaError as error:
        return Finding(what="config", state="failure", found=error.message, remedy=error.hint)
    said = ", ".join(f"{key}={setting.value}" for key, setting in found.items())
    return Finding(what="config", state="ok", found=said or "nothing is set")

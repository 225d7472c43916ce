"""`nsa doctor`."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

from nsa_cli import __version__
from nsa_cli.cli import console, options
from nsa_cli.system import available_memory_bytes
from nsa_models.errors import NsaError
from nsa_models.hub.registry import MODELS

HELP = """Check this machine and suggest remedies.

\b
    nsa doctor
    nsa doctor --json
    nsa doctor --measure

Checks the device, kernels, memory, model, cache, formats and settings. Exits with code 1 if one of
them does not work. With -q, nsa shows warnings and failures only.
"""


_ENOUGH_MEMORY = 3e9
"""Bytes to read 30,000 tokens with the default model, with a margin."""

_ENOUGH_DISK = 5e9

_FORMATS = {
    "docx": "python-docx",
    "pptx": "python-pptx",
    "openpyxl": "openpyxl",
    "zstandard": "zstandard",
}
"""The package of each optional module."""

_INDENT = 16
"""Cells before what a check found."""

_MARKS = {"ok": "ok  ", "warning": "warn", "failure": "FAIL"}


def doctor(
    json: options.Json = False,
    quiet: options.Quiet = False,
    measure: Annotated[
        bool,
        options.option("--measure", None, "Measure the speed of each weight format again."),
    ] = False,
) -> None:
    """Check this machine and suggest remedies."""
    findings = examine(measure=measure)
    failed = any(finding.state == "failure" for finding in findings)
    if json:
        console.print_json({"ok": not failed, "checks": [asdict(each) for each in findings]})
    else:
        from nsa_cli.output.layout import columns, wrap

        width = columns(sys.stdout)
        for finding in findings:
            if quiet and finding.state == "ok":
                continue
            begin = f"{_MARKS[finding.state]}  {finding.what:<8}  "
            indent = " " * _INDENT
            remedy = f"\n{wrap(indent + finding.remedy, width, _INDENT)}" if finding.remedy else ""
            sys.stdout.write(wrap(f"{begin}{finding.found}", width, _INDENT) + f"{remedy}\n")
        sys.stdout.flush()
    if failed:
        raise typer.Exit(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The result of one check.

    Attributes:
        what: The part that was checked.
        state: Whether it works, works less well than it could, or fails.
        found: The observation.
        remedy: The remedy, or an empty string.
    """

    what: str
    state: Literal["ok", "warning", "failure"]
    found: str
    remedy: str = ""


def examine(*, measure: bool = False) -> list[Finding]:
    """Run all checks; a finding may explain later ones.

    Args:
        measure: Whether to measure the speed of each format of the weights again.
    """
    checks: tuple[Callable[[], Finding], ...] = (
        _program,
        _device,
        _kernels,
        _memory,
        _model,
        _answer_model,
        partial(_weights, measure),
        _cache,
        _formats,
        _config,
    )
    return [check() for check in checks]


def _program() -> Finding:
    import platform

    found = f"nsa {__version__}, Python {platform.python_version()}, {platform.platform()}"
    return Finding(what="program", state="ok", found=found)


def _device() -> Finding:
    import torch

    if torch.cuda.is_available():
        name = torch.cuda.get_device_name()
        total = torch.cuda.get_device_properties(0).total_memory
        return Finding(what="device", state="ok", found=f"{name}, {total / 1e9:.0f} GB")
    threads = torch.get_num_threads()
    cores = f"CPU, {threads} thread{'s' * (threads != 1)}, torch {torch.__version__}"
    if shutil.which("nvidia-smi"):
        return Finding(
            what="device",
            state="warning",
            found=f"{cores}; this torch cannot use the NVIDIA driver",
            remedy="install torch for CUDA, see https://pytorch.org/get-started",
        )
    return Finding(what="device", state="ok", found=cores)


def _named(setting: str) -> str | None:
    """Return a setting from the environment or a file, or None."""
    from nsa_cli.config import settings

    try:
        found = settings.effective().get(setting)
    except NsaError:  # reported by `_config`
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
            found="triton is not installed: slower blockwise attention",
            remedy="install it with `pip install triton`",
        )
    return Finding(what="kernels", state="ok", found="Triton kernels for CUDA")


def _memory() -> Finding:
    free = available_memory_bytes()
    if free is None:
        return Finding(what="memory", state="ok", found="unknown on this system")
    found = f"{free / 1e9:.1f} GB free"
    if free < _ENOUGH_MEMORY:
        return Finding(
            what="memory",
            state="warning",
            found=f"{found}; reading a long document needs about {_ENOUGH_MEMORY / 1e9:.0f} GB",
            remedy="close other programs, or use --model smollm2-135m",
        )
    return Finding(what="memory", state="ok", found=found)


def _model() -> Finding:
    return _found_model("model", _reads())


def _reads() -> str:
    """The model that reads."""
    from nsa_cli.config.options import AUTO
    from nsa_cli.engine.answer_model import reading_model

    return reading_model(_named("model") or AUTO, _named("device") or "auto")


def _answer_model() -> Finding:
    """The model that answers, which reads, too, unless it is another."""
    from nsa_cli.config.options import AUTO
    from nsa_cli.engine.answer_model import larger_model

    reads = _reads()
    named = _named("answer_model") or AUTO
    name = larger_model(reads) if named == AUTO else named
    if name is None or name == reads:
        return Finding(what="answers", state="ok", found=f"{reads} reads and answers")
    found = _found_model("answers", name)
    return replace(found, found=f"{reads} reads, {name} answers; {found.found}")


def _found_model(what: str, name: str) -> Finding:
    """Whether a model is on this machine."""
    from nsa_models.paths import imported_name, models_folder

    entry = MODELS.get(name)
    if entry is None:
        from nsa_models.hub.aliases import aliases

        try:
            path = aliases().get(name, Path(name).expanduser())
        except NsaError as error:
            return Finding(what=what, state="failure", found=error.message, remedy=error.hint)
        if path.exists():
            return Finding(what=what, state="ok", found=name)
        return Finding(
            what=what,
            state="warning",
            found=f"{name} is not on this machine; it will be fetched from the Hugging Face hub",
            remedy="see `nsa models list` for known models",
        )
    if any(models_folder().glob(f"{imported_name(name, entry.sha256)}-*/config.json")):
        return Finding(what=what, state="ok", found=f"{name} is on this machine")
    return Finding(
        what=what,
        state="warning",
        found=f"{name} is not on this machine: {entry.size_bytes / 1e6:.0f} MB to fetch",
        remedy=f"fetch it now with `nsa models pull {name}`",
    )


def _weights(measure: bool) -> Finding:
    """The format of the model's weights, and what each takes on this machine."""
    import torch

    named = _named("quantize")
    if named not in (None, "auto"):
        found = f"{named}, by the setting quantize"
    elif torch.cuda.is_available():
        found = "as stored, on a GPU"
    else:
        found = _fastest_weights(_reads(), measure)
    return Finding(what="weights", state="ok", found=found)


def _fastest_weights(name: str, measure: bool) -> str:
    from nsa_cli.engine.weight_formats import fastest, format_speeds, remembered_speeds
    from nsa_models.modeling.speed import AS_STORED
    from nsa_models.paths import imported_name, models_folder
    from nsa_models.weights.load import load_config

    entry = MODELS.get(name)
    if entry is None or not entry.tested_quantizations:
        return f"as stored: no other format is tested with {name}"
    here = [*models_folder().glob(f"{imported_name(name, entry.sha256)}-*/config.json")]
    if not here:
        return f"chosen when {name} is on this machine"
    config, _ = load_config(here[0].parent)
    speeds = format_speeds(config, again=True) if measure else remembered_speeds(config)
    if speeds is None:
        return "not measured yet: the first question does, or `nsa doctor --measure`"
    chosen = fastest(speeds, [AS_STORED, *entry.tested_quantizations])
    each = [
        f"{'as stored' if kind == AS_STORED else kind} reads {1 / speed.reading_seconds:,.0f} and "
        f"decodes {1 / speed.token_seconds:,.1f} tokens/s"
        for kind, speed in speeds.items()
    ]
    chosen = "as stored" if chosen == AS_STORED else chosen
    return f"{chosen}, the fastest; without attention, {', '.join(each)}"


def _cache() -> Finding:
    from nsa_cli.kv_store.inventory import disk_bytes, stored_entries
    from nsa_models.paths import cache_root, prepared_folder

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
            remedy="set NSA_CACHE_DIR to a writable folder",
        )
    readings = stored_entries()
    taken = sum(entry.bytes for entry in readings)
    prepared = disk_bytes(prepared_folder())
    found = (
        f"{root}: {len(readings)} readings, {taken / 1e9:.1f} GB; "
        f"prepared weights {prepared / 1e9:.1f} GB; {free / 1e9:.0f} GB free"
    )
    if free < _ENOUGH_DISK:
        return Finding(
            what="cache",
            state="warning",
            found=found,
            remedy="free some space with `nsa cache prune`, or set NSA_CACHE_DIR",
        )
    return Finding(what="cache", state="ok", found=found)


def _formats() -> Finding:
    missing = [p for module, p in _FORMATS.items() if importlib.util.find_spec(module) is None]
    if missing:
        return Finding(
            what="formats",
            state="warning",
            found=f"not installed: {', '.join(missing)}",
            remedy=f"install them with `{Path(sys.executable).name} -m pip install "
            f"{' '.join(missing)}`",
        )
    return Finding(what="formats", state="ok", found="all supported formats can be read")


def _config() -> Finding:
    from nsa_cli.config import settings

    try:
        found = settings.effective()
    except NsaError as error:
        return Finding(what="config", state="failure", found=error.message, remedy=error.hint)
    values = ", ".join(f"{name}={setting.value}" for name, setting in found.items())
    return Finding(what="config", state="ok", found=values or "no settings")

"""Download a wheel with pip, without installing it or running its code."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from nsa_models.hub.fetch_common import SourceFailed

SOCKET_SECONDS = 6
"""pip's timeout of a connection without data."""

STALL_SECONDS = 60.0
"""Time without a new byte on disk after which pip is stopped."""

POLL_SECONDS = 0.2


def pip_command() -> list[str]:
    """Return the command of the environment's pip, or of another pip that can download.

    Raises:
        SourceFailed: If this machine has none; environments created by uv have no pip.
    """
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-m", "pip"]
    bundled = _bundled_pip()
    if bundled:
        return [sys.executable, str(bundled / "pip")]
    uv = shutil.which("uv")
    if uv:
        return [uv, "tool", "run", "pip"]
    pip = shutil.which("pip3") or shutil.which("pip")
    if pip:
        return [pip]
    raise SourceFailed("neither pip nor uv is installed")


def download_wheel(
    package: str, version: str, scratch: Path, on_bytes: Callable[[int], None]
) -> Path:
    """Download a wheel to `scratch`.

    Args:
        package: The name of the package.
        version: The version to download.
        scratch: An empty folder for temporary files and the wheel.
        on_bytes: Called about five times a second with the downloaded bytes.

    Returns:
        The wheel, in `scratch`.

    Raises:
        SourceFailed: With pip's message.
    """
    wheels = scratch / "wheels"
    work = scratch / "tmp"
    work.mkdir()
    command = [
        *pip_command(),
        "download",
        f"{package}=={version}",
        f"--dest={wheels}",
        "--no-deps",
        "--only-binary=:all:",
        "--no-cache-dir",
        "--no-input",
        "--disable-pip-version-check",
        "--progress-bar=off",
        "--retries=1",
        f"--timeout={SOCKET_SECONDS}",
    ]
    # pip downloads to the temporary folder, whose growth is the progress.
    environment = os.environ | {name: str(work) for name in ("TMPDIR", "TEMP", "TMP")}
    log = scratch / "pip.log"
    with log.open("wb") as output:
        # An empty working directory: a folder named pip would shadow the module.
        process = subprocess.Popen(
            command,
            cwd=scratch,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            _watch(process, [work, wheels], on_bytes)
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
    downloaded = list(wheels.glob("*.whl")) if process.returncode == 0 else []
    if len(downloaded) != 1:
        raise SourceFailed(_complaint(log.read_text(errors="replace"), package))
    return downloaded[0]


def _watch(
    process: subprocess.Popen[bytes], folders: list[Path], on_bytes: Callable[[int], None]
) -> None:
    """Report the size until the process ends; raise when the folders stop growing."""
    largest = 0
    last_growth = time.monotonic()
    while process.poll() is None:
        size = max(map(_folder_size, folders))
        if size > largest:
            largest = size
            last_growth = time.monotonic()
        elif time.monotonic() - last_growth > STALL_SECONDS:
            raise SourceFailed(f"pip received nothing for {STALL_SECONDS:g} s")
        if largest:
            on_bytes(largest)  # without growth too: the caller may stop the download by an error
        try:
            process.wait(POLL_SECONDS)
        except subprocess.TimeoutExpired:
            continue


def _folder_size(folder: Path) -> int:
    """Return the bytes of all files in `folder`, while another process changes it."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                total += (Path(parent) / name).stat().st_size
            except FileNotFoundError:
                continue
    return total


def _complaint(log: str, package: str) -> str:
    """Return the most informative line of pip's output."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    if any("connection broken" in line or "timed out" in line for line in lines):
        return f"pip cannot reach the package index for {package}"
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR")]
    return f"pip: {errors[0] if errors else lines[-1] if lines else 'no output'}"


def _bundled_pip() -> Path | None:
    """Return the wheel of pip that Python bundles for new environments, or None."""
    spec = importlib.util.find_spec("ensurepip")
    if spec is None or spec.origin is None:
        return None
    wheels = sorted((Path(spec.origin).parent / "_bundled").glob("pip-*.whl"))
    return wheels[-1] if wheels else None

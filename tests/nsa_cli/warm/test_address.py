"""The socket's name follows from the settings; its folder is closed to other users."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from nsa_cli.config.options import Options
from nsa_cli.warm import address
from nsa_cli.warm.address import is_private, is_same_user, listen, socket_path
from nsa_models.model_folder import ModelFolder

MODEL = ModelFolder(name="tiny", folder=Path("/models/tiny"), fingerprint="1")
OPTIONS = Options(model="tiny")
SAME: dict[str, Any] = {
    "model": "./tiny",
    "adapter": "folder",
    "answer_model": "tiny",
    "password": "secret",
    "pages": "1-2",
    "ocr": "eng",
    "hidden": True,
    "every_line": True,
    "system": "Be brief.",
    "max_tokens": 7,
    "temperature": 0.5,
    "seed": 1,
    "store": False,
    "cache_limit_bytes": 10**9,
    "allow_private": True,
    "compute": False,
    "server": False,
}
"""Options for which the same server serves: it receives them, or need not know them."""
OTHER: dict[str, Any] = {
    "device": "cpu",
    "dense": True,
    "yarn": True,
    "answer_blocks": 4,
    "quantization": "int8",
    "memory_bytes": 10**9,
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty runtime folder, closed to others."""
    found = tmp_path / "run"
    found.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(found))
    return found


@pytest.fixture
def path(folder: Path) -> Path:
    """The path of a socket; its folder does not exist yet."""
    return folder / "nsa" / "0123"


@pytest.fixture
def listening(path: Path) -> Iterator[socket.socket]:
    """A socket that listens at the path."""
    with listen(path) as found:
        yield found


def test_options_of_the_question_have_the_same_socket() -> None:
    first = socket_path(MODEL, MODEL, OPTIONS)
    for name, value in SAME.items():
        assert socket_path(MODEL, MODEL, replace(OPTIONS, **{name: value})) == first, name


def test_options_of_the_model_have_another_socket() -> None:
    found = {socket_path(MODEL, MODEL, OPTIONS)}
    for name, value in OTHER.items():
        found.add(socket_path(MODEL, MODEL, replace(OPTIONS, **{name: value})))
    renamed, changed = replace(MODEL, name="x"), replace(MODEL, fingerprint="2")
    found |= {socket_path(*each, OPTIONS) for each in ((renamed, MODEL), (MODEL, changed))}
    assert len(found) == len(OTHER) + 3


def test_every_option_is_decided_about() -> None:
    assert {*SAME, *OTHER} == {each.name for each in fields(Options)}
    assert {*address.SENT} < {*SAME}


def test_another_cache_has_another_socket(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = socket_path(MODEL, MODEL, OPTIONS)
    assert first.parent == folder / "nsa"
    monkeypatch.setenv("NSA_CACHE_DIR", str(folder / "other"))
    assert socket_path(MODEL, MODEL, OPTIONS).name != first.name


def test_without_a_private_runtime_folder_the_socket_is_in_the_cache(
    folder: Path, cache_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.chmod(0o755)
    assert socket_path(MODEL, MODEL, OPTIONS).parent == cache_folder / "server"
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert socket_path(MODEL, MODEL, OPTIONS).parent == cache_folder / "server"


def test_only_the_owner_opens_the_folder_and_the_socket(
    path: Path, listening: socket.socket
) -> None:
    del listening
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_link_or_an_open_folder_is_not_private(folder: Path, tmp_path: Path) -> None:
    assert is_private(folder)
    link = tmp_path / "link"
    link.symlink_to(folder)
    assert not is_private(link)
    assert not is_private(tmp_path / "missing")
    for mode in (0o710, 0o701, 0o770, 0o750):
        folder.chmod(mode)
        assert not is_private(folder)


def test_a_folder_of_another_user_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(PermissionError, match="open to other users"):
        listen(path)


def test_a_stale_socket_is_replaced(path: Path) -> None:
    listen(path).close()
    with socket.socket(socket.AF_UNIX) as client:
        with pytest.raises(ConnectionRefusedError):
            client.connect(str(path))
        with listen(path):
            client.connect(str(path))


def test_the_socket_of_a_running_server_is_kept(path: Path, listening: socket.socket) -> None:
    before = path.lstat().st_ino
    with pytest.raises(FileExistsError, match="another server"):
        listen(path)
    assert path.lstat().st_ino == before
    assert listening.fileno() >= 0


def test_a_path_that_is_too_long_is_an_os_error(path: Path) -> None:
    with pytest.raises(OSError, match="too long"):
        listen(path.with_name("a" * 120))


@pytest.mark.skipif(not hasattr(socket, "SO_PEERCRED"), reason="the folder alone protects")
def test_the_peer_is_the_same_user(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = socket.socketpair()
    with one, other:
        assert is_same_user(one)
        monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
        assert not is_same_user(one)

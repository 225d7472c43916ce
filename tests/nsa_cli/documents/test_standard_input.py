"""Standard input is a pipe if it has something in it."""

from __future__ import annotations

import io
import os
import threading
from pathlib import Path

import pytest

from nsa_cli.documents import standard_input
from nsa_cli.documents.standard_input import is_piped


def unexpected() -> None:
    pytest.fail("nothing had to be waited for")


@pytest.mark.parametrize("data", [b"x", b"\xff\0", b"line\n" * 100_000])
def test_a_pipe_keeps_its_bytes(data: bytes) -> None:
    reader, writer = os.pipe()
    thread = threading.Thread(target=lambda: (os.write(writer, data), os.close(writer)))
    thread.start()
    with open(reader, encoding="utf-8") as stdin:  # noqa: PTH123 - a descriptor
        assert is_piped(unexpected, stdin)
        assert is_piped(unexpected, stdin)
        assert stdin.buffer.read() == data
    thread.join()


def test_an_empty_pipe_is_none() -> None:
    reader, writer = os.pipe()
    os.close(writer)
    with open(reader, encoding="utf-8") as stdin:  # noqa: PTH123
        assert not is_piped(unexpected, stdin)


@pytest.mark.parametrize(("data", "piped"), [(b"", False), (b"x", True)])
def test_a_file_without_a_way_to_peek(data: bytes, piped: bool) -> None:
    stdin = io.TextIOWrapper(io.BytesIO(data))
    assert is_piped(unexpected, stdin) is piped
    assert stdin.buffer.read() == data


def test_a_redirected_file_is_one(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("x")
    with path.open() as stdin:
        assert is_piped(unexpected, stdin)
    assert not is_piped(unexpected, stdin)  # it is closed


def test_a_terminal_and_a_device_are_none() -> None:
    mine, its = os.openpty()
    with open(its, encoding="utf-8") as stdin:  # noqa: PTH123
        assert not is_piped(unexpected, stdin)
    os.close(mine)
    with Path(os.devnull).open() as stdin:
        assert not is_piped(unexpected, stdin)


def test_a_wait_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standard_input, "_PATIENCE_SECONDS", 0.01)
    reader, writer = os.pipe()
    told = threading.Event()

    def write_then() -> None:
        assert told.wait(60)
        os.write(writer, b"late")
        os.close(writer)

    thread = threading.Thread(target=write_then)
    thread.start()
    with open(reader, encoding="utf-8") as stdin:  # noqa: PTH123
        assert is_piped(told.set, stdin)
        assert stdin.buffer.read() == b"late"
    thread.join()

"""The heap of the process."""

from __future__ import annotations

import ctypes
import sys

import pytest

from nsa_models.heap import trim_heap


@pytest.mark.parametrize("platform", ["linux", "darwin", "win32"])
def test_the_heap_is_trimmed_where_the_system_can(
    platform: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    class Library:
        def __init__(self, name: None) -> None:
            assert name is None

        def malloc_trim(self, kept: int) -> None:
            asked.append(kept)

    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(ctypes, "CDLL", Library)
    trim_heap()
    assert asked == ([0] if platform == "linux" else [])


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    trim_heap()

"""Only public addresses are connected to, and those that were checked."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from nsa_cli.documents.errors import UnreadableError
from nsa_cli.documents.urls.addresses import connect, is_public

PRIVATE = [
    *("127.0.0.1", "127.8.9.10", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254"),
    *("0.0.0.0", "100.64.0.1", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255"),
    *("192.0.2.1", "198.18.0.1", "::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "fd12::1"),
    *("fec0::1", "ff02::1", "2001:db8::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1"),
    *("64:ff9b::7f00:1", "64:ff9b::a00:1", "2002:7f00:1::", "2002:c0a8:101::1", "::127.0.0.1"),
]


@pytest.mark.parametrize("address", PRIVATE)
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address",
    *[["1.1.1.1", "93.184.215.14", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"]],
)
def test_public_addresses(address: str) -> None:
    assert is_public(address)


class Sockets:
    """Sockets that note where they connect to; `rebound` is the address they end at."""

    def __init__(self, rebound: str | None = None) -> None:
        self.rebound = rebound
        self.connected: list[str] = []
        self.closed = 0

    def __call__(self, *_: Any) -> Sockets:
        return self

    def settimeout(self, seconds: float) -> None:
        del seconds

    def connect(self, address: tuple[str, int]) -> None:
        self.connected.append(address[0])

    def getpeername(self) -> tuple[str, int]:
        return self.rebound or self.connected[-1], 80

    def close(self) -> None:
        self.closed += 1


def name_server(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> list[str]:
    """Answer each lookup with the next addresses; returns the names asked for."""
    left, asked = list(answers), []

    def lookup(host: str, port: int, **_: Any) -> list[Any]:
        asked.append(host)
        family, kind = socket.AF_INET, socket.SOCK_STREAM
        return [(family, kind, 6, "", (address, port)) for address in left.pop(0)]

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    return asked


def test_a_name_is_looked_up_once_and_the_checked_address_connected_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sockets = Sockets()
    monkeypatch.setattr(socket, "socket", sockets)
    asked = name_server(monkeypatch, ["1.1.1.1"], ["127.0.0.1"])
    connect("rebinding.example", 80, allow_private=False, timeout=1)
    assert (asked, sockets.connected) == (["rebinding.example"], ["1.1.1.1"])


def test_private_addresses_among_public_ones_are_passed_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sockets = Sockets()
    monkeypatch.setattr(socket, "socket", sockets)
    name_server(monkeypatch, ["10.0.0.1", "1.1.1.1"])
    connect("mixed.example", 80, allow_private=False, timeout=1)
    assert sockets.connected == ["1.1.1.1"]


def test_the_address_at_the_other_end_is_checked_too(monkeypatch: pytest.MonkeyPatch) -> None:
    sockets = Sockets(rebound="10.0.0.1")
    monkeypatch.setattr(socket, "socket", sockets)
    name_server(monkeypatch, ["1.1.1.1"])
    with pytest.raises(UnreadableError) as refused:
        connect("a.example", 80, allow_private=False, timeout=1)
    assert refused.value.code == "private_address"
    assert sockets.closed == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1", "2130706433", "0x7f.1", "localhost"])
def test_a_local_address_in_any_spelling(host: str) -> None:
    with pytest.raises(UnreadableError) as refused:
        connect(host, 9, allow_private=False, timeout=1)
    assert refused.value.code == "private_address"
    assert refused.value.hint == "add --allow-private if you trust it"


def test_an_address_that_does_not_answer() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound, and not listening
        with pytest.raises(UnreadableError) as failed:
            connect("127.0.0.1", unused.getsockname()[1], allow_private=True, timeout=5)
    assert failed.value.code == "unreachable"


def test_an_unknown_host(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: Any, **__: Any) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(UnreadableError, match="cannot be reached"):
        connect("a.example", 80, allow_private=False, timeout=1)

"""The server ends when nobody has asked for a while, by a clock of the test."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from nsa_cli.cli.values import seconds
from nsa_cli.serve import idle as idling
from nsa_cli.serve.idle import Idle, IdleMiddleware
from nsa_models.errors import UsageError


class Clock:
    """A clock that moves when it is told to, or when something sleeps."""

    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        """The time, in seconds."""
        return self.now

    async def sleep(self, duration: float) -> None:
        """Let the time pass at once."""
        assert duration > 0
        self.slept.append(duration)
        self.now += duration


@pytest.fixture
def clock() -> Clock:
    """A clock."""
    return Clock()


def test_time_counts_from_the_end_of_the_last_request(clock: Clock) -> None:
    idle = Idle(clock)
    clock.now += 4
    assert idle.left(10) == 6
    with idle.request(), idle.request():
        clock.now += 50
        assert idle.left(10) == 10
    assert idle.left(10) == 10
    clock.now += 11
    assert idle.left(10) == -1


def test_a_request_that_fails_ends(clock: Clock) -> None:
    idle = Idle(clock)
    with pytest.raises(ZeroDivisionError), idle.request():
        raise ZeroDivisionError
    clock.now += 10
    assert idle.left(10) == 0


def test_waiting_ends_without_requests(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    idle = Idle(clock)
    monkeypatch.setattr(idling.asyncio, "sleep", clock.sleep)
    clock.now += 7
    with idle.request():
        clock.now += 1
    clock.now += 3
    asyncio.run(idle.wait(10))
    assert clock.slept == [7]


def test_waiting_goes_on_while_a_request_runs(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    idle = Idle(clock)
    request = idle.request()
    request.__enter__()

    async def sleep(duration: float) -> None:
        await clock.sleep(duration)
        if len(clock.slept) == 3:
            request.__exit__(None, None, None)

    monkeypatch.setattr(idling.asyncio, "sleep", sleep)
    asyncio.run(idle.wait(10))
    assert clock.slept == [10, 10, 10, 10]


def test_monitors_are_no_use_of_the_server(clock: Clock) -> None:
    idle = Idle(clock)
    left: list[float] = []

    async def answer(_request: Any) -> PlainTextResponse:
        left.append(idle.left(10))
        return PlainTextResponse("yes")

    routes = [Route(path, answer) for path in ("/health", "/metrics", "/v1/models")]
    app = Starlette(routes=routes, middleware=[Middleware(IdleMiddleware, idle=idle)])
    clock.now += 4
    with TestClient(app) as client:
        for path in ("/health", "/metrics", "/v1/models"):
            assert client.get(path).text == "yes"
    assert left == [6, 6, 10]
    assert idle.left(10) == 10


@pytest.mark.parametrize(
    ("text", "value"), [("90s", 90), ("10m", 600), ("2h", 7200), (" 0.5m ", 30)]
)
def test_times(text: str, value: float) -> None:
    assert seconds("--idle-exit", text) == value


@pytest.mark.parametrize(
    "text", ["", "10", "m", "10 d", "ten m", "0m", "-1s", "nans", "infs", "1e400h"]
)
def test_other_times_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="invalid value for --idle-exit"):
        seconds("--idle-exit", text)

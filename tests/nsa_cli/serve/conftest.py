"""What the tests of the server share: a server in this process, and one on a socket."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.testclient import TestClient

from nsa_cli.config.options import Options
from nsa_cli.serve.documents import DocumentStore, ParsedDocuments
from nsa_cli.serve.idle import Idle
from nsa_cli.serve.routes import Server
from nsa_cli.serve.scheduler import Scheduler
from nsa_cli.serve.uploads import Uploads
from nsa_cli.serve.warm import WarmServer

HERE = "http://127.0.0.1"
Make = Callable[..., Starlette]


@pytest.fixture
def root(tmp_path: Path, prose: Any) -> Path:
    """A folder with two texts."""
    folder = tmp_path / "served"
    folder.mkdir()
    for number in range(2):
        (folder / f"{number}.txt").write_text(prose(60, seed=number))
    return folder


@pytest.fixture
def make(tiny_model: Path, root: Path) -> Iterator[Make]:
    """A function that makes the application, its worker started."""
    made: list[tuple[Scheduler, Uploads]] = []

    def app(*, api_key: str | None = None, most_bytes: int = 10**6, **more: Any) -> Starlette:
        options = Options(model=str(tiny_model), max_tokens=6, cache_limit_bytes=10**8)
        library = DocumentStore(root, Uploads())
        worker = Scheduler(options, [].append, library.parsed)
        made.append((worker, library.uploads))
        worker.start()
        return Server(worker, library, 6).app(api_key=api_key, most_bytes=most_bytes, **more)

    yield app
    for worker, uploads in made:
        worker.close()
        worker.join(60)
        uploads.close()


@pytest.fixture
def client(make: Make) -> Iterator[TestClient]:
    """A client in this process."""
    with TestClient(make(), base_url=HERE) as found:
        yield found


@pytest.fixture
def listen(make: Make) -> Iterator[Callable[..., str]]:
    """A function that serves on a socket; its address."""
    servers: list[tuple[uvicorn.Server, threading.Thread]] = []

    def start(**more: Any) -> str:
        bound = socket.create_server(("127.0.0.1", 0))
        config = uvicorn.Config(make(**more), log_level="critical", ws="none", lifespan="off")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, daemon=True)
        thread.start()
        servers.append((server, thread))
        return f"{HERE}:{bound.getsockname()[1]}"

    yield start
    for server, thread in servers:
        server.should_exit = True
        thread.join(60)


class Process:
    """A server's model thread and its socket, in this process.

    Attributes:
        scheduler: The model's thread.
        warm: The socket.
        idle: Counts requests.
    """

    def __init__(self, model: Path, **options: Any) -> None:
        made = Options(model=str(model), cache_limit_bytes=10**8, **options)
        self.scheduler = Scheduler(made, [].append, ParsedDocuments())
        self.idle = Idle()
        self.warm = WarmServer(self.scheduler, self.idle)
        self.warm.listen()
        self._loop = asyncio.new_event_loop()
        self._end = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=[self._run()])

    def start(self) -> None:
        """Start both threads."""
        self.scheduler.start()
        self._thread.start()

    async def _run(self) -> None:
        async with self.warm.accepting():
            await self._end.wait()

    def stop(self) -> None:
        """Stop both threads, as a server that is told to stop does; once is enough."""
        if self._loop.is_closed():
            return
        self.scheduler.close()
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._end.set)
            self._thread.join(60)
        self._loop.close()
        self.warm.close()
        self.scheduler.join(60)


@pytest.fixture
def start_process(tiny_model: Path) -> Iterator[Callable[..., Process]]:
    """A function that starts a server with the tiny model and some options."""
    started: list[Process] = []

    def start(**options: Any) -> Process:
        started.append(Process(tiny_model, **options))
        started[-1].start()
        return started[-1]

    yield start
    for each in started:
        each.stop()


@pytest.fixture
def process(start_process: Callable[..., Process]) -> Process:
    """A server with the tiny model, started."""
    return start_process()

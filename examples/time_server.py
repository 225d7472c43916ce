"""Measure a server: requests per second, and answers lost while other clients cancel streams.

32 clients ask for `/health`, then for an answer that the cache holds. Then some clients ask new
questions while others begin streams and disconnect; each answer must be complete.

    nsa serve &
    python examples/time_server.py --clients 32 --answers 1000
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
from collections import Counter
from typing import Any
from urllib.parse import urlsplit

TEXT = "".join(f"The keeper of station {n} is number {n * 7919 % 9973}.\n" for n in range(1, 41))


class Connection:
    """A connection that is kept for many requests.

    Args:
        address: URL of the server.
    """

    def __init__(self, address: str) -> None:
        url = urlsplit(address)
        self._host, self._port = url.hostname or "", url.port or 80
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def send(self, method: str, path: str, body: Any = None) -> asyncio.StreamReader:
        """Send a request; returns the stream of the answer."""
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._host, self._port)
        reader, writer = self._streams
        data = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\nHost: {self._host}\r\nContent-Length: {len(data)}"
        writer.write(f"{head}\r\nContent-Type: application/json\r\n\r\n".encode() + data)
        await writer.drain()
        return reader

    async def ask(self, method: str, path: str, body: Any = None) -> tuple[int, bytes]:
        """Status and body of an answer with a length."""
        reader = await self.send(method, path, body)
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        length = int(head.split("content-length:")[1].split("\r\n")[0])
        return int(head.split()[1]), await reader.readexactly(length)

    def close(self) -> None:
        """Disconnect."""
        if self._streams is not None:
            self._streams[1].close()
        self._streams = None


def question(number: int, **more: Any) -> dict[str, Any]:
    """A request for an answer about the text."""
    asked = {"role": "user", "content": f"Who keeps station {number}?"}
    long = {"role": "user", "content": TEXT * 2}
    return {"messages": [long, asked], "max_tokens": 8, **more}


async def rate(address: str, clients: int, seconds: float, *request: Any) -> str:
    """Requests per second of some clients, with their times."""
    times: list[float] = []
    end = time.monotonic() + seconds

    async def client() -> None:
        connection = Connection(address)
        while time.monotonic() < end:
            began = time.monotonic()
            status, body = await connection.ask(*request)
            assert status == 200, body
            times.append(time.monotonic() - began)
        connection.close()

    began = time.monotonic()
    await asyncio.gather(*(client() for _ in range(clients)))
    spent = time.monotonic() - began
    worst = statistics.quantiles(times, n=100)[98]
    return (
        f"{len(times) / spent:,.0f} requests/s, median {statistics.median(times) * 1e3:.1f} ms, "
        f"99th percentile {worst * 1e3:.1f} ms"
    )


async def answers(address: str, clients: int, wanted: int) -> Counter[str]:
    """Ask while other clients cancel streams; counts complete answers and others."""
    counts: Counter[str] = Counter()
    numbers = iter(range(wanted))
    done = asyncio.Event()

    async def stay() -> None:
        connection = Connection(address)
        for number in numbers:
            body = question(number)
            status, found = await connection.ask("POST", "/v1/chat/completions", body)
            complete = status == 200 and json.loads(found)["choices"][0]["message"]["content"]
            counts["complete" if complete else f"lost ({status})"] += 1
        connection.close()

    async def leave(first: int) -> None:
        number = first
        while not done.is_set():
            number += clients
            connection = Connection(address)
            body = question(number, stream=True, temperature=1, max_tokens=200)
            reader = await connection.send("POST", "/v1/chat/completions", body)
            await reader.read(600)  # the head, or the first chunks
            connection.close()
            counts["canceled"] += 1

    leavers = [asyncio.create_task(leave(each)) for each in range(clients // 4)]
    await asyncio.gather(*(stay() for _ in range(clients - len(leavers))))
    done.set()
    await asyncio.gather(*leavers)
    return counts


async def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--address", default="http://127.0.0.1:8765")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--answers", type=int, default=1000)
    said = parser.parse_args()
    await Connection(said.address).ask("POST", "/v1/chat/completions", question(0))
    health = await rate(said.address, said.clients, said.seconds, "GET", "/health")
    print(f"/health, {said.clients} clients: {health}")
    cached = ("POST", "/v1/chat/completions", question(0))
    found = await rate(said.address, said.clients, said.seconds, *cached)
    print(f"answers from the cache, {said.clients} clients: {found}")
    began = time.monotonic()
    counts = await answers(said.address, said.clients, said.answers)
    print(f"under canceled streams: {dict(counts)} in {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    asyncio.run(main())

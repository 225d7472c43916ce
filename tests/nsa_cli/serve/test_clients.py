"""The server as real clients see it: the `openai` package and the program `llm`."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from pydantic import BaseModel

SCHEMA = {
    "type": "object",
    "properties": {"kind": {"enum": ["harbour", "weather"]}, "count": {"enum": [1, 2, 3]}},
    "required": ["kind", "count"],
    "additionalProperties": False,
}
WHO: list[Any] = [{"role": "user", "content": "Who wrote it?"}]


class Report(BaseModel):
    """What an answer in JSON holds."""

    kind: bool
    late: bool


@pytest.fixture
def client(listen: Callable[..., str]) -> Iterator[openai.OpenAI]:
    """The client that people use."""
    with openai.OpenAI(base_url=f"{listen()}/v1", api_key="none", max_retries=0) as found:
        yield found


@pytest.fixture
def model(client: openai.OpenAI) -> str:
    """The name of the served model."""
    return client.models.list().data[0].id


def test_plain_chat(client: openai.OpenAI, model: str) -> None:
    said: list[Any] = [{"role": "system", "content": "Be brief."}, *WHO]
    first = client.chat.completions.create(model=model, messages=said)
    answer = first.choices[0].message.content
    assert answer
    assert first.usage is not None
    assert 10 < first.usage.prompt_tokens < 200
    assert first.usage.completion_tokens in range(1, 7)
    said += [{"role": "assistant", "content": answer}, {"role": "user", "content": "And when?"}]
    second = client.chat.completions.create(model=model, messages=said)
    assert second.usage is not None
    assert second.usage.prompt_tokens > first.usage.prompt_tokens


def test_plain_chat_in_chunks(client: openai.OpenAI, model: str) -> None:
    whole = client.chat.completions.create(model=model, messages=WHO)
    with client.chat.completions.create(
        model=model, messages=WHO, stream=True, stream_options={"include_usage": True}
    ) as chunks:
        found = list(chunks)
    said = "".join(each.choices[0].delta.content or "" for each in found if each.choices)
    assert said.rstrip() == whole.choices[0].message.content
    assert found[-1].usage == whole.usage


def test_special_tokens_in_a_message_are_text(client: openai.OpenAI, model: str) -> None:
    def tokens(text: str) -> int:
        said: list[Any] = [{"role": "user", "content": text}]
        used = client.chat.completions.create(model=model, messages=said).usage
        assert used is not None
        return used.prompt_tokens

    assert tokens("a<|im_end|>b") > tokens("ab") + 4


def test_a_conversation_that_is_too_long(client: openai.OpenAI, model: str) -> None:
    said: list[Any] = [{"role": "user", "content": "no question. " * 5000}]
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=model, messages=said)
    assert caught.value.code == "context_length_exceeded"


@pytest.mark.parametrize("documents", [[], ["0.txt"]])
def test_stop(client: openai.OpenAI, model: str, documents: list[str]) -> None:
    def ask(**more: Any) -> Any:
        return client.chat.completions.create(
            model=model, messages=WHO, extra_body={"documents": documents}, max_tokens=12, **more
        )

    whole = ask().choices[0].message.content
    assert whole
    assert len(whole) > 4
    stop = whole[3:5]
    cut = ask(stop=[stop, "never said"]).choices[0]
    assert cut.message.content == whole[: whole.index(stop)].rstrip()
    assert cut.finish_reason == "stop"
    with ask(stop=stop, stream=True) as chunks:
        said = "".join(each.choices[0].delta.content or "" for each in chunks)
    assert said == whole[: whole.index(stop)]


def test_several_answers(client: openai.OpenAI, model: str) -> None:
    how: dict[str, Any] = {"model": model, "messages": WHO, "temperature": 2, "seed": 5}
    several = client.chat.completions.create(n=3, **how)
    assert [choice.index for choice in several.choices] == [0, 1, 2]
    texts = [choice.message.content for choice in several.choices]
    assert len(set(texts)) == 3
    alone = [
        client.chat.completions.create(**{**how, "seed": 5 + number}).choices[0].message.content
        for number in range(3)
    ]
    assert texts == alone
    with client.chat.completions.create(n=3, stream=True, **how) as chunks:
        said = ["", "", ""]
        ends = []
        for chunk in chunks:
            for choice in chunk.choices:
                said[choice.index] += choice.delta.content or ""
                ends += [choice.index] * (choice.finish_reason is not None)
    assert [each.rstrip() for each in said] == texts
    assert ends == [0, 1, 2]


def test_top_p(client: openai.OpenAI, model: str) -> None:
    greedy = client.chat.completions.create(model=model, messages=WHO)
    narrow = client.chat.completions.create(
        model=model, messages=WHO, temperature=2, top_p=0.0001, seed=3
    )
    assert narrow.choices[0].message.content == greedy.choices[0].message.content


def test_logprobs(client: openai.OpenAI, model: str) -> None:
    found = client.chat.completions.create(model=model, messages=WHO, logprobs=True, top_logprobs=3)
    [choice] = found.choices
    assert choice.logprobs is not None
    content = choice.logprobs.content
    assert content
    text = b"".join(bytes(token.bytes or ()) for token in content).decode("utf-8", "replace")
    assert text.strip() == choice.message.content
    for token in content:
        assert token.logprob <= 0
        values = [other.logprob for other in token.top_logprobs]
        assert values == sorted(values, reverse=True)
        assert len(values) == 3
        assert token.logprob == values[0]  # greedy
    with client.chat.completions.create(
        model=model, messages=WHO, logprobs=True, stream=True
    ) as chunks:
        told = [
            token.token
            for chunk in chunks
            if chunk.choices[0].logprobs
            for token in chunk.choices[0].logprobs.content or ()
        ]
    assert told == [token.token for token in content]


@pytest.mark.parametrize("documents", [[], ["0.txt"]])
@pytest.mark.parametrize("temperature", [0, 2])
def test_answers_match_a_json_schema(
    client: openai.OpenAI, model: str, documents: list[str], temperature: float
) -> None:
    form: Any = {"type": "json_schema", "json_schema": {"name": "report", "schema": SCHEMA}}
    found = client.chat.completions.create(
        model=model,
        messages=WHO,
        max_tokens=60,
        temperature=temperature,
        seed=1,
        response_format=form,
        extra_body={"documents": documents},
    )
    assert found.choices[0].finish_reason == "stop"
    answer = json.loads(found.choices[0].message.content or "")
    assert set(answer) == {"kind", "count"}
    assert answer["kind"] in ("harbour", "weather")
    assert answer["count"] in (1, 2, 3)


def test_parsed_answers(client: openai.OpenAI, model: str) -> None:
    found = client.chat.completions.parse(
        model=model, messages=WHO, max_tokens=60, response_format=Report
    )
    assert isinstance(found.choices[0].message.parsed, Report)
    response = client.responses.parse(
        model=model, input="Who wrote it?", max_output_tokens=60, text_format=Report
    )
    assert isinstance(response.output_parsed, Report)


def test_any_json_object(client: openai.OpenAI, model: str) -> None:
    found = client.chat.completions.create(
        model=model, messages=WHO, max_tokens=40, response_format={"type": "json_object"}
    )
    [choice] = found.choices
    assert (choice.message.content or "").startswith("{")
    if choice.finish_reason == "stop":
        assert isinstance(json.loads(choice.message.content or ""), dict)


def test_a_schema_that_is_none(client: openai.OpenAI, model: str) -> None:
    form: Any = {
        "type": "json_schema",
        "json_schema": {"name": "report", "schema": {"type": "objekt"}},
    }
    with pytest.raises(openai.BadRequestError, match="JSON schema") as caught:
        client.chat.completions.create(model=model, messages=WHO, response_format=form)
    assert caught.value.param == "response_format"


def test_without_the_library_for_json(
    client: openai.OpenAI, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "llguidance", None)
    with pytest.raises(openai.BadRequestError, match="pip install") as caught:
        client.chat.completions.create(
            model=model, messages=WHO, response_format={"type": "json_object"}
        )
    assert caught.value.code == "missing_library"


def test_ignored_fields_are_told(client: openai.OpenAI, model: str) -> None:
    how: dict[str, Any] = {"presence_penalty": 0.5, "extra_body": {"top_k": 40}}
    found = client.chat.completions.create(model=model, messages=WHO, **how)
    told = [f"{name} is not supported and was ignored" for name in ("presence_penalty", "top_k")]
    assert (found.model_extra or {})["warnings"] == told
    with client.chat.completions.create(model=model, messages=WHO, stream=True, **how) as chunks:
        last = list(chunks)[-1]
    assert (last.model_extra or {})["warnings"] == told
    quiet = client.chat.completions.create(model=model, messages=WHO, user="somebody")
    assert "warnings" not in (quiet.model_extra or {})


def test_files_in_messages(client: openai.OpenAI, model: str, prose: Any) -> None:
    data = prose(60).encode()
    upload = client.files.create(file=("log.txt", data), purpose="user_data")
    inline = f"data:text/plain;base64,{base64.b64encode(data).decode()}"
    for part in (
        {"file_id": upload.id},
        {"filename": "log.txt", "file_data": inline},
    ):
        content: Any = [{"type": "file", "file": part}, {"type": "text", "text": "Who?"}]
        found = client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": content}]
        )
        cited = (found.choices[0].message.model_extra or {})["citations"]
        assert cited[0]["source"] == "log.txt"
    client.files.delete(upload.id)


def test_a_response(client: openai.OpenAI, model: str) -> None:
    found = client.responses.create(
        model=model, input="Who wrote it?", instructions="Be brief.", max_output_tokens=5
    )
    chat = client.chat.completions.create(
        model=model, messages=[{"role": "system", "content": "Be brief."}, *WHO], max_tokens=5
    )
    assert found.output_text == chat.choices[0].message.content
    assert found.status in ("completed", "incomplete")
    assert found.instructions == "Be brief."
    assert found.usage is not None
    assert chat.usage is not None
    assert found.usage.input_tokens == chat.usage.prompt_tokens
    assert found.usage.output_tokens == chat.usage.completion_tokens


def test_a_response_about_a_file(client: openai.OpenAI, model: str, prose: Any) -> None:
    upload = client.files.create(file=("log.txt", prose(60).encode()), purpose="user_data")
    said: Any = [
        {
            "role": "user",
            "content": [
                {"type": "input_file", "file_id": upload.id},
                {"type": "input_text", "text": "Who wrote it?"},
            ],
        }
    ]
    found = client.responses.create(model=model, input=said)
    annotation: Any = found.output[0].content[0].annotations[0]  # type: ignore[union-attr]
    assert (annotation.type, annotation.file_id) == ("file_citation", upload.id)
    assert annotation.filename == "log.txt"
    assert annotation.line_start >= 1
    gone: Any = [{"role": "user", "content": [{"type": "input_file", "file_id": "file-0"}]}]
    with pytest.raises(openai.NotFoundError):
        client.responses.create(model=model, input=[*gone, *said])


def test_a_streamed_response(client: openai.OpenAI, model: str) -> None:
    how: dict[str, Any] = {"model": model, "input": "Who?", "extra_body": {"documents": ["0.txt"]}}
    whole = client.responses.create(**how)
    with client.responses.create(stream=True, **how) as events:
        found: list[Any] = list(events)
    assert [each.sequence_number for each in found] == list(range(len(found)))
    kinds = [each.type for each in found]
    assert kinds[:4] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
    ]
    ends = [kind for kind in kinds[4:] if "delta" not in kind and "annotation" not in kind]
    assert ends == [
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        f"response.{whole.status}",
    ]
    deltas = [each.delta for each in found if each.type == "response.output_text.delta"]
    assert "".join(deltas).rstrip() == whole.output_text
    assert found[-1].response.output_text == whole.output_text
    with client.responses.stream(**how, text_format=Report, max_output_tokens=60) as stream:
        stream.until_done()
        assert isinstance(stream.get_final_response().output_parsed, Report)


def test_a_response_that_fails(
    client: openai.OpenAI, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nsa_cli.events import AnswerText
    from nsa_cli.serve.scheduler import Scheduler
    from nsa_models.errors import NsaError

    def failing(self: Scheduler, *_: Any) -> Any:
        self._emit(AnswerText(text="The"))
        raise NsaError("memory ran out", hint="close other programs", code="memory")

    monkeypatch.setattr(Scheduler, "_chat", failing)
    with client.responses.create(model=model, input="Who?", stream=True) as events:
        last: Any = list(events)[-1]
    assert last.type == "response.failed"
    assert last.response.error.message.startswith("memory ran out")
    with pytest.raises(openai.InternalServerError):
        client.responses.create(model=model, input="Who?")


def test_health_and_metrics(listen: Callable[..., str]) -> None:
    lines: list[str] = []
    address = listen(api_key="secret", log=lines.append)
    health = httpx2.get(f"{address}/health")
    assert (health.status_code, health.json()["status"]) == (200, "ok")
    assert httpx2.get(f"{address}/metrics").status_code == 401
    with openai.OpenAI(base_url=f"{address}/v1", api_key="secret", max_retries=0) as client:
        model = client.models.list().data[0].id
        for _ in range(2):
            client.chat.completions.create(
                model=model,
                messages=[{"role": "user", "content": "Who is the secret worker?"}],
                extra_body={"documents": ["0.txt"]},
            )
        with pytest.raises(openai.BadRequestError):
            client.chat.completions.create(model=model, messages=[])
    headers = {"Authorization": "Bearer secret"}
    httpx2.get(f"{address}/v1/documents/excerpt?document=0.txt", headers=headers)
    httpx2.get(f"{address}/v1/no%0Athing", headers=headers)
    _wait_for(lines, 8)
    found = httpx2.get(f"{address}/metrics", headers=headers)
    assert found.headers["content-type"].startswith("text/plain; version=0.0.4")
    values = dict(
        line.rsplit(" ", 1) for line in found.text.splitlines() if not line.startswith("#")
    )
    chat = 'method="POST",route="/v1/chat/completions"'
    assert values[f'nsa_requests_total{{{chat},status="200"}}'] == "2"
    assert values[f'nsa_requests_total{{{chat},status="400"}}'] == "1"
    assert values['nsa_requests_total{method="GET",route="/health",status="200"}'] == "1"
    assert values['nsa_requests_total{method="GET",route="other",status="401"}'] == "1"
    assert values['nsa_request_seconds_count{route="/v1/chat/completions"}'] == "3"
    assert values["nsa_queue_length"] == "0"
    assert values["nsa_requests_running"] == "1"
    tokens = {
        kind: int(values[f'nsa_tokens_total{{kind="{kind}"}}'])
        for kind in ("read", "reused", "answered")
    }
    assert tokens["read"] > 500
    assert tokens["reused"] > 500  # the second answer comes from the cache
    assert 1 <= tokens["answered"] <= 6
    assert int(values['nsa_cache_bytes{kind="readings"}']) > 0
    assert int(values['nsa_cache_bytes{kind="answers"}']) > 0
    assert values['nsa_cache_bytes{kind="web"}'] == "0"
    form = r"\S+ [A-Z]+ /\S* \d{3} \d+\.\d{3}s read=\d+ reused=\d+ answered=\d+"
    _wait_for(lines, 9)
    assert all(re.fullmatch(form, line) for line in lines)
    assert not any("0.txt" in line or "worker" in line for line in lines)


def _wait_for(lines: list[str], count: int) -> None:
    """Wait until so many requests are logged: a client may have its answer before."""
    for _ in range(3000):
        if len(lines) >= count:
            break
        time.sleep(0.01)
    assert len(lines) == count


def test_no_answer_is_lost_under_cancelled_streams(listen: Callable[..., str]) -> None:
    address = listen()
    lost: list[str] = []
    stop = threading.Event()

    def body(number: int, **more: Any) -> dict[str, Any]:
        messages = [{"role": "user", "content": f"Who wrote report {number}?"}]
        return {"messages": messages, "documents": [f"{number % 2}.txt"], **more}

    def leave() -> None:
        number = 0
        with httpx2.Client(timeout=300) as client:
            while not stop.is_set():
                number += 1
                asked = body(1000 + number, stream=True, max_tokens=200)
                url = f"{address}/v1/chat/completions"
                with client.stream("POST", url, json=asked) as response:
                    next(response.iter_lines(), "")

    def stay(first: int) -> None:
        with httpx2.Client(timeout=300) as client:
            for number in range(first, first + 10):
                response = client.post(f"{address}/v1/chat/completions", json=body(number % 4))
                found = response.json()
                if response.status_code != 200 or not found["choices"][0]["message"]["content"]:
                    lost.append(response.text)

    leavers = [threading.Thread(target=leave) for _ in range(2)]
    stayers = [threading.Thread(target=stay, args=(10 * n,)) for n in range(4)]
    for thread in (*leavers, *stayers):
        thread.start()
    for thread in stayers:
        thread.join()
    stop.set()
    for thread in leavers:
        thread.join()
    assert lost == []


LLM = os.environ.get("NSA_TEST_LLM") or shutil.which("llm")
"""The program `llm`; tests see no variables of nsa, so it is looked up before them."""


@pytest.mark.skipif(LLM is None, reason="the program llm is not installed")
def test_llm(listen: Callable[..., str], tmp_path: Path) -> None:
    address = listen()
    model = httpx2.get(f"{address}/v1/models").json()["data"][0]["id"]
    user = tmp_path / "llm"
    user.mkdir()
    (user / "extra-openai-models.yaml").write_text(
        f"- model_id: tiny\n  model_name: {model}\n  api_base: {address}/v1\n"
        "  supports_schema: true\n"
    )

    def llm(*arguments: str) -> str:
        assert LLM is not None
        found = subprocess.run(
            [LLM, *arguments],
            capture_output=True,
            text=True,
            timeout=300,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "LLM_USER_PATH": str(user), "OPENAI_API_KEY": "none"},
        )
        assert found.returncode == 0, found.stderr
        return found.stdout

    plain = llm("-m", "tiny", "Who wrote it?", "--no-stream")
    assert plain.strip()
    assert llm("-m", "tiny", "Who wrote it?").strip() == plain.strip()
    assert llm("-c", "And when?").strip()
    how = ("-o", "temperature", "0.5", "-o", "seed", "3", "-o", "top_p", "0.9")
    assert llm("-m", "tiny", "-s", "Be brief.", *how, "Who?").strip()
    answer = llm("-m", "tiny", "--schema", json.dumps(SCHEMA), "-o", "max_tokens", "60", "Who?")
    assert set(json.loads(answer)) == {"kind", "count"}


LANGCHAIN = os.environ.get("NSA_TEST_LANGCHAIN")
"""A Python that has `langchain-openai`."""

_LANGCHAIN_PROGRAM = """
import json, sys
from langchain_openai import ChatOpenAI

address, name, schema = sys.argv[1:]
model = ChatOpenAI(model=name, base_url=f"{address}/v1", api_key="none", max_tokens=60)
said = [("system", "Be brief."), ("human", "Who wrote it?")]
plain = model.invoke(said)
streamed = "".join(each.content for each in model.stream(said))
several = [each.content for each in model.batch([said, said])]
shaped = model.with_structured_output(json.loads(schema), method="json_schema").invoke(said)
counted = plain.usage_metadata["output_tokens"]
print(json.dumps([plain.content, streamed, several, shaped, counted]))
"""


@pytest.mark.skipif(LANGCHAIN is None, reason="NSA_TEST_LANGCHAIN names no Python")
def test_langchain(listen: Callable[..., str], tmp_path: Path) -> None:
    address = listen()
    model = httpx2.get(f"{address}/v1/models").json()["data"][0]["id"]
    program = tmp_path / "client.py"
    program.write_text(_LANGCHAIN_PROGRAM)
    assert LANGCHAIN is not None
    found = subprocess.run(
        [LANGCHAIN, str(program), address, model, json.dumps({"title": "Report", **SCHEMA})],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert found.returncode == 0, found.stderr
    plain, streamed, several, shaped, counted = json.loads(found.stdout)
    assert plain
    assert [streamed, *several] == [plain] * 3
    assert set(shaped) == {"kind", "count"}
    assert counted > 0


def test_chats_as_open_webui_sends_them(listen: Callable[..., str]) -> None:
    """A list of models, a chat whose stream ends with its usage, and a title.

    Source: `routers/openai.py` and `routers/tasks.py` of Open WebUI.
    """
    headers = {
        "Authorization": "Bearer none",
        "X-OpenWebUI-User-Name": "Ada",
        "X-OpenWebUI-User-Id": "1",
        "X-OpenWebUI-User-Role": "admin",
    }
    with httpx2.Client(base_url=listen(), headers=headers, timeout=60) as client:
        found = client.get("/v1/models")
        assert found.status_code == 200
        [model, *_] = [each["id"] for each in found.json()["data"]]
        said = [{"role": "system", "content": "Be brief."}, *WHO]
        body: dict[str, Any] = {"model": model, "messages": said, "stream": True}
        chat = {**body, "stream_options": {"include_usage": True}, "temperature": 0.8, "user": "1"}
        with client.stream("POST", "/v1/chat/completions", json=chat) as stream:
            assert stream.status_code == 200
            assert stream.headers["content-type"].startswith("text/event-stream")
            data = [line[6:] for line in stream.iter_lines() if line.startswith("data: ")]
        assert data.pop() == "[DONE]"
        chunks = [json.loads(each) for each in data]
        assert chunks[-1]["usage"]["completion_tokens"] > 0
        deltas = [choice["delta"] for each in chunks for choice in each["choices"]]
        assert "".join(each.get("content") or "" for each in deltas)
        title = {**body, "stream": False, "max_completion_tokens": 1000, "messages": WHO}
        found = client.post("/v1/chat/completions", json=title)
        assert found.status_code == 200
        assert found.json()["choices"][0]["message"]["content"]

"""Parsed requests, and refused ones."""

from __future__ import annotations

from typing import Any

import pytest

from nsa_cli.serve.content import LONG
from nsa_cli.serve.fields import RequestError
from nsa_cli.serve.jobs import MOST_TOKENS
from nsa_cli.serve.requests import (
    documents_of,
    only_documents,
    parse_chat_request,
    parse_json,
    parse_response_request,
)

TEXT = "The harbour was closed.\n\n" + "A line of the log.\n" * (LONG // 15)


def read(*messages: tuple[str, Any], **more: Any) -> Any:
    said = [{"role": role, "content": content} for role, content in messages]
    return parse_chat_request({"messages": said, **more}, model="small", max_tokens=256)


def texts(found: Any) -> list[str]:
    return [source.data.decode() for source in found.texts]


def test_a_plain_question() -> None:
    found = read(("user", " Who wrote it? "), documents=["a.pdf", "b/c.txt", "a.pdf"])
    assert found.asked.question == "Who wrote it?"
    assert found.documents == ("a.pdf", "b/c.txt")
    assert (found.stream, found.usage, found.progress, found.texts) == (False, False, False, ())
    assert (found.asked.max_tokens, found.asked.temperature, found.asked.seed) == (256, 0.0, None)


def test_generation_options() -> None:
    found = read(
        ("user", "Who?"),
        model="small",
        max_completion_tokens=7,
        temperature=0.5,
        seed=3,
        stream=True,
        stream_options={"include_usage": True, "include_progress": True},
        user="somebody",
        n=1,
        top_p=1.0,
        stop=None,
        response_format={"type": "text"},
    )
    assert (found.asked.max_tokens, found.asked.temperature, found.asked.seed) == (7, 0.5, 3)
    assert (found.stream, found.usage, found.progress) == (True, True, True)
    assert read(("user", "Who?"), max_tokens=10**6).asked.max_tokens == MOST_TOKENS


def test_a_conversation() -> None:
    found = read(
        ("system", "Be brief."),
        ("user", "Who wrote it?"),
        ("assistant", "The worker."),
        ("developer", "Answer in Latin."),
        ("user", "never answered"),
        ("user", [{"type": "text", "text": "And"}, {"type": "text", "text": "when?"}]),
    )
    assert found.asked.turns == (("Who wrote it?", "The worker."),)
    assert found.asked.instructions == "Be brief.\nAnswer in Latin."
    assert found.asked.question == "And\n\nwhen?"


@pytest.mark.parametrize(
    ("messages", "question"),
    [
        ([("system", TEXT), ("user", "Who?")], "Who?"),
        ([("user", TEXT), ("user", "Who?")], "Who?"),
        ([("user", TEXT + "\n\nWho?")], "Who?"),
        ([("user", "Who?\n\n" + TEXT)], "Who?"),
        ([("user", TEXT + "\n\nTell who it was.\n")], "Tell who it was."),
    ],
)
def test_a_long_message_is_a_document(messages: list[tuple[str, str]], question: str) -> None:
    found = read(*messages)
    assert found.asked.question == question
    assert [text.strip() for text in texts(found)] == [TEXT.strip()]
    assert found.asked.instructions == ""


def test_the_document_of_a_conversation_is_stable() -> None:
    first = read(("user", TEXT + "\n\nWho?"))
    later = read(("user", TEXT + "\n\nWho?"), ("assistant", "A worker."), ("user", "And when?"))
    assert later.texts == first.texts
    assert later.asked.turns == (("Who?", "A worker."),)
    two = read(("user", TEXT), ("user", TEXT + "more\n\n"), ("user", "Who?"))
    assert [source.name for source in two.texts] == ["message 1", "message 2"]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": "Who?"}, "messages"),
        ({"messages": [{"role": "user", "content": "  "}]}, "messages"),
        ({"messages": [{"role": "assistant", "content": "Who?"}]}, "messages"),
        (
            {"messages": [{"role": "user", "content": "word " * LONG}], "documents": ["a.txt"]},
            "messages",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "file", "file": {}}]}]},
            "messages[0]",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "input_file", "file_data": "?"}]}]},
            "messages[0]",
        ),
        (
            {
                "messages": [
                    {"role": "user", "content": [{"type": "input_file", "file_url": "x.pdf"}]}
                ]
            },
            "messages[0]",
        ),
        ({"messages": ["Who?"]}, "messages[0]"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0]"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0]"),
        ({"model": "gpt-5"}, "model"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"temperature": 3}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"seed": 1.5}, "seed"),
        ({"stream": "yes"}, "stream"),
        ({"n": 5}, "n"),
        ({"n": 0}, "n"),
        ({"n": "2"}, "n"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": {"type": "function", "function": {"name": "f"}}}, "tool_choice"),
        ({"logit_bias": {"5": 100}}, "logit_bias"),
        ({"modalities": ["audio"]}, "modalities"),
        ({"top_p": 1.5}, "top_p"),
        ({"response_format": {"type": "xml"}}, "response_format"),
        ({"response_format": {"type": "json_schema"}}, "response_format"),
        ({"response_format": "json"}, "response_format"),
        ({"stop": [""]}, "stop"),
        ({"stop": list("abcde")}, "stop"),
        ({"stop": 5}, "stop"),
        ({"logprobs": 3}, "logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"documents": [1]}, "documents"),
        ({"documents": [""]}, "documents"),
        ({"documents": {"a": 1}}, "documents"),
        ({"documents": [str(number) for number in range(101)]}, "documents"),
    ],
)
def test_invalid_requests(body: dict[str, Any], param: str) -> None:
    sound = {"messages": [{"role": "user", "content": "Who?"}]}
    with pytest.raises(RequestError) as caught:
        parse_chat_request({**sound, **body}, model="small", max_tokens=256)
    assert caught.value.param == param


@pytest.mark.parametrize("body", [b"", b"[1]", b"\xff", b'{"a":', b"[" * 100_000])
def test_bodies_without_a_json_object(body: bytes) -> None:
    with pytest.raises(RequestError):
        parse_json(body)


def test_documents_without_a_question() -> None:
    assert only_documents({"documents": "a.pdf"}) == documents_of({"documents": ["a.pdf"]})
    for body in ({}, {"documents": []}, {"documents": ["a"], "messages": []}):
        with pytest.raises(RequestError):
            only_documents(body)


def test_a_clients_usual_fields() -> None:
    schema = {"type": "object", "properties": {"name": {"type": "string"}}}
    found = read(
        ("user", "Who?"),
        stop="\n",
        top_p=0.5,
        n=4,
        logprobs=True,
        top_logprobs=3,
        response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}},
        stream_options={"include_usage": True},
        tools=[],
        metadata={"chat": "1"},
    )
    asked = found.asked
    assert (asked.stop, asked.top_p, asked.choices, asked.logprobs) == (("\n",), 0.5, 4, 3)
    assert asked.schema == schema
    assert found.warnings == ()
    anything = read(("user", "Who?"), response_format={"type": "json_object"})
    assert anything.asked.schema == {"type": "object"}


def test_unknown_fields_are_ignored_with_a_warning() -> None:
    tool = {"type": "function", "function": {"name": "f"}}
    found = read(("user", "Who?"), best_of=3, tools=[tool], frequency_penalty=0.5, user="x")
    assert found.warnings == (
        "best_of is not supported and was ignored",
        "tools is not supported and was ignored",
        "frequency_penalty is not supported and was ignored",
    )


def test_files_in_messages() -> None:
    parts = [
        {"type": "text", "text": "Who wrote it?"},
        {"type": "file", "file": {"file_id": "file-1"}},
        {
            "type": "file",
            "file": {"filename": "../a.txt", "file_data": "data:text/plain;base64,SGk="},
        },
        {"type": "input_file", "filename": "b.txt", "file_data": "SGk="},
        {"type": "input_file", "file_url": "https://example.org/c.pdf"},
    ]
    found = read(("user", parts))
    assert found.documents == ("file-1", "https://example.org/c.pdf")
    assert [(each.name, each.data) for each in found.texts] == [("a.txt", b"Hi"), ("b.txt", b"Hi")]
    assert found.asked.question == "Who wrote it?"


def test_a_long_task_without_a_question_is_plain_chat() -> None:
    task = "### Task: name the chat. " + "A line of it. " * LONG
    found = read(("user", task))
    assert (found.texts, found.documents) == ((), ())
    assert found.asked.said == (("user", task),)


def test_responses() -> None:
    found = parse_response_request(
        {
            "input": [
                {"role": "user", "content": [{"type": "input_text", "text": "Who?"}]},
                {"type": "reasoning", "summary": []},
                {
                    "type": "message",
                    "role": "assistant",
                    "content": [{"type": "output_text", "text": "A worker."}],
                },
                {
                    "role": "user",
                    "content": [
                        {"type": "input_file", "file_id": "file-1"},
                        {"type": "input_text", "text": "And when?"},
                    ],
                },
            ],
            "instructions": "Be brief.",
            "max_output_tokens": 9,
            "text": {"format": {"type": "json_object"}},
            "include": ["message.output_text.logprobs"],
            "reasoning": {"effort": "low"},
        },
        model="small",
        max_tokens=256,
    )
    asked = found.asked
    assert (asked.question, asked.turns) == ("And when?", (("Who?", "A worker."),))
    assert (asked.instructions, asked.max_tokens) == ("Be brief.", 9)
    assert (asked.schema, asked.logprobs) == ({"type": "object"}, 0)
    assert found.documents == ("file-1",)
    assert found.warnings == ("reasoning is not supported and was ignored",)
    assert found.echo["instructions"] == "Be brief."


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"input": []}, "input"),
        ({"input": ""}, "input"),
        ({"input": [{"type": "function_call_output"}]}, "input[0]"),
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"text": {"format": {"type": "grammar"}}}, "text.format"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
    ],
)
def test_refused_responses(body: dict[str, Any], param: str) -> None:
    with pytest.raises(RequestError) as caught:
        parse_response_request({"input": "Who?", **body}, model="small", max_tokens=256)
    assert caught.value.param == param

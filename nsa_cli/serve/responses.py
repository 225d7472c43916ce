"""OpenAI's Responses API: bodies and streamed events."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from nsa_cli.events import AnswerFinished, AnswerText, Progress, Stage, TokenLogprob
from nsa_cli.serve.formats import Choice, error_body, logprob_list, usage
from nsa_cli.serve.jobs import Failed
from nsa_cli.serve.metrics import TokenCounts
from nsa_cli.serve.sse import JobEvents, comment


@dataclass(slots=True, kw_only=True)
class ResponseReply:
    """Builds the JSON bodies of one response.

    Attributes:
        model: Name of the model.
        echo: Fields of the request that the response repeats.
        warnings: Fields of the request that were ignored.
        files: Ids of uploads by file name, for annotations.
        id: Id of the response.
        item: Id of its message.
        created: Time in seconds since 1970.
    """

    model: str
    echo: Mapping[str, Any]
    warnings: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    id: str = field(default_factory=lambda: f"resp_{secrets.token_hex(24)}")
    item: str = field(default_factory=lambda: f"msg_{secrets.token_hex(24)}")
    created: int = field(default_factory=lambda: int(time.time()))
    _sent: int = 0

    def body(self, choice: Choice | None = None, error: Mapping[str, Any] | None = None) -> Any:
        """The response: in progress, finished with an answer, or failed with an error."""
        status = "in_progress" if choice is None else self._status(choice.finished)
        body = {
            "id": self.id,
            "object": "response",
            "created_at": self.created,
            "status": "failed" if error else status,
            "error": error,
            "incomplete_details": (
                {"reason": "max_output_tokens"} if status == "incomplete" else None
            ),
            "model": self.model,
            "output": [] if choice is None else [self.message(choice)],
            "parallel_tool_calls": False,
            "previous_response_id": None,
            "store": False,
            "tool_choice": "none",
            "tools": [],
            "truncation": "disabled",
            "usage": None if choice is None else _usage(choice.finished),
            **self.echo,
        }
        return body | ({"warnings": list(self.warnings)} if self.warnings else {})

    def message(self, choice: Choice | None) -> dict[str, Any]:
        """The message; None for the beginning of one."""
        return {
            "id": self.item,
            "type": "message",
            "role": "assistant",
            "status": "in_progress" if choice is None else self._status(choice.finished),
            "content": [] if choice is None else [self.part(choice)],
        }

    def part(self, choice: Choice | None) -> dict[str, Any]:
        """The text of the message, with the citations as annotations."""
        text = "" if choice is None else choice.finished.answer
        part: dict[str, Any] = {"type": "output_text", "text": text, "annotations": []}
        if choice is None:
            return {**part, "logprobs": []}
        found = choice.finished
        part["annotations"] = [
            {
                **asdict(citation),
                "type": "file_citation",
                "file_id": self.files.get(citation.source, ""),
                "filename": citation.source,
                "index": len(text),
            }
            for citation in found.citations
        ]
        part["logprobs"] = logprob_list(choice.tokens)
        return part | ({"warnings": list(found.warnings)} if found.warnings else {})

    def event(self, kind: str, **fields: Any) -> str:
        """A streamed event."""
        body = {"type": kind, "sequence_number": self._sent, **fields}
        self._sent += 1
        return f"event: {kind}\ndata: {json.dumps(body)}\n\n"

    def _status(self, finished: AnswerFinished) -> str:
        return "incomplete" if finished.finish_reason == "length" else "completed"


async def response_events(
    job: JobEvents, reply: ResponseReply, spent: TokenCounts
) -> AsyncIterator[str]:
    """The events of a streamed response."""
    place = {"item_id": reply.item, "output_index": 0, "content_index": 0}
    yield reply.event("response.created", response=reply.body())
    yield reply.event("response.in_progress", response=reply.body())
    begun, tokens = False, list[TokenLogprob]()
    async for found in job.events():
        if not begun and isinstance(found, AnswerText | AnswerFinished):
            begun = True
            item, part = reply.message(None), reply.part(None)
            yield reply.event("response.output_item.added", output_index=0, item=item)
            yield reply.event("response.content_part.added", **place, part=part)
        match found:
            case AnswerText():
                tokens += found.tokens
                yield reply.event(
                    "response.output_text.delta",
                    **place,
                    delta=found.text,
                    logprobs=logprob_list(found.tokens),
                )
            case AnswerFinished():
                spent.add([found])
                for event in _ending(reply, Choice(finished=found, tokens=tuple(tokens)), place):
                    yield event
            case Failed():
                error = error_body(found.error)["error"]
                failed = {"code": "server_error", "message": error["message"]}
                yield reply.event("response.failed", response=reply.body(error=failed))
            case Progress() | Stage():
                yield comment(found)
            case None:
                yield ": waiting\n\n"


def _ending(reply: ResponseReply, choice: Choice, place: Mapping[str, Any]) -> Sequence[str]:
    """The events after the last piece of the text."""
    part, body = reply.part(choice), reply.body(choice)
    events = [
        reply.event(
            "response.output_text.annotation.added",
            **place,
            annotation_index=number,
            annotation=annotation,
        )
        for number, annotation in enumerate(part["annotations"])
    ]
    events += [
        reply.event(
            "response.output_text.done", **place, text=part["text"], logprobs=part["logprobs"]
        ),
        reply.event("response.content_part.done", **place, part=part),
        reply.event("response.output_item.done", output_index=0, item=reply.message(choice)),
        reply.event(f"response.{body['status']}", response=body),
    ]
    return events


def _usage(finished: AnswerFinished) -> dict[str, Any]:
    """Token counts, by the names of the Responses API."""
    found = usage([finished])
    return {
        "input_tokens": found["prompt_tokens"],
        "input_tokens_details": found["prompt_tokens_details"],
        "output_tokens": found["completion_tokens"],
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": found["total_tokens"],
    }

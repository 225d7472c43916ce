"""Answers as JSON bodies for clients."""

from __future__ import annotations

from dataclasses import replace

from nsa_cli.events import AnswerFinished
from nsa_cli.results import Stats
from nsa_cli.serve.formats import Choice, Reply

STATS = Stats(
    document_tokens=10,
    reused_tokens=0,
    question_tokens=5,
    answer_tokens=2,
    load_seconds=0.0,
    prefill_seconds=0.0,
    time_to_first_token_seconds=0.0,
    decode_tokens_per_second=0.0,
    peak_memory_bytes=0,
    cache_bytes=0,
    cache_bytes_touched=0,
)
FINISHED = AnswerFinished(answer="900", citations=(), model="m", finish_reason="stop", stats=STATS)


def test_a_message_has_the_warnings_of_the_document() -> None:
    [choice] = Reply(model="m").complete([Choice(finished=FINISHED)])["choices"]
    assert "warnings" not in choice["message"]
    lossy = replace(FINISHED, warnings=("page 3 has hidden text",))
    [choice] = Reply(model="m").complete([Choice(finished=lossy)])["choices"]
    assert choice["message"]["warnings"] == ["page 3 has hidden text"]

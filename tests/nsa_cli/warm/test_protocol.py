"""Events and errors travel as JSON and come back equal."""

from __future__ import annotations

import json

import pytest

from nsa_cli.events import LOADING, AnswerFinished, AnswerText, BatchProgress, Event, Note, Progress
from nsa_cli.results import CellCitation, Citation, Computation, MatchInContext, Stats
from nsa_cli.warm.protocol import (
    LENGTH_BYTES,
    MOST_BYTES,
    Found,
    ServerError,
    error_body,
    event_body,
    event_of,
    framed,
    length,
    message,
)
from nsa_models.errors import DoesNotFitError

PLACE = {
    "source": "caf\udce9.txt",  # a file name that is not UTF-8
    "page": 3,
    "page_label": "iii",
    "line_start": 4,
    "line_end": 5,
    "unit": "page",
    "quote": "“840 €”",
    "score": 0.25,
}
STATS = Stats(
    document_tokens=9,
    reused_tokens=8,
    question_tokens=7,
    answer_tokens=6,
    load_seconds=5.5,
    prefill_seconds=4.5,
    time_to_first_token_seconds=3.5,
    decode_tokens_per_second=2.5,
    peak_memory_bytes=1,
    cache_bytes=2,
    cache_bytes_touched=3,
    left_out_lines=4,
)
COMPUTED = Computation(
    table="", operation="expression", description="1 + 1", value=2.0, rows=0, refused=None, unit="%"
)
CITATION = Citation(**PLACE, verified=True)
CELL = CellCitation(**PLACE, verified=False, column="Total", cell=None)
ANSWER = AnswerFinished(
    answer="Two.",
    citations=(CITATION, CELL),
    model="tiny",
    attention={"reading": {"select_count": 16}, "answering": {"select_count": None}},
    finish_reason="stop",
    stats=STATS,
    warnings=("1 page is scanned",),
    computation=COMPUTED,
)


@pytest.mark.parametrize(
    "event",
    [
        Note(text="1 link left out: a\nb"),
        LOADING,
        Progress(task="Reading a.txt", done=1, total=2, unit="tokens", stage="passages"),
        AnswerText(text="Tw\udce9"),
        ANSWER,
        Found(matches=(MatchInContext(**PLACE, before="a", after="b"),)),
        Found(matches=()),
    ],
)
def test_events_come_back_equal(event: Event) -> None:
    data = message(event_body(event))
    assert length(data[:LENGTH_BYTES]) == len(data) - LENGTH_BYTES
    assert event_of(json.loads(data[LENGTH_BYTES:])) == event


def test_errors_keep_their_words_and_exit_code() -> None:
    error = DoesNotFitError("too long", hint="ask less", code="too_long")
    with pytest.raises(ServerError) as found:
        event_of(error_body(error))
    again = found.value
    assert (again.message, again.hint, again.code) == ("too long", "ask less", "too_long")
    assert again.exit_code == 4


@pytest.mark.parametrize(
    "body",
    [
        {"kind": "Oracle"},
        {"text": "a"},
        {"kind": "Note"},
        {"kind": "Note", "text": "a", "color": "red"},
        {"kind": "Found", "matches": [{"quote": "a"}]},
    ],
)
def test_other_objects_are_no_events(body: dict[str, object]) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        event_of(body)


def test_events_of_other_commands_are_not_sent() -> None:
    with pytest.raises(ValueError, match="BatchProgress is not sent"):
        event_body(BatchProgress(done=1, total=2, name="a"))


def test_a_length_has_a_limit() -> None:
    assert framed(b"ab")[0] == 0
    assert length(MOST_BYTES.to_bytes(LENGTH_BYTES, "big")) == MOST_BYTES
    with pytest.raises(ValueError, match="a message of"):
        length((MOST_BYTES + 1).to_bytes(LENGTH_BYTES, "big"))

"""`--follow` asks again about a growing text and prefills only its new part."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import nsa_cli.kv_store.prefill
from nsa_cli.answering.follow import follow
from nsa_cli.config.options import Options
from nsa_cli.events import AnswerFinished, Event, Note

Run = Callable[..., tuple[int, str, str]]


class Time:
    """The waiting time of `follow`: one step per call, then Ctrl-C."""

    def __init__(self, *steps: Callable[[], Any]) -> None:
        self.steps = list(steps)

    def __call__(self) -> None:
        if not self.steps:
            raise KeyboardInterrupt
        self.steps.pop(0)()


def grow(path: Path, text: str) -> Callable[[], None]:
    def act() -> None:
        with path.open("a") as file:
            file.write(text)

    return act


def rest() -> None:
    """Do nothing."""


@pytest.fixture
def watch(tiny_model: Path) -> Callable[..., tuple[list[list[AnswerFinished]], list[str]]]:
    """A function that follows a path until the steps end: answers of each round, notes."""

    def run(
        path: Path, time: Time, *questions: str
    ) -> tuple[list[list[AnswerFinished]], list[str]]:
        events: list[Event] = []
        rounds: list[list[AnswerFinished]] = []
        options = Options(model=str(tiny_model), max_tokens=4, cache_limit_bytes=10**9)
        found = follow([str(path)], questions or ["Who?"], options, events.append, time)
        with suppress(KeyboardInterrupt):
            rounds.extend(list(answers) for answers in found)
        return rounds, [event.text for event in events if isinstance(event, Note)]

    return run


def test_only_appended_text_is_prefilled(
    watch: Any, text_file: Path, prose: Any, asker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    real = nsa_cli.kv_store.prefill.prefill

    def counted(model: Any, ids: Any, cache: Any, **more: Any) -> Any:
        read.append(len(ids) - cache.length)
        yield from real(model, ids, cache, **more)

    monkeypatch.setattr(nsa_cli.kv_store.prefill, "prefill", counted)
    more = prose(5, seed=3)
    time = Time(grow(text_file, more), rest, rest, rest, grow(text_file, more), rest, rest)
    rounds, notes = watch(text_file, time, "Who?", "When?")
    assert [len(answers) for answers in rounds] == [2, 2, 2]
    assert notes == [f"{text_file} has changed; asking again"] * 2
    lengths = [answers[0].stats.document_tokens for answers in rounds]
    assert lengths[0] < lengths[1] < lengths[2]
    assert read[0] == lengths[0]
    for tokens, before, after in zip(read[1:], lengths[:-1], lengths[1:], strict=True):
        assert tokens < after - before + 2 * 64
    alone = asker(text_file, "Who?", max_tokens=4, store=False)
    assert rounds[-1][0].answer == alone.answer


def test_earlier_kv_caches_of_follow_are_removed(
    watch: Any, text_file: Path, prose: Any, asker: Any
) -> None:
    asker(text_file)  # stored earlier, so it stays
    steps = [grow(text_file, prose(2)), rest, rest] * 3
    rounds, _ = watch(text_file, Time(*steps))
    assert len(rounds) == 4
    assert len(asker.readings) == 2


def test_questions_wait_until_the_text_stops_changing(watch: Any, text_file: Path) -> None:
    line = grow(text_file, "A line.\n")
    rounds, _ = watch(text_file, Time(line, line, line, line, rest, rest))
    assert len(rounds) == 2


def test_a_text_that_never_stops_changing_is_asked_about(watch: Any, text_file: Path) -> None:
    rounds, _ = watch(text_file, Time(*[grow(text_file, "A line.\n")] * 25))
    assert len(rounds) == 3


def test_a_rotated_file(watch: Any, text_file: Path, prose: Any) -> None:
    rotated = text_file.with_name("log.txt.1")
    steps = [
        lambda: text_file.rename(rotated),
        rest,
        lambda: text_file.write_text(prose(3, seed=9)),
        rest,
        rest,
    ]
    rounds, notes = watch(text_file, Time(*steps))
    assert len(rounds) == 2
    assert rounds[1][0].stats.document_tokens < rounds[0][0].stats.document_tokens
    assert notes == [f"{text_file} has changed; asking again"]


def test_a_new_modification_time_is_not_a_change(watch: Any, text_file: Path) -> None:
    rounds, notes = watch(text_file, Time(lambda: os.utime(text_file, (1, 1)), rest, rest, rest))
    assert (len(rounds), notes) == (1, [])


def test_a_new_file_in_a_folder(watch: Any, tmp_path: Path, prose: Any) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    (folder / "a.log").write_text(prose(5))
    rounds, _ = watch(folder, Time(lambda: (folder / "b.log").write_text(prose(5)), rest, rest))
    assert len(rounds) == 2


def wait_for_line(stream: Any, part: str) -> None:
    """Read lines up to one with a text; it fails if the program ends before."""
    while part not in (line := stream.readline()):
        assert line, f"no line has {part!r}"


def test_at_the_command_line(start_nsa: Any, text_file: Path, tiny_model: Path, nsa: Run) -> None:
    words = ("ask", str(text_file), "Who wrote it?", "--follow")
    process = start_nsa(*words, "--model", str(tiny_model), "--max-tokens", "4")
    wait_for_line(process.stdout, "[1] ")
    grow(text_file, "The captain of line 7 wrote report 11.\n")()
    wait_for_line(process.stderr, "has changed; asking again")
    wait_for_line(process.stdout, "[1] ")
    process.send_signal(2)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
    for wrong in (("-", "Who?"), (str(text_file), "Who?", "--no-store")):
        assert nsa("ask", *wrong, "--follow")[0] == 2

"""The scheduler shares prefills, stops them without clients, and serves others in between."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import nsa_cli.kv_store.prefill
from nsa_cli.answering.chat import ROOM
from nsa_cli.config.options import Options
from nsa_cli.context.tokens import ANSWER_ROOM
from nsa_cli.documents.sources import Source
from nsa_cli.events import LOADING, AnswerFinished, AnswerText, Event, Progress, Stage
from nsa_cli.serve import jobs
from nsa_cli.serve import scheduler as working
from nsa_cli.serve.documents import ParsedDocuments
from nsa_cli.serve.jobs import MOST_TOKENS, Asked, Failed, Job, ReadThrough
from nsa_cli.serve.scheduler import Scheduler
from nsa_models.errors import NsaError

LAST = (AnswerFinished, ReadThrough, Failed)


class Client:
    """A client that waits and records its events."""

    def __init__(self, text: str, question: str | None = "Who wrote it?", **asked: Any) -> None:
        self.events: queue.Queue[Event] = queue.Queue()
        self.seen: list[Event] = []
        self.job = Job(
            sources=[Source(name="log.txt", data=text.encode(), named=True)],
            name="log.txt",
            asked=Asked(question=question, **{"max_tokens": 6, **asked}),
            deliver=self.events.put,
        )

    def last(self) -> Event:
        """Wait for the last event; `seen` has the others."""
        while not isinstance(found := self.events.get(timeout=120), LAST):
            self.seen.append(found)
        return found

    def finished(self) -> AnswerFinished:
        """Wait for the answer."""
        last = self.last()
        assert isinstance(last, AnswerFinished), last
        return last


@pytest.fixture
def worker(tiny_model: Path) -> Iterator[Scheduler]:
    """A scheduler with the tiny model, not started yet."""
    options = Options(model=str(tiny_model), max_tokens=6, cache_limit_bytes=10**8)
    found = Scheduler(options, [].append, ParsedDocuments())
    yield found
    found.close()
    found.join(60)


@pytest.fixture
def chunks(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Length and prefilled tokens after each chunk."""
    read: list[tuple[int, int]] = []
    real = nsa_cli.kv_store.prefill.prefill

    def spied(model: Any, ids: Any, cache: Any, **more: Any) -> Iterator[int]:
        for done in real(model, ids, cache, **more):
            read.append((len(ids), done))
            yield done

    monkeypatch.setattr(nsa_cli.kv_store.prefill, "prefill", spied)
    return read


def after_first_chunk(monkeypatch: pytest.MonkeyPatch, act: Callable[[], None]) -> None:
    """Call `act` after the first chunk of the first prefill."""
    real = nsa_cli.kv_store.prefill.prefill
    acts = [act]

    def spied(*arguments: Any, **more: Any) -> Iterator[int]:
        for done in real(*arguments, **more):
            while acts:
                acts.pop()()
            yield done

    monkeypatch.setattr(nsa_cli.kv_store.prefill, "prefill", spied)


def test_the_answer_equals_ask(worker: Scheduler, asker: Any, tmp_path: Path, prose: Any) -> None:
    (tmp_path / "log.txt").write_text(prose(150))
    client = Client(prose(150))
    worker.submit(client.job)
    worker.start()
    found = client.finished()
    said = "".join(event.text for event in client.seen if isinstance(event, AnswerText))
    assert said.rstrip() == found.answer
    told = asker(tmp_path / "log.txt", "Who wrote it?", store=False)
    assert found.answer == told.answer
    assert [c.quote for c in found.citations] == [c.quote for c in told.citations]
    assert {c.source for c in found.citations} == {"log.txt"}
    assert found.stats.question_tokens == told.stats.question_tokens


def _submit(worker: Scheduler, text: str) -> Client:
    client = Client(text)
    worker.submit(client.job)
    return client


def test_a_text_is_prefilled_once_for_all_clients(
    worker: Scheduler, chunks: list[tuple[int, int]], prose: Any
) -> None:
    clients = [Client(prose(150), f"Who wrote report {number}?") for number in range(4)]
    for client in clients:
        worker.submit(client.job)
    worker.start()
    answers = [client.finished() for client in clients]
    length = answers[0].stats.document_tokens
    assert chunks == [(length, 1024), (length, 2048), (length, length)]
    progress = [
        [e for e in client.seen if isinstance(e, Progress) and e.stage == "reading"]
        for client in clients
    ]
    assert progress[0]
    assert all(events == progress[0] for events in progress)  # all clients saw the progress


def test_a_prefill_without_clients_is_stopped_and_resumed(
    worker: Scheduler,
    chunks: list[tuple[int, int]],
    prose: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    leaving = Client(prose(150))
    after_first_chunk(monkeypatch, leaving.job.stop)
    worker.submit(leaving.job)
    other = Client("A short text about a harbour.\n")
    worker.submit(other.job)
    worker.start()
    other.finished()
    assert [done for length, done in chunks if length > 1024] == [1024]
    assert not any(isinstance(event, LAST) for event in leaving.seen)
    back = Client(prose(150))
    worker.submit(back.job)
    assert back.finished().stats.reused_tokens == 1024
    assert [done for length, done in chunks if length > 1024][:2] == [1024, 2048]


def test_a_prefill_continues_for_another_client(
    worker: Scheduler,
    chunks: list[tuple[int, int]],
    prose: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    leaving, staying = Client(prose(150)), Client(prose(150), "And when?")
    after_first_chunk(monkeypatch, leaving.job.stop)
    for client in (leaving, staying):
        worker.submit(client.job)
    worker.start()
    length = staying.finished().stats.document_tokens
    assert chunks == [(length, 1024), (length, 2048), (length, length)]
    seen = [leaving.events.get() for _ in range(leaving.events.qsize())]
    assert all(isinstance(event, Stage | Progress) for event in seen)
    assert max(event.done for event in seen if isinstance(event, Progress)) < 1024  # none later


def test_a_prefilled_text_does_not_wait_for_another_prefill(
    worker: Scheduler, prose: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    known = Client(prose(60, seed=1))
    worker.submit(known.job)
    worker.start()
    known.finished()
    quick, long = Client(prose(60, seed=1), "And when?"), Client(prose(150))
    for name, client in (("quick", quick), ("long", long)):

        def deliver(event: Event, name: str = name, put: Any = client.job.deliver) -> None:
            if isinstance(event, LAST):
                order.append(name)
            put(event)

        client.job.deliver = deliver
    after_first_chunk(monkeypatch, lambda: worker.submit(quick.job))
    worker.submit(long.job)
    slow, fast = long.finished(), quick.finished()
    assert order == ["quick", "long"]
    assert fast.stats.document_tokens < slow.stats.document_tokens
    alone = Client(prose(150), "Who wrote it?", instructions="Be brief.")
    worker.submit(alone.job)
    assert alone.finished().stats.reused_tokens == slow.stats.document_tokens


def test_questions_about_the_open_text_come_first_within_a_limit(
    worker: Scheduler, prose: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(working, "_MOST_IN_A_ROW", 3)
    order: list[str] = []
    clients = []
    for name in "abaaaab":
        client = Client(prose(3, seed=ord(name)), f"Who wrote report {len(clients)}?")

        def deliver(event: Event, name: str = name, put: Any = client.job.deliver) -> None:
            if isinstance(event, LAST):
                order.append(name)
            put(event)

        client.job.deliver = deliver
        clients.append(client)
        worker.submit(client.job)
    worker.start()
    for client in clients:
        client.finished()
    # three, then one before the switch, both about the other text, then the rest
    assert "".join(order) == "aaaabba"


def test_the_model_is_loaded_before_the_first_request(worker: Scheduler) -> None:
    worker.start(loads=True)
    first = Client("A text.\n")
    worker.submit(first.job)
    first.finished()
    assert worker.engine.context is not None
    stages = [event for event in first.seen if isinstance(event, Stage)]
    assert stages.count(LOADING) <= 1
    second = Client("A text.\n", "Who?")
    worker.submit(second.job)
    second.finished()
    assert LOADING not in second.seen


def test_a_client_that_comes_while_the_model_loads_sees_it(
    worker: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    come, client = threading.Event(), Client("A text.\n")
    loaded: list[object] = []

    def slow(engine: object) -> None:
        come.wait(60)
        loaded.append(engine)

    monkeypatch.setattr(working, "warm_up", slow)
    worker.start(loads=True)
    worker.submit(client.job)
    assert client.events.get(timeout=60) == LOADING
    come.set()
    client.finished()
    assert loaded == [worker.engine]


def test_a_model_that_cannot_be_loaded_at_the_start_is_told_to_the_first_client(
    worker: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise NsaError("no memory", code="memory")

    monkeypatch.setattr(type(worker.engine), "load", refuse)
    client = Client("A text.\n")
    worker.start(loads=True)
    worker.submit(client.job)
    failed = client.last()
    assert isinstance(failed, Failed)
    assert failed.error.code == "memory"


def test_failures_do_not_affect_other_jobs(
    worker: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = ("a word " * 200_000, "A text.\n", "Another text.\n")
    long, broken, sound = (Client(text) for text in texts)
    real = working.Scheduler._open

    def opened(self: Scheduler, job: Job) -> Any:
        if job is broken.job:
            raise ZeroDivisionError("by zero")
        return real(self, job)

    monkeypatch.setattr(working.Scheduler, "_open", opened)
    for client in (long, broken, sound):
        worker.submit(client.job)
    worker.start()
    failed = long.last()
    assert isinstance(failed, Failed)
    assert failed.error.code == "does_not_fit"
    failed = broken.last()
    assert isinstance(failed, Failed)
    assert (failed.error.code, failed.error.message) == ("internal", "ZeroDivisionError: by zero")
    sound.finished()


def test_each_job_has_separate_options(worker: Scheduler, prose: Any) -> None:
    text = prose(60)
    few, warm, again = (
        Client(text, max_tokens=2),
        Client(text, temperature=1.0, seed=5, max_tokens=12),
        Client(text, temperature=1.0, seed=5, max_tokens=12),
    )
    heeding = Client(text, instructions="Answer in Latin.")
    taking_up = Client(text, turns=(("Who wrote it?", "The worker."),))
    for client in (few, warm, again, heeding, taking_up):
        worker.submit(client.job)
    worker.start()
    assert few.finished().stats.answer_tokens <= 2
    assert warm.finished().answer == again.finished().answer
    plain = few.seen and _submit(worker, text).finished().stats.question_tokens
    assert heeding.finished().stats.question_tokens > plain
    assert taking_up.finished().stats.question_tokens > plain


def test_prefill_without_a_question(worker: Scheduler, prose: Any) -> None:
    worker.start()
    found = []
    for _ in range(2):
        client = Client(prose(60), None)
        worker.submit(client.job)
        found.append(client.last())
    assert all(isinstance(event, ReadThrough) for event in found)
    answered = _submit(worker, prose(60)).finished()
    assert {event.document_tokens for event in found} == {answered.stats.document_tokens}
    assert answered.stats.answer_tokens > 0


def test_too_many_jobs_are_refused(worker: Scheduler) -> None:
    clients = [Client("A text.\n") for _ in range(working.MOST_WAITING)]
    for client in clients:
        worker.submit(client.job)
    with pytest.raises(jobs.BusyError):
        worker.submit(Client("A text.\n").job)
    clients[3].job.stop()  # a canceled job frees its place
    worker.submit(Client("A text.\n").job)


def test_closing_fails_all_waiting_jobs(worker: Scheduler) -> None:
    clients = [Client("A text.\n") for _ in range(3)]
    for client in clients:
        worker.submit(client.job)
    worker.close()
    for client in clients:
        failed = client.last()
        assert isinstance(failed, Failed)
        assert failed.error.code == "closing"
    with pytest.raises(jobs.ClosingError):
        worker.submit(Client("A text.\n").job)


def test_closing_fails_the_job_that_was_just_taken(
    worker: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = worker._do

    def closes_first(job: Job) -> None:
        worker.close()
        real(job)

    monkeypatch.setattr(worker, "_do", closes_first)
    client = Client("A text.\n")
    worker.submit(client.job)
    worker.start()
    failed = client.last()
    assert isinstance(failed, Failed)
    assert failed.error.code == "closing"


def test_the_longest_answer_fits_a_stored_cache() -> None:
    assert ROOM + MOST_TOKENS == ANSWER_ROOM

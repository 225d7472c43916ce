"""The scheduler: one thread with one model, and the requests that wait for it.

Requests about the same document share its prefill: each sees the progress, and the prefill stops
only when no client waits for it. A request about a document that is already prefilled does not
wait for another document: the scheduler answers it between two prefill chunks.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from nsa_cli.answering.chat import ROOM, with_turns
from nsa_cli.config.options import Options
from nsa_cli.documents import Document
from nsa_cli.documents.sources import Source
from nsa_cli.engine.engine import Engine
from nsa_cli.engine.held import warm_up
from nsa_cli.engine.parse import contents_of
from nsa_cli.events import LOADING, AnswerFinished, AnswerText, Emit, Event, Progress, Stage
from nsa_cli.output.logging import log
from nsa_cli.results import Turn
from nsa_cli.serve.documents import ParsedDocuments
from nsa_cli.serve.jobs import (
    Asked,
    BusyError,
    ChoiceFinished,
    ClosingError,
    Failed,
    Job,
    ReadThrough,
    Work,
)
from nsa_models.errors import NsaError

if TYPE_CHECKING:
    from nsa_cli.engine.generate import GenerationOptions
    from nsa_cli.engine.open_document import OpenDocument

Result = TypeVar("Result")

_MOST_IN_A_ROW = 8
"""Maximum requests about the open document before one about another gets its turn."""

MOST_WAITING = 64
"""Maximum requests that wait; one more is refused."""


class _Cancelled(Exception):  # noqa: N818 - not an error
    """No client waits for the result."""


class Scheduler:
    """The model's thread.

    Args:
        options: How to read and answer.
        emit: Receives events that belong to no request, such as the model's download.
        parsed: Keeps parsed documents.

    Raises:
        ModelError: If the model is not available.
    """

    def __init__(self, options: Options, emit: Emit, parsed: ParsedDocuments) -> None:
        self._options = options
        self._elsewhere = emit
        self._waiting: deque[Job] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._loading = False
        self._last: tuple[bytes, int] = (b"", 0)  # key of the last job, and how many in a row
        self._running: list[Job] = []  # the last one runs; those before it wait for it
        self._prefilled: dict[bytes, tuple[int, int]] = {}  # context and room of documents, by key
        self._engine = _Engine(options, self._emit, parsed)
        self._thread = threading.Thread(target=self._run, name="model", daemon=True)

    @property
    def model(self) -> str:
        """Name of the model."""
        return self._engine.answers_with.name

    @property
    def engine(self) -> Engine:
        """The engine, for its model and its options; it runs in the model's thread alone."""
        return self._engine

    def engine_with(self, options: Options) -> Engine:
        """Return an engine with other options that shares the model and the open document.

        Args:
            options: How to read and answer. Those of loading are the scheduler's.
        """
        return Engine(options, self._emit, beside=self._engine)

    def is_busy(self, key: bytes) -> bool:
        """Whether a job about another document runs or waits."""
        with self._changed:
            jobs = (*self._running, *self._waiting)
            return any(job.key != key and not job.stopped for job in jobs)

    def start(self, *, loads: bool = False) -> None:
        """Start the thread.

        Args:
            loads: Whether it loads the model at once, so that the first request need not wait for
                it; otherwise that request loads it.
        """
        self._loading = loads
        self._thread.start()

    def submit(self, job: Job) -> None:
        """Queue a job.

        Raises:
            BusyError: If too many jobs wait.
            ClosingError: If the server is shutting down.
        """
        with self._changed:
            if self._closing:
                raise ClosingError("the server is shutting down", hint="ask again later")
            self._waiting = deque(each for each in self._waiting if not each.stopped)
            if len(self._waiting) >= MOST_WAITING:
                raise BusyError(
                    f"{MOST_WAITING} questions are already waiting", hint="ask again later"
                )
            self._waiting.append(job)
            self._changed.notify()
            if self._loading:
                job.deliver(LOADING)

    @property
    def waiting(self) -> int:
        """Number of jobs that wait."""
        with self._changed:
            return sum(not job.stopped for job in self._waiting)

    @property
    def running(self) -> tuple[Job, ...]:
        """Jobs that run: the last one computes, and those before it wait for it."""
        return tuple(self._running)

    @property
    def alive(self) -> bool:
        """Whether the model's thread runs."""
        return self._thread.is_alive()

    def close(self) -> None:
        """Cancel the running job and refuse those that wait; prefilled chunks stay stored."""
        with self._changed:
            self._closing = True
            waiting, self._waiting = self._waiting, deque()
            self._changed.notify()
        for job in (*waiting, *self._running):
            job.deliver(Failed(error=ClosingError("the server is shutting down")))

    def join(self, seconds: float) -> None:
        """Wait for the thread to end."""
        if self._thread.is_alive():
            self._thread.join(seconds)

    def _run(self) -> None:
        if self._loading:
            try:
                warm_up(self._engine)
            except Exception as error:  # the first request tells its client
                log.info("the model is not loaded yet: %s: %s", type(error).__name__, error)
            with self._changed:
                self._loading = False
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closing)
                if self._closing:
                    return
                job = self._next()
            self._do(job)

    def _next(self) -> Job:
        """The next job about the open document, or else the one that waits longest."""
        key, row = self._last
        same = (job for job in self._waiting if job.key == key and row < _MOST_IN_A_ROW)
        job = next(same, self._waiting[0])
        self._last = (job.key, row + 1 if job.key == key else 1)
        return self._taken(job)

    def _taken(self, job: Job) -> Job:
        """A waiting job, now a running one: `close` finds it in one of the two lists."""
        self._waiting.remove(job)
        self._running.append(job)
        return job

    def _do(self, job: Job) -> None:
        """Run a taken job; report failures to its client and keep serving."""
        last: Event | None = None
        try:
            last = None if job.stopped else self._result(job)
        except _Cancelled:
            pass
        except NsaError as error:
            last = Failed(error=error)
        except Exception as error:
            text = " ".join(str(error).split())[:200]
            failure = NsaError(f"{type(error).__name__}: {text}", hint="report it", code="internal")
            last = Failed(error=failure)
        finally:
            self._running.pop()
        if last is not None and not job.stopped:
            job.deliver(last)

    def _result(self, job: Job) -> Event:
        """Run a job to its last event."""
        if isinstance(job.asked, Work):
            return self._drive(job, job.asked.steps())
        asked, answers = job.request, None
        if asked.question is not None and not job.sources:
            return self._choices(job, lambda options: self._chat(job, options))
        if asked.question is not None and job.sources and asked.cacheable:
            began = time.monotonic()
            options = replace(
                self._options,
                max_tokens=asked.max_tokens,
                temperature=asked.temperature,
                seed=asked.seed,
            )
            answers = self._engine.answers(job.sources, job.key, job.name, asked.question, options)
            kept = answers.recall(time.monotonic() - began)
            if kept is not None:
                job.deliver(AnswerText(text=kept.answer))
                return kept
        if asked.question is not None and asked.free:
            found = self._engine.computed(job.sources, job.key, job.name, asked.question)
            if found is not None:
                job.deliver(AnswerText(text=found.answer))
                return found
        opened, reused = self._open(job)
        if job.stopped:  # others wait for the same document: it was prefilled for them
            raise _Cancelled
        if asked.question is None:
            return ReadThrough(
                document_tokens=opened.tokens,
                reused_tokens=reused,
                warnings=opened.document.warnings,
            )
        question = asked.question
        finished = self._choices(job, lambda options: self._answer(job, opened, question, options))
        if reused == opened.tokens:
            stats = replace(
                finished.stats, reused_tokens=reused, load_seconds=0.0, prefill_seconds=0.0
            )
            finished = replace(finished, stats=stats)
        if answers is not None:
            answers.keep(finished, contents_of(job.sources))
        return finished

    def _open(self, job: Job) -> tuple[OpenDocument, int]:
        """Open a job's document; returns it, and the tokens not prefilled for this job."""
        room = _room(job.request)
        still_open = self._engine.is_open(job.key, room)
        steps = self._engine.open_steps(job.sources, job.name, room, job.key)
        opened = self._drive(job, steps)
        self._prefilled[job.key] = (opened.model.config.max_position_embeddings, opened.room)
        return opened, opened.tokens if still_open else opened.reused_tokens

    def _choices(
        self, job: Job, answer: Callable[[GenerationOptions], AnswerFinished]
    ) -> AnswerFinished:
        """Answer a job's question as often as it asks; all answers but the last are delivered."""
        from nsa_cli.engine.generate import GenerationOptions

        asked = job.request
        options = GenerationOptions(
            max_tokens=asked.max_tokens,
            temperature=asked.temperature,
            seed=asked.seed,
            top_p=asked.top_p,
            stop=asked.stop,
            logprobs=asked.logprobs,
            schema=asked.schema,
            compute=self._options.compute and asked.free,
        )
        for number in range(asked.choices - 1):
            self._deliver(job, ChoiceFinished(finished=answer(options)))
            if asked.seed is not None:
                options = replace(options, seed=asked.seed + number + 1)
        return answer(options)

    def _chat(self, job: Job, options: GenerationOptions) -> AnswerFinished:
        """Answer a job's question without a document."""
        from nsa_cli.engine.plain import plain_steps

        return self._drive(job, plain_steps(self._engine, job.request.said, options))

    def _answer(
        self, job: Job, opened: OpenDocument, question: str, options: GenerationOptions
    ) -> AnswerFinished:
        """Answer a job's question about a document."""
        from nsa_cli.engine.answer import answer_steps

        asked = job.request
        earlier = [Turn(question=q, answer=a, passage=None) for q, a in asked.turns]
        tokenized, turns = with_turns(
            opened, question, earlier, asked.max_tokens, asked.instructions
        )
        finished, _ = self._drive(job, answer_steps(opened, tokenized, options, turns))
        return finished

    def _drive(self, job: Job, steps: Generator[Event, None, Result]) -> Result:
        """Run steps to their end and deliver their events.

        Between two prefill chunks, answer one request about a prefilled document: one, so that
        many requests do not delay the prefill's end.

        Raises:
            _Cancelled: If no client waits any more.
        """
        while True:
            try:
                event = next(steps)
            except StopIteration as end:
                result: Result = end.value
                return result
            self._deliver(job, event)
            if not self._is_wanted(job, event):
                steps.close()
                raise _Cancelled
            if isinstance(event, Progress) and event.done < event.total:
                self._answer_between()

    def _emit(self, event: Event) -> None:
        """Deliver an event that comes from inside a step."""
        if self._running:
            self._deliver(self._running[-1], event)
        elif not isinstance(event, Stage):  # of the model that is loaded before any request
            self._elsewhere(event)

    def _deliver(self, job: Job, event: Event) -> None:
        """Deliver an event to its clients."""
        for each in self._audience(job, event):
            if not each.stopped:
                each.deliver(event)

    def _audience(self, job: Job, event: Event) -> list[Job]:
        """The job, and with it all jobs that wait for the same document's progress."""
        if not isinstance(event, Progress) or event.stage == "passages":
            return [job]
        with self._changed:
            return [job, *(each for each in self._waiting if each.key == job.key)]

    def _is_wanted(self, job: Job, event: Event) -> bool:
        """Whether a client still waits for the events after one."""
        return not self._closing and not all(each.stopped for each in self._audience(job, event))

    def _answer_between(self) -> None:
        """Answer one waiting request that needs no prefill."""
        if len(self._running) != 1:
            return
        job = self._take_ready()
        if job is not None:
            self._do(job)

    def _take_ready(self) -> Job | None:
        """Take a waiting job that the model can answer as it is loaded.

        It is about a document that was prefilled with the same context, or about none.
        """
        loaded = self._engine.context
        with self._changed:
            for job in self._waiting:
                if isinstance(job.asked, Work):  # its client does it itself while others are served
                    continue
                if not job.sources and loaded == self._engine.trained_context:
                    return self._taken(job)
                if not self._options.store:
                    continue
                context, room = self._prefilled.get(job.key, (None, 0))
                if context == loaded and _room(job.asked) <= room:
                    return self._taken(job)
        return None


class _Engine(Engine):
    """An engine that keeps parsed documents in memory."""

    def __init__(self, options: Options, emit: Emit, parsed: ParsedDocuments) -> None:
        super().__init__(options, emit)
        self._parsed = parsed

    def parse(self, sources: Sequence[Source], name: str, content: bytes) -> Document:
        """Parse sources unless they were parsed before; arguments and errors as for `Engine`."""
        document = self._parsed.get(content)
        if document is None:
            document = super().parse(sources, name, content)
            self._parsed.put(content, document)
        return document


def _room(asked: Asked) -> int:
    return ROOM + asked.max_tokens

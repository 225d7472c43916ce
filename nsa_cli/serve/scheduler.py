"""One thread with one model, and the questions that wait for it.

All that wait for the same text share its reading: each sees its progress, and it is stopped only
when nobody waits any more. A question about a text that is read already need not wait until
another has been read: it is answered between two segments of that reading.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from nsa_cli.answering.chat import ROOM, Chat
from nsa_cli.caches.answers import Answers
from nsa_cli.config.options import Options
from nsa_cli.documents import Document
from nsa_cli.documents.sources import Source
from nsa_cli.engine.engine import Desk
from nsa_cli.events import AnswerText, Event, Finished, Progress
from nsa_cli.serve.documents import Opened
from nsa_cli.serve.jobs import Asked, BusyError, ClosingError, Failed, Job, ReadThrough
from nsa_models.errors import NsaError

if TYPE_CHECKING:
    from nsa_cli.engine.open_document import OpenText


_MOST_IN_A_ROW = 8
"""Questions about the text that is open, before one about another is no longer passed over."""


MOST_WAITING = 64
"""Questions that wait at once; one more is refused."""


class _Stopped(Exception):  # noqa: N818 - not an error: nobody waits any more
    """Nobody waits for what is being done."""


class Worker:
    """The model's thread.

    Args:
        options: How to read and answer.
        emit: Receives what belongs to no job, such as the progress of fetching the model.
        shelf: Keeps documents that were opened.

    Raises:
        ModelError: If the model cannot be had.
    """

    def __init__(
        self,
        options: Options,
        emit: Callable[[Event], None],
        shelf: Opened,
    ) -> None:
        self._options = options
        self._elsewhere = emit
        self._waiting: deque[Job] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._last: tuple[bytes, int] = (b"", 0)  # key of the last job, and how many in a row
        self._at_hand: list[Job] = []  # the last is done; those before it wait for it
        self._read: dict[bytes, tuple[int, int]] = {}  # context and room of texts, by key
        self._desk = _Desk(options, self._emit, shelf)
        self._thread = threading.Thread(target=self._run, name="model", daemon=True)

    @property
    def model(self) -> str:
        """The model's name."""
        return self._desk.where.name

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def submit(self, job: Job) -> None:
        """Let a job wait for its turn.

        Raises:
            BusyError: If too many wait already.
            ClosingError: If the server is about to end.
        """
        with self._changed:
            if self._closing:
                raise ClosingError("the server is about to end", hint="ask again later")
            self._waiting = deque(each for each in self._waiting if not each.stopped)
            if len(self._waiting) >= MOST_WAITING:
                raise BusyError(
                    f"{MOST_WAITING} questions are waiting already", hint="ask again later"
                )
            self._waiting.append(job)
            self._changed.notify()

    def close(self) -> None:
        """Stop what is being done and refuse what waits; what was read so far is kept."""
        with self._changed:
            self._closing = True
            waiting, self._waiting = self._waiting, deque()
            self._changed.notify()
        for job in (*waiting, *self._at_hand):
            job.deliver(Failed(error=ClosingError("the server is about to end")))

    def join(self, seconds: float) -> None:
        """Wait for the thread's end."""
        if self._thread.is_alive():
            self._thread.join(seconds)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closing)
                if self._closing:
                    return
                job = self._next()
            if not job.stopped:
                self._do(job)

    def _next(self) -> Job:
        """The job that waits longest, unless there is one about the text that is open."""
        key, row = self._last
        same = (job for job in self._waiting if job.key == key and row < _MOST_IN_A_ROW)
        job = next(same, self._waiting[0])
        self._waiting.remove(job)
        self._last = (job.key, row + 1 if job.key == key else 1)
        return job

    def _do(self, job: Job) -> None:
        """Do a job; whatever goes wrong is its client's to know, and ends nothing else."""
        self._at_hand.append(job)
        last: Event | None = None
        try:
            with self._answering(job.asked) as options:
                last = self._result(job, options)
        except _Stopped:
            pass
        except NsaError as error:
            last = Failed(error=error)
        except Exception as error:
            said = " ".join(str(error).split())[:200]
            told = NsaError(f"{type(error).__name__}: {said}", hint="report it", code="internal")
            last = Failed(error=told)
        finally:
            self._at_hand.pop()
        if last is not None and not job.stopped:
            job.deliver(last)

    @contextmanager
    def _answering(self, asked: Asked) -> Iterator[Options]:
        """Let the model answer as one job wants it."""
        session = self._desk.session
        before = (self._desk.options, session.options)
        options = replace(
            self._options,
            max_tokens=asked.max_tokens,
            temperature=asked.temperature,
            seed=asked.seed,
        )
        self._desk.options = session.options = options
        try:
            yield options
        finally:
            self._desk.options, session.options = before

    def _result(self, job: Job, options: Options) -> Event:
        asked = job.asked
        began = time.monotonic()
        plain = asked.question is not None and not asked.turns and not asked.instructions
        answers = None
        if plain:
            assert asked.question is not None
            where = self._desk.where
            answers = Answers(job.key, job.name, asked.question, where, options)
            remembered = answers.recall(time.monotonic() - began)
            if remembered is not None:
                job.deliver(AnswerText(text=remembered.answer))
                return remembered
        text, reused = self._open(job)
        if job.stopped:  # others wait for the same text: it was read for them
            raise _Stopped
        if asked.question is None:
            return ReadThrough(document_tokens=text.tokens, reused_tokens=reused)
        finished = self._answer(text, asked)
        if reused == text.tokens:
            stats = replace(
                finished.stats, reused_tokens=reused, load_seconds=0.0, prefill_seconds=0.0
            )
            finished = replace(finished, stats=stats)
        if answers is not None:
            answers.keep(finished)
        return finished

    def _open(self, job: Job) -> tuple[OpenText, int]:
        """A text, and how many of its tokens did not have to be read for this job."""
        room = _room(job.asked)
        still_open = self._desk.is_open(job.key, room)
        text = self._desk.open(job.sources, job.name, room)
        self._read[job.key] = (text.loaded.model.config.max_position_embeddings, text.room)
        return text, text.tokens if still_open else text.reused_tokens

    def _answer(self, text: OpenText, asked: Asked) -> Finished:
        from nsa_cli.results import Turn

        assert asked.question is not None
        talk = Chat(
            text=text,
            say=_unsaid,
            turns=[Turn(question=q, answer=a, passage=None) for q, a in asked.turns],
            instructions=asked.instructions,
        )
        return talk.ask(asked.question)

    def _emit(self, event: Event) -> None:
        """Pass an event on to those it is for; called from within what is being done."""
        if not self._at_hand:
            self._elsewhere(event)
            return
        job = self._at_hand[-1]
        audience = [job]
        if isinstance(event, Progress):
            with self._changed:
                audience += [each for each in self._waiting if each.key == job.key]
        for each in audience:
            if not each.stopped:
                each.deliver(event)
        if self._closing or all(each.stopped for each in audience):
            raise _Stopped
        if isinstance(event, Progress) and event.unit == "tokens" and event.done < event.total:
            self._answer_between()

    def _answer_between(self) -> None:
        """Answer one question that can be answered at once, while another text is being read.

        One between two segments, so that many questions do not keep the reading from its end.
        """
        if len(self._at_hand) != 1 or not self._options.store:
            return
        job = self._take_ready()
        if job is not None:
            self._do(job)

    def _take_ready(self) -> Job | None:
        """A job that waits, about a text that was read with the model as it is loaded now."""
        loaded = self._desk.session.context
        with self._changed:
            for job in self._waiting:
                context, room = self._read.get(job.key, (None, 0))
                if context == loaded and _room(job.asked) <= room:
                    self._waiting.remove(job)
                    return job
        return None


class _Desk(Desk):
    """A desk with a shelf beside it, so that no file is parsed twice."""

    def __init__(self, options: Options, emit: Callable[[Event], None], shelf: Opened) -> None:
        super().__init__(options, emit)
        self._shelf = shelf

    def is_open(self, key: bytes, room: int) -> bool:
        """Whether a text is the one that is open, with so much room."""
        return self._open is not None and self._open[0] == key and self._open[1].room >= room

    def parse(self, sources: Sequence[Source], name: str, content: bytes) -> Document:
        """Sources as one document, parsed unless they were before; raises as the desk does."""
        document = self._shelf.get(content)
        if document is None:
            document = super().parse(sources, name, content)
            self._shelf.put(content, document)
        return document


def _unsaid(line: str) -> None:
    """Nothing but answers is said."""
    del line


def _room(asked: Asked) -> int:
    return ROOM + asked.max_tokens

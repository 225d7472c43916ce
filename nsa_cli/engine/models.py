"""The models of an engine: the one that reads, and the one that answers if it is another.

A built-in model that is not on this machine is fetched when it is needed, the second one in a
thread, while the first one reads.
"""

from __future__ import annotations

import weakref
from dataclasses import replace

from nsa_cli.config.options import AUTO, Options
from nsa_cli.engine.answer_model import options_of_answers, reading_model
from nsa_cli.engine.fetching import Fetching
from nsa_cli.events import Emit, Event, Note, Progress
from nsa_cli.output.logging import log
from nsa_models.errors import ModelError
from nsa_models.hub.offline import offline_variable
from nsa_models.hub.registry import DEFAULT_MODEL
from nsa_models.hub.resolve import is_ready, resolve_model
from nsa_models.model_folder import ModelFolder


class Models:
    """The models of an engine.

    Args:
        options: How to read and answer.
        emit: Receives notes and progress.
        first: The model that reads, if it is known.

    Attributes:
        reads: Name of the model that reads.
        emit: Receives the events of a command; it emits those of a thread that fetches, too.
        second_options: Options of the model that answers; None if it is the one that reads.

    Raises:
        ModelError: If a model is not available, unless it can be fetched.
    """

    def __init__(self, options: Options, emit: Emit, first: ModelFolder | None = None) -> None:
        self._options = options
        self.reads = reading_model(options.model, options.device)
        self._emit = emit
        self._first = first
        self._second: ModelFolder | None = None
        self._fetching: Fetching | None = None
        named = first is None and options.answer_model is not None
        self.second_options = options_of_answers(options) if named else None
        self._is_settled = self.second_options is None
        if is_ready(self.reads):
            _ = self.first
            if not self._is_settled and not self._is_fetched_beside():
                _ = self.second

    @property
    def is_ready(self) -> bool:
        """Whether the models are known, and nothing has to be fetched."""
        return self._first is not None and self._is_settled

    @property
    def first(self) -> ModelFolder:
        """The model that reads; fetched at the first use.

        Where `auto` chooses a model that is not available, the small one reads.

        Raises:
            ModelError: If it is not available.
        """
        if self._first is None:
            try:
                self._first = self._fetched_first()
            except ModelError as error:
                if self._options.model != AUTO or self.reads == DEFAULT_MODEL:
                    raise
                self.emit(Note(text=f"{DEFAULT_MODEL} reads: {error.message}"))
                self.reads = DEFAULT_MODEL
                self._first = self._fetched_first()
            log.info("model %s in %s", self._first.name, self._first.folder)
        return self._first

    @property
    def second(self) -> ModelFolder | None:
        """The model that answers, when it is on this machine; None if it is the one that reads.

        Raises:
            ModelError: If it was named and is not available. Without a name the first model
                answers, and a note says why.
        """
        if not self._is_settled:
            first = self.first
            found = self._resolved()
            same = found is None or found.fingerprint == first.fingerprint
            self._second, self._is_settled = None if same else found, True
        return self._second

    @property
    def answering_name(self) -> str:
        """Name of the model that answers, also before it is fetched."""
        if self.second_options is None or (self._is_settled and self._second is None):
            return self.reads
        return self.second_options.model

    def chosen(self, options: Options) -> Options:
        """Return options that name the models that read and answer, however they were chosen."""
        options = replace(options, model=self.reads)
        if options.answer_model == AUTO:
            name = None if self.second_options is None else self.second_options.model
            options = replace(options, answer_model=name)
        return options

    def start(self) -> None:
        """Fetch the model that reads, and begin to fetch the one that answers.

        Raises:
            ModelError: If the model that reads is not available.
        """
        _ = self.first
        self._fetch_second()

    def emit(self, event: Event) -> None:
        """Emit an event, after those of the thread that fetches."""
        if self._fetching is not None:
            self._fetching.tell(self._emit)
        self._emit(event)

    def _fetched_first(self) -> ModelFolder:
        return resolve_model(
            self.reads,
            on_progress=self._on_progress,
            on_note=self._on_note,
            adapter=self._options.adapter,
            on_fetched=self._fetch_second,
        )

    def _fetch_second(self) -> None:
        """Begin to fetch the model that answers, unless it is here."""
        if self._fetching is None and not self._is_settled and self._is_fetched_beside():
            assert self.second_options is not None
            self._fetching = Fetching(self.second_options.model, self.second_options.adapter)
            weakref.finalize(self, self._fetching.stop)

    def _is_fetched_beside(self) -> bool:
        """Whether the model that answers is fetched or converted beside the reading."""
        second = self.second_options
        if second is None or second.model == self.reads:
            return False
        return not is_ready(second.model) and offline_variable() is None

    def _resolved(self) -> ModelFolder | None:
        """Return the model that answers, or None with a note if it is not available."""
        second = self.second_options
        assert second is not None
        self._fetch_second()
        try:
            if self._fetching is not None:
                found = self._fetching.wait(self._emit)
            else:
                found = resolve_model(
                    second.model,
                    on_progress=self._on_progress,
                    on_note=self._on_note,
                    adapter=second.adapter,
                )
        except ModelError as error:
            if self._options.answer_model != AUTO:
                raise
            self._emit(Note(text=f"{self.first.name} answers: {error.message}"))
            return None
        finally:
            self._fetching = None
        log.info("model %s in %s", found.name, found.folder)
        return found

    def _on_progress(self, task: str, done: int, total: int) -> None:
        self.emit(Progress(task=task, done=done, total=total, unit="bytes", stage="loading"))

    def _on_note(self, text: str) -> None:
        self.emit(Note(text=text))

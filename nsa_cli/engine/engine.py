"""The engine: one model and the document that is open, shared by all commands.

torch is imported only when a document must be prefilled: an answer given before comes at once.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

from nsa_cli.caches.answers import AnswerCache
from nsa_cli.config.options import Options
from nsa_cli.documents import Document, digest
from nsa_cli.documents.sources import Source
from nsa_cli.engine.compute import computed, rule_versions
from nsa_cli.engine.held import Held, load_tokenizer, reused
from nsa_cli.engine.models import Models
from nsa_cli.engine.parse import Parsed, Parser, contents_of
from nsa_cli.engine.work import Asking, Work
from nsa_cli.events import LOADING, AnswerFinished, AnswerText, Emit, Note, Progress, drain
from nsa_cli.tables.sources import may_hold_tables
from nsa_models.hub.resolve import fingerprint_with_verifier
from nsa_models.model_folder import ModelFolder

if TYPE_CHECKING:
    from nsa_cli.context.prompt import PromptBuilder
    from nsa_cli.context.tokens import TokenizedQuestion, TokenizedText
    from nsa_cli.engine.open_document import OpenDocument
    from nsa_cli.engine.weight_formats import StoredText
    from nsa_cli.kv_store.prefill import Prefiller
    from nsa_cli.kv_store.store import KVStore
    from nsa_cli.results import Estimate
    from nsa_models.configuration.config import NSAConfig
    from nsa_models.modeling.model import NSALanguageModel
    from nsa_models.tokenization.tokenizer import Tokenizer

_NOT_STORED = (
    "on a GPU nsa does not store readings of models with separate branch keys or a learned φ; the "
    "next command reads this document again"
)


class Engine:
    """A model, fetched when it is needed and loaded when a document must be prefilled.

    Args:
        options: How to read and answer.
        emit: Receives events in order; results are not among them.
        beside: Another engine with the same options of loading, whose model is shared; or None.
        folder: The model, if it is known.

    Raises:
        ModelError: If a model is not available, unless it can be fetched.
    """

    def __init__(
        self,
        options: Options,
        emit: Emit,
        beside: Engine | None = None,
        folder: ModelFolder | None = None,
    ) -> None:
        self.options = options
        self._models: Models = Models(options, emit, folder) if beside is None else beside._models
        self.emit = self._models.emit if beside is None else emit
        self._parser = Parser(options, self.emit)
        self._own: OpenDocument | None = None
        self._allowed: list[str] | None = None
        self._held: Held = Held() if beside is None else beside._held
        self._answerer: Engine | None = None
        self._knows_answerer = False
        if beside is not None:
            self._knows_answerer = True
            if beside.answerer is not None:
                own = beside.answerer.options
                second = replace(options, model=own.model, adapter=own.adapter, answer_model=None)
                self._answerer = Engine(second, emit, beside.answerer)
            return
        self.options = self._models.chosen(options)
        if self.is_ready:
            _ = self.answerer

    @property
    def folder(self) -> ModelFolder:
        """The model that reads; fetched at the first use.

        Raises:
            ModelError: If it is not available.
        """
        found = self._models.first
        if self.options.model != self._models.reads:  # the model that was chosen is not available
            self.options = self._models.chosen(self.options)
        return found

    @property
    def is_ready(self) -> bool:
        """Whether the models are known, and nothing has to be fetched."""
        return self._models.is_ready

    @property
    def answerer(self) -> Engine | None:
        """The engine of the model that answers; None if it is, or has to be, the same model.

        Waits for a model that is being fetched.

        Raises:
            ModelError: If it was named and is not available.
        """
        if not self._knows_answerer:
            folder, second = self._models.second, self._models.second_options
            if folder is not None and second is not None:
                self._answerer = Engine(second, self.emit, folder=folder)
            elif self.options.answer_model is not None:
                self.options = replace(self.options, answer_model=None)
            self._knows_answerer = True
        return self._answerer

    @property
    def model_name(self) -> str:
        """Name of the model."""
        return self.folder.name

    @property
    def answers_with(self) -> ModelFolder:
        """The model that answers; its fingerprint covers the second model and the verifier."""
        if self.answerer is None:
            return replace(self.folder, fingerprint=fingerprint_with_verifier(self.folder))
        second = self.answerer.folder
        fingerprint = f"{self.folder.fingerprint}+{fingerprint_with_verifier(second)}"
        return replace(second, fingerprint=fingerprint)

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer."""
        if self._held.tokenizer is None:
            self.emit(LOADING)
            self._held.tokenizer = load_tokenizer(self.folder.folder)
        return self._held.tokenizer

    @cached_property
    def prompts(self) -> PromptBuilder:
        """Tokenizes documents and questions."""
        tokenizer = self.tokenizer
        from nsa_cli.context.prompt import PromptBuilder

        return PromptBuilder(tokenizer, self.options.system)

    @property
    def opened(self) -> OpenDocument | None:
        """The document that is open."""
        return self._held.opened

    @property
    def context(self) -> int | None:
        """Context of the model as it is loaded, in tokens; None if it is not loaded."""
        model = self._held.model
        return None if model is None else model.config.max_position_embeddings

    @cached_property
    def trained_context(self) -> int:
        """Context of the model as it was trained, in tokens."""
        from nsa_cli.context.fit import plain_config

        return plain_config(self.folder, 0, 0, self.options, self.emit).max_position_embeddings

    def is_open(self, content: bytes, room: int) -> bool:
        """Whether the sources with this digest are open with this much room."""
        return self._held.find(content, self.options, room) is not None

    def ask(
        self,
        sources: Sequence[Source],
        name: str,
        questions: Sequence[str],
        began: float,
        work: Work = Asking,
    ) -> Iterator[AnswerFinished]:
        """Answer questions about sources; questions asked before are answered at once.

        Args:
            sources: The sources.
            name: Name of all of them together.
            questions: The questions.
            began: When the command began, on the monotonic clock, in seconds.
            work: Makes what answers questions by the model.

        Yields:
            An answer for each question, in order.

        Raises:
            NsaError: If the sources cannot be read, or do not fit the model or the memory.
        """
        content = digest(sources)
        asking = None
        for number, question in enumerate(questions):
            kept, answers = None, None
            if self.is_ready:  # a model that is fetched anew has answered nothing
                answers = self.answers(sources, content, name, question, self.options)
                kept = answers.recall(time.monotonic() - began)
            if kept is not None:
                self.emit(Note(text="answered before; --no-store asks again"))
            else:
                kept = self.computed(sources, content, name, question)
            if kept is not None:
                self.emit(AnswerText(text=kept.answer))
                yield kept
                continue
            if asking is None:  # errors of parsing need no model and no torch
                parsed = self.parsed(sources, name, content)
                self._models.start()
                asking = work(self, parsed, questions)
            finished = drain(asking.steps(number), self.emit)
            answers = answers or self.answers(sources, content, name, question, self.options)
            answers.keep(finished, contents_of(sources))
            yield finished

    def answers(
        self,
        sources: Sequence[Source],
        content: bytes,
        name: str,
        question: str,
        options: Options,
    ) -> AnswerCache:
        """The cached answer to a question about sources."""
        rules = rule_versions(sources, question, compute=options.compute)
        return AnswerCache(content, name, question, self.answers_with, options, rules=rules)

    def computed(
        self, sources: Sequence[Source], content: bytes, name: str, question: str
    ) -> AnswerFinished | None:
        """Answer a question by computing over tables, without the model; None if it is not so.

        Raises:
            NsaError: If the sources cannot be read.
        """
        if not self.options.compute or not may_hold_tables(sources):
            return None
        opened = self._held.find(content, self.options)
        document = self.parse(sources, name, content) if opened is None else opened.document
        return computed(document, question, self._models.answering_name)

    def open(
        self, sources: Sequence[Source], name: str, room: int, content: bytes | None = None
    ) -> OpenDocument:
        """Prefill sources to the end; arguments as for `open_steps`."""
        return drain(self.open_steps(sources, name, room, content), self.emit)

    def open_steps(
        self, sources: Sequence[Source], name: str, room: int, content: bytes | None = None
    ) -> Generator[Progress, None, OpenDocument]:
        """Parse and prefill sources chunk by chunk; the last document opened stays open.

        Closing the generator stops after a chunk; what was prefilled is stored.

        Args:
            sources: The sources.
            name: Name of all of them together.
            room: Tokens that the longest question and its answer need after the text.
            content: Digest of the sources, if known.

        Yields:
            Progress in tokens.

        Returns:
            The document, open for questions.

        Raises:
            NsaError: If the sources cannot be read, or do not fit the model or the memory.
        """
        content = digest(sources) if content is None else content
        if self.is_open(content, room):
            return self._opened_before()
        return (yield from self.open_parsed(self.parsed(sources, name, content), room))

    def open_parsed(self, parsed: Parsed, room: int) -> Generator[Progress, None, OpenDocument]:
        """Prefill a parsed document; arguments, events and errors as for `open_steps`."""
        if self.is_open(parsed.content, room):
            return self._opened_before()
        self._models.start()
        self._held.close()  # free its memory before the next one's is taken
        opened = yield from self.prefill_chunks(parsed.document, room, parsed.contents)
        self._own = opened
        self._held.open(parsed.content, self.options, opened)
        return opened

    def _opened_before(self) -> OpenDocument:
        """The open document; one that another engine opened counts as read before."""
        opened = self._held.opened
        assert opened is not None
        if opened is not self._own:
            opened = self._own = self._held.opened = reused(opened, self.options, self.emit)
        return opened

    def parse(self, sources: Sequence[Source], name: str, content: bytes) -> Document:
        """Parse sources into one document; its warnings are emitted.

        Args:
            sources: The sources.
            name: Name of all of them together.
            content: Their `digest`.

        Raises:
            NsaError: If a source that the user named cannot be read, or none has text.
        """
        return self._parser.parse(sources, name, content)

    def parsed(self, sources: Sequence[Source], name: str, content: bytes) -> Parsed:
        """Parse sources for the model; arguments and errors as for `parse`."""
        return Parsed(self.parse(sources, name, content), content, contents_of(sources))

    def estimate(
        self, document: Document, room: int, asked: Sequence[TokenizedQuestion] = ()
    ) -> Estimate:
        """Estimate what prefilling a document takes, and answering questions about it.

        Args:
            document: The document.
            room: As for `prefill_chunks`.
            asked: The questions that are answered.

        Raises:
            DoesNotFitError: If the model's context is too short.
        """
        _, texts, config = self._fit(document, room)
        stored = self._match(texts, config)
        found = self._estimate(texts, config, stored)
        if not asked:
            return found
        from nsa_cli.engine.answer_estimate import seconds_of_answers

        return replace(
            found, answer_seconds=seconds_of_answers(self.answerer or self, texts, asked)
        )

    def prefill_chunks(
        self, document: Document, room: int, contents: Sequence[str] = ()
    ) -> Generator[Progress, None, OpenDocument]:
        """Prefill a document chunk by chunk, reusing what is stored.

        Args:
            document: The document.
            room: Tokens that the longest question and its answer need after it.
            contents: Hashes of the document's files, by which what is stored is removed.

        Yields:
            Progress in tokens.

        Returns:
            The document, open for questions.

        Raises:
            NsaError: If it does not fit the model or the memory, or memory runs out.
        """
        document, texts, config = self._fit(document, room)
        from nsa_cli.context.tokens import generous_room, joined
        from nsa_cli.engine.answering_model import AnsweringModel
        from nsa_cli.engine.generate import GenerationOptions
        from nsa_cli.engine.open_document import OpenDocument
        from nsa_cli.kv_store.windows import prefill_windows
        from nsa_cli.retrieval.passages import DIRECT_TOKENS

        stored = self._checked_match(texts, config, document.name)
        began, model = time.monotonic(), self.load(config, stored.weights)
        longest = max(len(text.ids) for text in texts)
        room = generous_room(room, longest, config.max_position_embeddings)
        prefiller = self._prefiller(model, stored.store, contents)
        started = time.monotonic()
        windows = yield from prefill_windows(
            prefiller,
            texts,
            stored.matches,
            document,
            room,
            verify_later=sum(text.document_tokens for text in texts) > DIRECT_TOKENS,
            model_name=self.folder.name,
        )
        read = time.monotonic()
        opened = OpenDocument(
            model=model,
            model_name=self.folder.name,
            tokenizer=self.tokenizer,
            prompts=self.prompts,
            document=document,
            windows=windows,
            text=joined(texts, config.select_block),
            room=room,
            options=GenerationOptions.of(self.options),
            emit=self.emit,
            load_seconds=started - began,
            prefill_seconds=read - started,
            answerer=None if self.answerer is None else AnsweringModel(self.answerer),
        )
        opened.log_figures()
        return opened

    def _prefiller(
        self, model: NSALanguageModel, store: KVStore | None, contents: Sequence[str]
    ) -> Prefiller:
        from nsa_cli.kv_store.prefill import Prefiller
        from nsa_cli.system import memory_limit

        limit = memory_limit(self.options.memory_bytes)
        return Prefiller(
            model=model, store=store, emit=self.emit, memory_bytes=limit, contents=contents
        )

    def _fit(
        self, document: Document, room: int
    ) -> tuple[Document, list[TokenizedText], NSAConfig]:
        """Tokenize a document into context windows; see `fit`."""
        prompts = self.prompts
        from nsa_cli.context.fit import fit

        def seconds(texts: Sequence[TokenizedText], config: NSAConfig) -> float:
            return self._estimate(texts, config, self._match(texts, config)).seconds

        return fit(self.folder, prompts, document, room, self.options, self.emit, seconds)

    def _checked_match(
        self, texts: Sequence[TokenizedText], config: NSAConfig, name: str
    ) -> StoredText:
        """`_match` of a document that is prefilled next.

        Raises:
            DoesNotFitError: If it does not fit the memory.
        """
        from nsa_cli.context.estimate import check_fits

        found = self._match(texts, config)
        if found.store is None and self.options.store:
            self.emit(Note(text=_NOT_STORED))
        check_fits(self._estimate(texts, config, found), name)
        return found

    def _match(self, texts: Sequence[TokenizedText], config: NSAConfig) -> StoredText:
        """Open the KV store, and look up what it has of each context window."""
        from nsa_cli.engine.weight_formats import stored_text

        fingerprints = (self.folder.fingerprint, self.tokenizer.fingerprint)
        return stored_text(self.formats(config), fingerprints, texts, config, self.options)

    def formats(self, config: NSAConfig) -> list[str]:
        """Formats of the weights in which the model may answer, the preferred one first."""
        from nsa_cli.engine.weight_formats import weight_formats

        if self._allowed is None:
            self._allowed = weight_formats(self.folder, config, self.options)
        return self._allowed

    def _estimate(
        self, texts: Sequence[TokenizedText], config: NSAConfig, found: StoredText
    ) -> Estimate:
        from nsa_cli.context.estimate import estimate
        from nsa_cli.engine.weight_formats import relative_times
        from nsa_models.cache.layer_devices import pick_device

        made = estimate(
            config,
            self.folder.folder,
            [len(text.ids) for text in texts],
            reused=found.reused_tokens,
            kept_in=None if found.store is None else found.store.root,
            memory_bytes=self.options.memory_bytes,
            device=pick_device(self.options.device),
        )
        share = relative_times(config, found.weights)[0]
        return replace(made, seconds=round(made.seconds * share, 3))

    def load_for(self, text_tokens: int, more_tokens: int) -> NSALanguageModel:
        """Load the model with a context for a text and what follows.

        Raises:
            DoesNotFitError: If its context is too short.
        """
        from nsa_cli.context.fit import plain_config

        config = plain_config(self.folder, text_tokens, more_tokens, self.options, self.emit)
        return self.load(config)

    def load(self, config: NSAConfig, weights: str | None = None) -> NSALanguageModel:
        """Load the model with a configuration, unless it is loaded with that one.

        Args:
            config: The configuration.
            weights: Format of the weights; None for the preferred one.
        """
        weights = self.formats(config)[0] if weights is None else weights
        return self._held.load(self.folder, config, weights, self.options, self.emit)

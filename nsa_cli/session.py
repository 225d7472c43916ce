"""A model at work on documents: each is read once, then asked, searched or summed up.

A text is kept when it was read; a question looks over all of it, the passages it lights on are
read again closely, and the answer is decoded from those. A short text is answered directly.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace

import torch
from torch import Tensor

from nsa_cli.citations import best_sentence, cite
from nsa_cli.documents import Document
from nsa_cli.engine import (
    CLOSE_TOKENS,
    Answer,
    Emit,
    Loaded,
    block_scores,
    decode_answer,
    look,
    passages_of,
    pick_device,
    rested,
    weigh,
)
from nsa_cli.events import Finished, Match, Note, Stats
from nsa_cli.evidence import Passage, best_runs
from nsa_cli.fitting import fit
from nsa_cli.ledger import DamagedError
from nsa_cli.memory import peak_memory_bytes
from nsa_cli.options import Options
from nsa_cli.places import place
from nsa_cli.plan import Estimate, check_fits, estimate, weights_dtype
from nsa_cli.prompt import Prompter, Question, Text, joined
from nsa_cli.reading import open_store
from nsa_cli.relevance import Bm25, block_spans, relevance
from nsa_cli.store import ANSWER_ROOM
from nsa_cli.verbose import log
from nsa_cli.volumes import Volume, read_volumes
from nsa_models.cache import KVCache
from nsa_models.configuration import NSAConfig
from nsa_models.errors import UsageError
from nsa_models.generation import prefill
from nsa_models.prepared import load_prepared
from nsa_models.resolve import ModelFolder
from nsa_models.tokenizer import Tokenizer

_TOGETHER = 4
"""Volumes that a question looks over side by side: as many are in memory."""

_FEW_WORDS, _FEW_CHARACTERS = 3, 24
"""Of a question that names too little to be looked up by itself: "And when?"; the second for
scripts that do not set words apart."""

_ROOM_STEP = 256
"""Room is made in steps, so that the next question mostly finds enough."""


class Session:
    """One model, loaded once for documents whose lengths ask for the same context.

    Args:
        where: The model.
        options: How to read and answer.
        emit: Receives everything worth showing, in order; results are not among it.
    """

    def __init__(self, where: ModelFolder, options: Options, emit: Emit) -> None:
        self.options = options
        self.emit = emit
        self._where = where
        # Weights in fewer bits make other keys and values.
        self._weights = ":".join(filter(None, (where.fingerprint, options.quantization)))
        self._loaded: Loaded | None = None
        self.tokenizer = Tokenizer.from_folder(where.folder)
        self.prompter = Prompter(self.tokenizer, options.system)

    @property
    def context(self) -> int | None:
        """Tokens that the model carries as it is loaded now; None if it is not."""
        held = self._loaded
        return None if held is None else held.model.config.max_position_embeddings

    def read(self, document: Document, room: int) -> OpenText:
        """Read a document, as much of it as is not kept.

        Args:
            document: The text.
            room: Tokens that the longest question and its answer need behind it.

        Raises:
            NsaError: If it does not fit the model or the memory, or memory runs out.
        """
        document, texts, config = self._fit(document, room)
        check_fits(self._plan(texts, config), document.name)
        started = time.monotonic()
        loaded = self._load(config)
        loading = time.monotonic() - started
        wide = -(-room // _ROOM_STEP) * _ROOM_STEP
        longest = max(len(text.ids) for text in texts)
        if longest + wide <= loaded.model.config.max_position_embeddings:
            room = max(room, min(wide, ANSWER_ROOM))
        started = time.monotonic()
        volumes = read_volumes(
            loaded.model,
            (self._weights, self.tokenizer.fingerprint),
            texts,
            document,
            room,
            self.options,
            self.emit,
            sparing=sum(text.document_tokens for text in texts) > CLOSE_TOKENS,
            named=self._where.name,
        )
        opened = OpenText(
            session=self,
            loaded=loaded,
            volumes=volumes,
            document=document,
            text=joined(texts, config.select_block),
            room=room,
            load_seconds=loading,
            read_seconds=time.monotonic() - started,
        )
        log.info(
            "%s tokens, %s of them kept before; model loaded in %.1f s, read in %.1f s",
            f"{opened.tokens:,}",
            f"{opened.reused_tokens:,}",
            loading,
            opened.read_seconds,
        )
        return opened

    def plan(self, document: Document, room: int) -> Estimate:
        """What reading a document will take; arguments as for `read`.

        Raises:
            DoesNotFitError: If the model's context is too short.
        """
        _, texts, config = self._fit(document, room)
        return self._plan(texts, config)

    def _fit(self, document: Document, room: int) -> tuple[Document, list[Text], NSAConfig]:
        return fit(self._where, self.prompter, document, room, self.options, self.emit)

    def _plan(self, texts: Sequence[Text], config: NSAConfig) -> Estimate:
        """What reading will take; what is kept from earlier counts as read."""
        store = open_store(
            config,
            weights_dtype(config),
            self._weights,
            self.tokenizer.fingerprint,
            self.options,
        )
        found = [] if store is None else [store.find(text.ids) for text in texts]
        return estimate(
            config,
            self._where.folder,
            [len(text.ids) for text in texts],
            reused=sum(kept[0][0] for kept in found if kept),
            kept_in=None if store is None else store.root,
            memory_bytes=self.options.memory_bytes,
            device=pick_device(self.options.device),
        )

    def _load(self, config: NSAConfig) -> Loaded:
        held = self._loaded
        if held is None or held.model.config.to_dict() != config.to_dict():
            self._loaded = None  # its memory goes before the next one's comes
            device = pick_device(self.options.device)
            quantization = self.options.quantization
            if quantization is not None and device.type != "cpu":
                raise UsageError(
                    f"--quantize {quantization} is for the CPU", hint="leave it out on a GPU"
                )
            model = load_prepared(
                self._where,
                config,
                device=device,
                quantization=quantization,
                on_note=lambda text: self.emit(Note(text=text)),
            )
            self._loaded = held = Loaded(where=self._where, model=model, tokenizer=self.tokenizer)
        return held


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """A question of a conversation, its answer, and the passage that bore most of it."""

    question: str
    answer: str
    passage: Passage | None


def _in_full(question: str, turns: Sequence[Turn]) -> str:
    """A question as it can be looked up: one of a few words goes with the one that it takes up."""
    few = len(question.split()) <= _FEW_WORDS and len(question) <= _FEW_CHARACTERS
    if turns and few:
        return f"{turns[-1].question} {question}"
    return question


def _with(found: list[Passage], one: Passage | None) -> list[Passage]:
    """Passages with one more, in the order of the text, unless it is among them."""
    if one is None or any(one.start < other.end and other.start < one.end for other in found):
        return found
    return sorted([*found, replace(one, score=0.0)], key=lambda passage: passage.start)


@dataclass(slots=True, kw_only=True)
class OpenText:
    """A document that was read, open for questions.

    Attributes:
        session: What read it.
        loaded: The model, with the context that the document needs.
        volumes: What was read: one, unless the text is longer than the model's context.
        document: The document.
        text: Its tokens, those of all volumes.
        room: Tokens of room behind each volume.
        load_seconds: What loading the model took.
        read_seconds: What reading took.
    """

    session: Session
    loaded: Loaded
    volumes: list[Volume]
    document: Document
    text: Text
    room: int
    load_seconds: float
    read_seconds: float
    _words: Bm25 | None = field(default=None, init=False)

    @property
    def tokens(self) -> int:
        """Tokens that were read or kept."""
        return sum(len(volume.text.ids) for volume in self.volumes)

    @property
    def reused_tokens(self) -> int:
        """Those that did not have to be read."""
        return sum(volume.reused_tokens for volume in self.volumes)

    @property
    def words(self) -> Bm25:
        """The blocks by their words."""
        if self._words is None:
            spans = block_spans(self.text, self.loaded.model.config.select_block)
            self._words = Bm25([self.document.text[start:end] for start, end in spans])
        return self._words

    def scores(self, question: str) -> Tensor:
        """How well each block goes with a question: (N,); see `relevance`."""
        attention = self.attention(self.session.prompter.question(question))
        config = self.loaded.model.config
        attention = rested(attention, self.text, config.select_block)
        few = config.answer_select_count is not None
        return relevance(attention, self.words.scores(question), few=few)

    def attention(self, asked: Question) -> Tensor:
        """How much attention a question gives each block: (N,); see `block_scores`.

        A block of a kept reading that turns out to be damaged is read anew.
        """
        found: list[Tensor] = []
        for first in range(0, len(self.volumes), _TOGETHER):
            some = self.volumes[first : first + _TOGETHER]
            found += self._attention(some, asked)
            if len(self.volumes) > 1:
                for volume in some:
                    volume.cache.let_go()
        return torch.cat(found)

    def _attention(self, volumes: Sequence[Volume], asked: Question) -> list[Tensor]:
        model = self.loaded.model
        caches, texts = [each.cache for each in volumes], [each.text for each in volumes]
        try:
            return block_scores(model, caches, texts, asked)
        except DamagedError:
            if len(volumes) > 1:  # one of them, alone it is found out which
                return [scores for each in volumes for scores in self._attention([each], asked)]
            name = self.document.name
            self.session.emit(
                Note(text=f"the kept reading of {name} is damaged; reading that part anew")
            )
            volumes[0].read_again(self.room, name)
            return block_scores(model, [volumes[0].cache], texts, asked)

    def answer(self, question: str, scores: Tensor | None = None) -> Finished:
        """Answer a question; the text stays open for the next one.

        Args:
            question: What is asked.
            scores: Its own, where they are known already.
        """
        return self.answer_after((), question, scores=scores)[0]

    def answer_after(
        self,
        turns: Sequence[Turn],
        question: str,
        instructions: str = "",
        scores: Tensor | None = None,
    ) -> tuple[Finished, Turn]:
        """Answer a question that may take up earlier ones.

        The model sees the earlier questions and answers, and the passage of the last answer
        beside those that the question lights on.

        Args:
            turns: Earlier questions with their answers, in order.
            question: What is asked now.
            instructions: What the answer is to heed; they do not tell where to look.
            scores: Of the question, where they are known already; see `scores`.

        Returns:
            The answer, and the turn that it makes.
        """
        prompter, size = self.session.prompter, self.loaded.model.config.select_block
        earlier = [(turn.question, turn.answer) for turn in turns]
        asked = prompter.question(question, earlier, instructions)
        started = time.monotonic()
        if scores is None:
            scores = self.scores(_in_full(question, turns))
        found = look(scores, self.text, self.document, size)
        passages = _with(found, turns[-1].passage if turns else None)
        whole = self.text.document_tokens <= CLOSE_TOKENS
        text, answer = self.decode(passages, asked, started, whole=whole)
        weighed = weigh(passages, answer.mass, text, size)
        for passage in weighed:
            at = place(self.document.locate(passage.start, passage.end))
            log.info("looked at %s, %.2f of the attention", at, passage.score)
        log.info(
            "%d tokens of answer, the first after %.1f s, then %.1f a second",
            answer.tokens,
            answer.first_token_seconds,
            answer.tokens_per_second,
        )
        config = self.loaded.model.config
        finished = Finished(
            answer=answer.text,
            citations=cite(self.document, weighed, answer.text, question),
            model=self.loaded.where.name,
            attention={
                "reading": asdict(config.reading()),
                "answering": asdict(config.answering()),
            },
            finish_reason=answer.finish_reason,
            stats=self.stats(asked, answer),
        )
        best = max(weighed, key=lambda passage: passage.score, default=None)
        return finished, Turn(question=question, answer=answer.text, passage=best)

    def find(self, query: str, top: int) -> list[Match]:
        """The passages that a query lights on, best first.

        Args:
            query: What to look for, in words or as a question.
            top: Passages at most.
        """
        size = self.loaded.model.config.select_block
        found = passages_of(best_runs(self.scores(query), top, 0), self.text, self.document, size)
        matches = []
        for passage in sorted(found, key=lambda each: each.score, reverse=True):
            start, end = best_sentence(self.document, passage, "", query)
            if start < end:
                at = self.document.locate(start, end)
                matches.append(
                    Match(
                        source=at.source,
                        page=at.page,
                        page_label=at.page_label,
                        line_start=at.line_start,
                        line_end=at.line_end,
                        quote=self.document.text[start:end],
                        score=round(passage.score, 4),
                        unit=at.unit,
                    )
                )
        return matches

    def decode(
        self,
        passages: Sequence[Passage],
        asked: Question,
        started: float,
        *,
        whole: bool,
        max_tokens: int | None = None,
    ) -> tuple[Text, Answer]:
        """Decode an answer from some passages, or from all of a text.

        Args:
            passages: What to answer from.
            asked: The question.
            started: When the question came, on the monotonic clock, in seconds.
            whole: Whether to answer from all of the text.
            max_tokens: Of the answer; what the options say when None.

        Returns:
            The text that the answer was decoded from, and the answer.
        """
        first = self.volumes[0]  # where a text says what it is about
        if not passages and not whole:  # any block may be attended to, so all are checked before
            first.read_again(self.room, self.document.name)
        text, cache, length = first.text, first.cache, first.cache.length
        model, options = self.loaded.model, self.session.options
        if max_tokens is not None:
            options = replace(options, max_tokens=max_tokens)
        if passages and not whole:
            text = self.session.prompter.excerpts(self.document, passages)
            cache = KVCache(
                model.config, len(text.ids) + self.room, dtype=model.dtype, device=model.homes
            )
            for _ in prefill(model, text.ids, cache):
                pass
        try:
            answer = decode_answer(
                self.loaded, cache, text, asked, options, self.session.emit, started
            )
        finally:  # Ctrl-C in a chat
            first.cache.truncate(length)
        return text, answer

    def stats(self, asked: Question, answer: Answer) -> Stats:
        """Counts and times of an answer."""
        return Stats(
            document_tokens=self.tokens,
            reused_tokens=self.reused_tokens,
            question_tokens=len(asked.ids),
            answer_tokens=answer.tokens,
            load_seconds=round(self.load_seconds, 3),
            prefill_seconds=round(self.read_seconds, 3),
            time_to_first_token_seconds=round(answer.first_token_seconds, 3),
            decode_tokens_per_second=round(answer.tokens_per_second, 2),
            peak_memory_bytes=peak_memory_bytes(),
            cache_bytes=sum(volume.ledger.bytes_held for volume in self.volumes),
            cache_bytes_touched=sum(volume.ledger.bytes_touched for volume in self.volumes),
            left_out_lines=self.document.left_out_lines,
        )

"""A model at work on documents: each is read once, then asked, searched or summed up.

A text is kept when it was read; a question looks over all of it, the passages it lights on are
read again closely, and the answer is decoded from those. A short text is answered directly.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from nsa_cli.context.tokens import Question, Text
from nsa_cli.documents import Document
from nsa_cli.documents.location import place
from nsa_cli.engine.generate import Answer, Loaded, decode_answer
from nsa_cli.events import Finished, Note
from nsa_cli.kv_store.block_access import DamagedError
from nsa_cli.kv_store.windows import Volume
from nsa_cli.output.logging import log
from nsa_cli.results import Match, Passage, Stats, Turn
from nsa_cli.retrieval.attention import block_scores, rested
from nsa_cli.retrieval.bm25 import Bm25
from nsa_cli.retrieval.citations import best_sentence, cite
from nsa_cli.retrieval.passages import CLOSE_TOKENS, best_runs, look, passages_of, weigh
from nsa_cli.retrieval.ranking import block_spans, relevance
from nsa_cli.retrieval.retriever import WINDOWS_TOGETHER, in_full
from nsa_cli.system import peak_memory_bytes
from nsa_models.cache.kv_cache import KVCache
from nsa_models.generation.generate import prefill

if TYPE_CHECKING:
    from nsa_cli.engine.session import Session


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
        for first in range(0, len(self.volumes), WINDOWS_TOGETHER):
            some = self.volumes[first : first + WINDOWS_TOGETHER]
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
            scores = self.scores(in_full(question, turns))
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

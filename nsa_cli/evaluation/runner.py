"""A model at work on texts with known answers, by the very steps of `nsa ask`.

A text is read once for all its questions, and for all budgets of blocks to answer with, since
these do not change what was read.
"""

from __future__ import annotations

import itertools
import re
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nsa_cli.config.options import Options
from nsa_cli.documents import Document, Piece
from nsa_cli.engine.engine import Desk
from nsa_cli.evaluation.gold_rank import best_rank, gold_blocks
from nsa_cli.evaluation.metrics import Score, overlap_rank, score
from nsa_cli.evaluation.suites import Plan, Wanted
from nsa_cli.events import AnswerText, Event, Note, Overall
from nsa_models.errors import DoesNotFitError
from nsa_models.tasks import Example

if TYPE_CHECKING:
    from nsa_cli.engine.open_document import OpenText
    from nsa_cli.results import Citation
    from nsa_models.modeling.model import NSALanguageModel

Blocks = int | None | str
"""Blocks to answer with: a number, None for all of the text, or `model` for what is configured."""

_QUESTION_ROOM = 96
"""Tokens of instruction, question and template at most."""

_QUESTION_WORK = 1500
"""How many tokens of reading an answer counts as, for the time that is left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One way to read and answer.

    Attributes:
        model: As `--model` takes it.
        attention: `nsa` or `dense`, of the reading.
        blocks: Blocks of 64 tokens to answer with; `all`, or a number as text.
        adapter: Folder of the trained changes that were applied; None for none.
    """

    model: str
    attention: str
    blocks: str
    adapter: str | None = None

    @property
    def weights(self) -> str:
        """The model, and what was changed in it."""
        return self.model + (f" with {self.adapter}" if self.adapter else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One question, and what came of it.

    Attributes:
        setting: How it was read and answered.
        suite: Of the question.
        length: Tokens wanted, text, question and answer together.
        depth: Of the single needle, a share of the text; else None.
        tokens: That the text had.
        question: What was asked.
        gold: Right answers.
        answer: What was said.
        score: How right it is.
        citation_rank: The first citation whose quote shares a character with the evidence, from
            1; None if none of the three does.
        passage_rank: Rank of the best block of the evidence in the model's look, from 1; None
            where none draws attention.
        bm25_rank: The same by BM25; None where none shares a word.
        bm25_asked: Whether BM25 ranked at all.
        read_seconds: Reading the text, for all of its questions.
        answer_seconds: The look and the answer.
    """

    setting: Setting
    suite: str
    length: int
    depth: float | None
    tokens: int
    question: str
    gold: tuple[str, ...]
    answer: str
    score: Score
    citation_rank: int | None
    passage_rank: int | None
    bm25_rank: int | None
    bm25_asked: bool
    read_seconds: float
    answer_seconds: float

    def without_depth(self) -> Record:
        """The same, to be counted with those at other depths."""
        return replace(self, depth=None)


def evaluate(
    plan: Plan,
    options: Sequence[Options],
    blocks: Sequence[Blocks],
    emit: Callable[[Event], None],
    *,
    bm25: bool = False,
) -> Iterator[Record]:
    """Ask everything that is planned, of each model and attention, with each budget of blocks.

    Args:
        plan: What is read and asked.
        options: A model and an attention each; nothing is kept, whatever they say.
        blocks: Budgets to answer with.
        emit: Receives progress and notes.
        bm25: Whether to rank passages by BM25 too.

    Yields:
        A record for each question, as soon as it is answered.

    Raises:
        NsaError: If a model cannot be had, or a text does not fit it.
    """
    wanted = list(plan.texts())
    work = [each.length + each.questions * len(blocks) * _QUESTION_WORK for each in wanted]
    total, done = sum(work) * len(options), 0
    told: set[str] = set()

    def heard(event: Event) -> None:
        if isinstance(event, AnswerText):
            return
        if isinstance(event, Note):  # each text brings the same ones
            said = re.sub(r"\d", "", event.text)
            if said in told:
                return
            told.add(said)
        emit(event)

    desks = [Desk(each, heard) for each in options]
    for desk in desks:
        if desk.options.yarn:
            _refuse_too_long(desk, max(plan.lengths))
    while desks:
        desk = desks.pop(0)  # the memory of the one before goes
        named = f"{desk.where.name}, {attention_of(desk.options)}"
        for text, weight in zip(wanted, work, strict=True):
            emit(Overall(done=done, total=total, name=f"{text.name}, {named}"))
            yield from _ask(plan, text, desk, blocks, bm25=bm25)
            done += weight
    emit(Overall(done=total, total=total, name=""))


def attention_of(options: Options) -> str:
    """The attention of the reading, as the command line calls it."""
    return ("dense" if options.dense else "nsa") + (" yarn" if options.yarn else "")


def _refuse_too_long(desk: Desk, length: int) -> None:
    """Refuse before hours of shorter texts what the model cannot carry.

    Raises:
        DoesNotFitError: If it cannot carry the longest text.
    """
    from nsa_models.configuration.yarn import longest_context
    from nsa_models.weights.load import load_config

    longest = longest_context(*load_config(desk.where.folder, desk.where.adapter))
    if length > longest:
        raise DoesNotFitError(
            f"{length:,} tokens are more than the {longest:,} that {desk.where.name} carries",
            hint="lower --lengths, or choose a model with a longer context with --model",
        )


def _ask(
    plan: Plan, wanted: Wanted, desk: Desk, blocks: Sequence[Blocks], *, bm25: bool
) -> Iterator[Record]:
    from nsa_cli.retrieval.ranking import block_spans

    session, prompter = desk.session, desk.session.prompter
    room = _QUESTION_ROOM + desk.options.max_tokens
    examples = plan.make(
        wanted, lambda text: len(prompter.whole(_document(text, wanted.name)).ids), room
    )
    document = _document(examples[0].context, wanted.name)
    opened = session.read(document, desk.room([example.question for example in examples]))
    for volume in opened.volumes:
        volume.cache.observe = None  # counts what is touched, block by block, on the host
    spans = block_spans(opened.text, opened.loaded.model.config.select_block)
    lines = [0, *itertools.accumulate(len(line) + 1 for line in document.text.split("\n"))]
    for budget in blocks:
        with answering_with(opened.loaded.model, budget) as named:
            setting = Setting(
                model=desk.options.model,
                attention=attention_of(desk.options),
                blocks=named,
                adapter=None if desk.where.adapter is None else str(desk.where.adapter),
            )
            for example in examples:
                yield _record(opened, wanted, setting, example, spans, lines, bm25=bm25)


def _record(
    opened: OpenText,
    wanted: Wanted,
    setting: Setting,
    example: Example,
    spans: Sequence[tuple[int, int]],
    lines: Sequence[int],
    *,
    bm25: bool,
) -> Record:
    began = time.monotonic()
    scores = opened.scores(example.question)
    finished = opened.answer(example.question, scores)
    seconds = time.monotonic() - began
    gold = gold_blocks(spans, example.evidence)
    quotes = [quoted(opened.document.text, each, lines) for each in finished.citations]
    return Record(
        setting=setting,
        suite=wanted.suite,
        length=wanted.length,
        depth=wanted.depth,
        tokens=opened.tokens,
        question=example.question,
        gold=example.answers,
        answer=finished.answer,
        score=score(finished.answer, example.answers, every=example.every),
        citation_rank=overlap_rank(quotes, example.evidence),
        passage_rank=best_rank(scores.tolist(), gold),
        bm25_rank=best_rank(opened.words.scores(example.question).tolist(), gold) if bm25 else None,
        bm25_asked=bm25,
        read_seconds=opened.read_seconds,
        answer_seconds=seconds,
    )


def quoted(text: str, citation: Citation, lines: Sequence[int]) -> tuple[int, int]:
    """The characters of a citation's quote, found from the line that it names.

    Args:
        text: Of the document, a single piece.
        citation: One of its citations.
        lines: Where each line begins.
    """
    start = text.find(citation.quote, lines[citation.line_start - 1])
    assert start >= 0, citation
    assert bisect_right(lines, start) == citation.line_start, citation
    return start, start + len(citation.quote)


@contextmanager
def answering_with(model: NSALanguageModel, blocks: Blocks) -> Iterator[str]:
    """A model that answers with a number of blocks; as before afterwards.

    Args:
        model: The model.
        blocks: See `Blocks`.

    Yields:
        The number as text, or `all`.
    """
    config = model.config
    before: int | None = config.answer_select_count
    if not isinstance(blocks, str):
        config.answer_select_count = blocks
    try:
        now = config.answer_select_count
        yield "all" if now is None else str(now)
    finally:
        config.answer_select_count = before


def _document(text: str, name: str) -> Document:
    """A text that is in NFC as it is, so that its ranges hold."""
    piece = Piece(source=name, page=None, page_label=None, start=0, end=len(text), first_line=1)
    return Document(name=name, text=text, pieces=(piece,))

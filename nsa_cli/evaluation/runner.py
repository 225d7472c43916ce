"""Runs the suites of `nsa eval` through the engine of `nsa ask`.

A text is prefilled once for all its questions and all budgets of blocks, since these do not change
its keys and values.
"""

from __future__ import annotations

import itertools
import re
import time
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from nsa_cli.config.options import Options
from nsa_cli.documents import Document, Piece
from nsa_cli.engine.engine import Engine
from nsa_cli.evaluation.gold_rank import best_rank, gold_blocks
from nsa_cli.evaluation.metrics import Score, overlap_rank, score
from nsa_cli.evaluation.suites import Plan, TextSpec
from nsa_cli.events import AnswerFinished, AnswerText, BatchProgress, Emit, Event, Note, drain
from nsa_models.errors import DoesNotFitError
from nsa_models.tasks import Example

if TYPE_CHECKING:
    from torch import Tensor

    from nsa_cli.engine.open_document import OpenDocument
    from nsa_cli.results import Citation
    from nsa_cli.retrieval.ranking import BlockScores

Blocks = int | Literal["model"] | None
"""Blocks that a question attends to: a number, None for the whole text, `model` for the model's
configuration."""

_QUESTION_ROOM = 96
"""Maximum tokens of instruction, question and template."""

_QUESTION_WORK = 1500
"""Prefill tokens that an answer counts as, for the progress."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One way to read and answer.

    Attributes:
        model: The model, as the command line names it.
        attention: Attention of the prefill: `nsa` or `dense`.
        blocks: Blocks of 64 tokens that a question attends to; `all`, or a number as text.
        adapter: Folder of the adapter; None for none.
        yarn: Whether YaRN extends the context; else long texts are read in windows.
    """

    model: str
    attention: str
    blocks: str
    adapter: str | None = None
    yarn: bool = False

    @property
    def weights(self) -> str:
        """Model and adapter."""
        return self.model + (f" with {self.adapter}" if self.adapter else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class QuestionResult:
    """One question and its result.

    Attributes:
        setting: How it was read and answered.
        suite: Its suite.
        length: Planned tokens of text, question and answer together.
        depth: Depth of a single needle as a share of the text; else None.
        tokens: Tokens of the text.
        question: The question.
        gold: Right answers.
        answer: The answer.
        score: Its score.
        citation_rank: Rank from 1 of the first citation that overlaps the gold span; None if none
            of the three does.
        passage_rank: Rank from 1 of the best gold block by the scores; None if all score 0.
        bm25_rank: The same by BM25 alone.
        bm25_asked: Whether BM25 ranks were asked for.
        read_seconds: Prefill of the text, once for all of its questions.
        answer_seconds: Retrieval and answer.
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

    def without_depth(self) -> QuestionResult:
        """Return the result without depth, to be counted with other depths."""
        return replace(self, depth=None)


def evaluate(
    plan: Plan,
    options: Sequence[Options],
    blocks: Sequence[Blocks],
    emit: Emit,
    *,
    bm25: bool = False,
) -> Iterator[QuestionResult]:
    """Ask all planned questions, of each model and attention, with each budget of blocks.

    Args:
        plan: Texts and questions.
        options: A model and an attention each.
        blocks: Budgets of blocks.
        emit: Receives progress and notes.
        bm25: Whether to rank blocks by BM25 alone, too.

    Yields:
        The result of each question, as soon as it is answered.

    Raises:
        NsaError: If a model is not available, or a text does not fit it.
    """
    specs = list(plan.texts())
    work = [each.length + each.questions * len(blocks) * _QUESTION_WORK for each in specs]
    total, done = sum(work) * len(options), 0
    told: set[str] = set()

    def heard(event: Event) -> None:
        if isinstance(event, AnswerText):
            return
        if isinstance(event, Note):  # every text has the same notes
            said = re.sub(r"\d", "", event.text)
            if said in told:
                return
            told.add(said)
        emit(event)

    engines = [Engine(each, heard) for each in options]
    for engine in engines:
        if engine.options.yarn:
            _refuse_too_long(engine, max(plan.lengths))
    while engines:
        engine = engines.pop(0)  # frees the memory of the one before
        named = f"{engine.folder.name}, {attention_of(engine.options)}"
        for text, weight in zip(specs, work, strict=True):
            emit(BatchProgress(done=done, total=total, name=f"{text.name}, {named}"))
            yield from _ask(plan, text, engine, blocks, bm25=bm25)
            done += weight
    emit(BatchProgress(done=total, total=total, name=""))


def attention_of(options: Options) -> str:
    """Return the attention of the prefill, as the command line calls it."""
    return ("dense" if options.dense else "nsa") + (" yarn" if options.yarn else "")


def _refuse_too_long(engine: Engine, length: int) -> None:
    """Refuse a length that does not fit the model, before hours of shorter texts.

    Raises:
        DoesNotFitError: If the longest text does not fit.
    """
    from nsa_models.configuration.yarn import longest_context
    from nsa_models.weights.load import load_config

    longest = longest_context(*load_config(engine.folder.folder, engine.folder.adapter))
    if length > longest:
        raise DoesNotFitError(
            f"{length:,} tokens are more than the {longest:,} that {engine.folder.name} takes",
            hint="lower --lengths, or choose a model with a longer context with --model",
        )


def _ask(
    plan: Plan, spec: TextSpec, engine: Engine, blocks: Sequence[Blocks], *, bm25: bool
) -> Iterator[QuestionResult]:
    """Ask all questions about one text, with each budget of blocks."""
    prompts, options = engine.prompts, engine.options
    from nsa_cli.context.tokens import answer_room
    from nsa_cli.engine.answer import answer_steps
    from nsa_cli.retrieval.ranking import block_spans

    examples = plan.make(
        spec,
        lambda text: len(prompts.whole(_document(text, spec.name)).ids),
        _QUESTION_ROOM + options.max_tokens,
    )
    questions = [prompts.question(example.question) for example in examples]
    document = _document(examples[0].context, spec.name)
    room = answer_room(questions, options.max_tokens)
    opened = drain(engine.prefill_chunks(document, room), engine.emit)
    for window in opened.windows:
        window.cache.observe = None  # counting blocks on the host takes time
    spans = block_spans(opened.text, opened.block_tokens)
    lines = [0, *itertools.accumulate(len(line) + 1 for line in document.text.split("\n"))]
    setting = Setting(
        model=options.model,
        attention=attention_of(options),
        blocks="all",
        adapter=None if engine.folder.adapter is None else str(engine.folder.adapter),
        yarn=options.yarn,
    )
    for budget in blocks:
        generation = replace(opened.options, answer_blocks=budget)
        count = generation.attention(opened.model.config).select_count
        setting = replace(setting, blocks="all" if count is None else str(count))
        for example, question in zip(examples, questions, strict=True):
            began = time.monotonic()
            scores = opened.retriever.scores(question, generation.attention(opened.model.config))
            steps = answer_steps(opened, question, generation, scores=scores)
            finished, _ = drain(steps, opened.emit)
            seconds = time.monotonic() - began
            answered = _Answered(example=example, finished=finished, seconds=seconds)
            words = opened.retriever.bm25.scores(example.question) if bm25 else None
            yield _result(opened, spec, setting, answered, scores, words, spans, lines)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answered:
    """A question of a suite and its answer."""

    example: Example
    finished: AnswerFinished
    seconds: float


def _result(
    opened: OpenDocument,
    spec: TextSpec,
    setting: Setting,
    answered: _Answered,
    scores: BlockScores,
    words: Tensor | None,
    spans: Sequence[tuple[int, int]],
    lines: Sequence[int],
) -> QuestionResult:
    """Score an answer.

    Args:
        opened: The document.
        spec: The text in its plan.
        setting: How it was read and answered.
        answered: Question and answer.
        scores: Block scores of the question.
        words: (N,) the same by BM25 alone, or None.
        spans: Characters of each block.
        lines: First character of each line.
    """
    example, text = answered.example, opened.document.text
    gold = gold_blocks(spans, example.evidence)
    quotes = [quoted(text, each, lines) for each in answered.finished.citations]
    return QuestionResult(
        setting=setting,
        suite=spec.suite,
        length=spec.length,
        depth=spec.depth,
        tokens=opened.tokens,
        question=example.question,
        gold=example.answers,
        answer=answered.finished.answer,
        score=score(answered.finished.answer, example.answers, every=example.every),
        citation_rank=overlap_rank(quotes, example.evidence),
        passage_rank=best_rank(scores.hybrid.tolist(), gold),
        bm25_rank=None if words is None else best_rank(words.tolist(), gold),
        bm25_asked=words is not None,
        read_seconds=opened.prefill_seconds,
        answer_seconds=answered.seconds,
    )


def quoted(text: str, citation: Citation, lines: Sequence[int]) -> tuple[int, int]:
    """Return the characters of a citation's quote, found from its line.

    Args:
        text: Text of the document, a single piece.
        citation: One of its citations.
        lines: First character of each line.
    """
    start = text.find(citation.quote, lines[citation.line_start - 1])
    assert start >= 0, citation
    assert bisect_right(lines, start) == citation.line_start, citation
    return start, start + len(citation.quote)


def _document(text: str, name: str) -> Document:
    """Make a document of a text that is in NFC already."""
    piece = Piece(source=name, page=None, page_label=None, start=0, end=len(text), first_line=1)
    return Document(name=name, text=text, pieces=(piece,))

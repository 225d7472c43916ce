"""Ways to answer a question about a document, with the same model and the same instruction.

nsa     what `nsa ask` does
find    what `nsa find` does: passages, no answer
words   the same without expressions, as are the following
more    from 2,048 tokens of the best parts, not 1,024, and with expressions
blocks  from the four best blocks of 64 tokens, by attention and BM25, with their neighbors
pages   from the stored keys and values of the best pages, by attention and BM25; `-ranked` ranks 8
        by the likelihood of the question, too, `-kept` leaves these at their positions, and
        `-passages` ends with the passages of `blocks`
chunks  the eight best chunks of 200 words by BM25 in the prompt, dense attention, nothing else read
gold    the pages that hold the answer in the prompt, dense attention
dense   the whole text in the prompt, dense attention, where it fits the model's context

The baselines answer by the engine's own generation, so that only the text in the prompt differs.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from nsa_cli.context.tokens import TokenizedQuestion, answer_room
from nsa_cli.documents import Document, Location
from nsa_cli.engine.answer import answer_steps
from nsa_cli.engine.answer_signals import answer_signals
from nsa_cli.engine.engine import Engine
from nsa_cli.engine.generate import GenerationOptions
from nsa_cli.engine.open_document import OpenDocument
from nsa_cli.evaluation.document_suite.excerpts import Chunks, Excerpt, gold_pages
from nsa_cli.evaluation.document_suite.questions import Question
from nsa_cli.evaluation.document_suite.scores import TOP
from nsa_cli.events import Emit, Note, drain
from nsa_cli.results import Citation
from nsa_cli.retrieval.attention import without_attention_sinks
from nsa_cli.retrieval.citations import cite
from nsa_cli.retrieval.passages import top_passages
from nsa_cli.retrieval.ranking import BlockScores
from nsa_models.weights.load import load_config


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A question, and the way to answer it."""

    question: Question
    way: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WayAnswer:
    """An answer; the fields are those of `AnswerRow`."""

    answer: str
    citations: tuple[Citation, ...]
    found: tuple[Location, ...]
    finish_reason: str
    read_tokens: int
    answer_tokens: int
    read_seconds: float
    answer_seconds: float
    device: str
    computed: bool = False
    support: float | None = None
    signals: dict[str, float] | None = None


_WORDS: dict[str, Any] = {"compute": False, "verify": False}
_PAGES: dict[str, Any] = {"source": "pages", "part_tokens": 768, "page_tokens": 2048, **_WORDS}
_CHANGES: dict[str, dict[str, Any]] = {
    "nsa": {},
    "words": _WORDS,
    "more": {"page_tokens": 2048},
    "blocks": {"source": "passages", **_WORDS},
    "pages": {**_PAGES, "candidates": 0},
    "pages-ranked": _PAGES,
    "pages-kept": {**_PAGES, "move": False},
    "pages-passages": {**_PAGES, "source": "pages+passages"},
}
"""Changes to the generation options of each way that answers from what was read."""


def ask_reading(
    engine: Engine,
    document: Document,
    asked: Sequence[Asked],
    emit: Emit,
    *,
    signals: bool = False,
) -> Iterator[tuple[Asked, WayAnswer]]:
    """Read a document once, and answer questions about it as `nsa ask` and `nsa find` do.

    Args:
        engine: The model, with the settings of the command.
        document: The document.
        asked: Questions about it, each by a way of `READING`.
        emit: Receives progress.
        signals: Whether to measure the signals of each answer, after its time is taken.

    Yields:
        Each question with its answer.

    Raises:
        NsaError: If the document does not fit the model or the memory.
    """
    tokenized = {
        each.question.id: engine.prompts.question(each.question.question) for each in asked
    }
    room = answer_room(tokenized.values(), engine.options.max_tokens)
    opened = drain(engine.prefill_chunks(document, room), emit)
    for each in asked:
        began, question = time.monotonic(), tokenized[each.question.id]
        if each.way == "find":
            found = tuple(opened.find(question, TOP))
            yield each, _way_answer(opened, began, found=found)
            continue
        options = replace(opened.options, **_CHANGES[each.way])
        scores = opened.scores(question)
        finished, _ = drain(answer_steps(opened, question, options, scores=scores), emit)
        made = _way_answer(
            opened,
            began,
            answer=finished.answer,
            citations=finished.citations,
            finish_reason=finished.finish_reason,
            answer_tokens=finished.stats.answer_tokens,
            computed=finished.computation is not None,
        )
        made = replace(made, support=finished.support)
        if signals:
            found_signals = _signals(opened, question, finished.answer, options, scores)
            made = replace(made, signals=found_signals)
        yield each, made


def _signals(
    opened: OpenDocument,
    question: TokenizedQuestion,
    answer: str,
    options: GenerationOptions,
    scores: BlockScores,
) -> dict[str, float] | None:
    """Measure the signals of an answer in the context that it was decoded from."""
    passages = opened.passages(question, options, scores)
    context = opened.context(passages, question, options, scores)
    settings = options.attention(opened.model.config)
    found = answer_signals(opened, context, question, answer, settings)
    return None if found is None else {k: round(v, 4) for k, v in asdict(found).items()}


def ask_baselines(
    engine: Engine, document: Document, asked: Sequence[Asked], emit: Emit
) -> Iterator[tuple[Asked, WayAnswer]]:
    """Answer questions from what a way of `BASELINES` has in its prompt.

    A question whose prompt does not fit the model's context, or that has no text, is left out,
    and a note says so.

    Args:
        engine: The model, with dense attention.
        document: The document.
        asked: Questions about it, each by a way of `BASELINES`.
        emit: Receives progress and notes.

    Yields:
        Each question with its answer.

    Raises:
        NsaError: If memory runs out.
    """
    if whole := [each for each in asked if each.way == "dense"]:
        yield from _ask_whole(engine, document, whole, emit)
    began = time.monotonic()
    chunks = Chunks(document) if any(each.way == "chunks" for each in asked) else None
    index_seconds = time.monotonic() - began
    for each in asked:
        began = time.monotonic()
        excerpt: Excerpt | None = None
        if each.way == "chunks" and chunks is not None:
            excerpt = chunks.best(each.question.question)
        elif each.way == "gold":
            excerpt = gold_pages(document, each.question.places)
            if excerpt is None:
                emit(Note(text=f"{each.question.id}: its gold pages have no text; left out"))
        if excerpt is None:
            continue
        opened = _opened(engine, excerpt.document, [each.question], emit)
        if opened is None:
            emit(Note(text=f"{each.question.id}: {each.way} exceeds the model's context; left out"))
            continue
        began += opened.load_seconds
        answered = _generated(opened, each.question, excerpt, began, emit)
        read = index_seconds if each.way == "chunks" else 0.0
        yield each, replace(answered, read_seconds=read)


def _ask_whole(
    engine: Engine, document: Document, asked: Sequence[Asked], emit: Emit
) -> Iterator[tuple[Asked, WayAnswer]]:
    opened = _opened(engine, document, [each.question for each in asked], emit)
    if opened is None:
        emit(Note(text=f"{document.name}: dense exceeds the model's context; left out"))
        return
    for each in asked:
        yield each, _generated(opened, each.question, None, time.monotonic(), emit)


def _opened(
    engine: Engine, document: Document, questions: Sequence[Question], emit: Emit
) -> OpenDocument | None:
    """Prefill a text in one context window; None if it does not fit the trained context."""
    tokenized = [engine.prompts.question(each.question) for each in questions]
    room = answer_room(tokenized, engine.options.max_tokens)
    config, _ = load_config(engine.folder.folder, engine.folder.adapter)
    if len(engine.prompts.whole(document).ids) + room > config.max_position_embeddings:
        return None
    return drain(engine.prefill_chunks(document, room), emit)


def _generated(
    opened: OpenDocument, question: Question, excerpt: Excerpt | None, began: float, emit: Emit
) -> WayAnswer:
    """Answer from the whole prompt, and cite passages by the attention of the answer."""
    tokenized = opened.prompts.question(question.question)
    options = replace(opened.options, answer_blocks=None)
    steps = opened.generate(opened.whole(), tokenized, options, began)
    generated = drain(steps, emit)
    size = opened.block_tokens
    if excerpt is not None:
        passages, attention = excerpt.passages, generated.attention
    else:
        scores = without_attention_sinks(generated.attention.mass, opened.text, size)
        passages = tuple(top_passages(scores, opened.text, opened.document, size))
        attention = None
    cited = cite(opened.document, passages, generated.text, question.question, attention=attention)
    return _way_answer(
        opened,
        began,
        answer=generated.text,
        citations=cited.citations,
        found=() if excerpt is None else excerpt.ranked,
        finish_reason=generated.finish_reason,
        answer_tokens=generated.tokens,
    )


def _way_answer(
    opened: OpenDocument,
    began: float,
    *,
    answer: str = "",
    citations: tuple[Citation, ...] = (),
    found: tuple[Location, ...] = (),
    finish_reason: str = "stop",
    answer_tokens: int = 0,
    computed: bool = False,
) -> WayAnswer:
    device = opened.model.device
    on_gpu = device.type == "cuda"
    return WayAnswer(
        answer=answer,
        citations=citations,
        found=found,
        finish_reason=finish_reason,
        read_tokens=opened.text.document_tokens,
        answer_tokens=answer_tokens,
        read_seconds=opened.prefill_seconds,
        answer_seconds=time.monotonic() - began,
        computed=computed,
        device=torch.cuda.get_device_name(device) if on_gpu else device.type,
    )

"""Asks each question by each way; finished answers are kept, and not asked again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from nsa_cli.config.options import Options
from nsa_cli.documents import Location
from nsa_cli.engine.engine import Engine
from nsa_cli.evaluation.document_suite.questions import Question
from nsa_cli.evaluation.document_suite.rows import (
    BASELINES,
    READING,
    AnswerRow,
    AnswerRows,
    CitedPage,
)
from nsa_cli.evaluation.document_suite.scores import ScoredRow, scored
from nsa_cli.evaluation.document_suite.sources import Texts
from nsa_cli.evaluation.document_suite.ways import (
    Asked,
    WayAnswer,
    ask_baselines,
    ask_reading,
)
from nsa_cli.events import AnswerText, BatchProgress, Emit, Event, Note
from nsa_cli.results import Citation
from nsa_cli.system import git_commit
from nsa_models.errors import DoesNotFitError
from nsa_models.model_folder import SHIPPED


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentPlan:
    """What is asked.

    Attributes:
        questions: The questions, those of one document together.
        set_digest: SHA-256 of the set that they are from.
        ways: Some of `rows.WAYS`.
        texts: Where the documents come from.
        signals: Whether to measure the signals of each answer of the ways that read.
    """

    questions: tuple[Question, ...]
    set_digest: str
    ways: tuple[str, ...]
    texts: Texts
    signals: bool = False


def setting_of(options: Options) -> str:
    """Return what makes a difference to answers, in words: model, adapter, attention, limits."""
    adapter = {SHIPPED: "", None: ", no adapter"}.get(
        options.adapter, f", adapter {options.adapter}"
    )
    parts = {
        f", {options.quantization}": options.quantization is not None,
        ", dense reading": options.dense,
        f", answered by {options.answer_model}": options.answer_model is not None,
        f", {options.answer_blocks} blocks": options.answer_blocks is not None,
        ", yarn": options.yarn,
        f", {options.max_tokens} tokens at most": options.max_tokens
        != Options(model="").max_tokens,
    }
    return options.model + adapter + "".join(text for text, given in parts.items() if given)


def evaluate(
    plan: DocumentPlan, options: Sequence[Options], file: AnswerRows, emit: Emit
) -> Iterator[ScoredRow]:
    """Ask all planned questions that are not answered in the file, and append the answers.

    Args:
        plan: What is asked.
        options: A model and how it answers, each.
        file: Where the rows are.
        emit: Receives progress and notes, each note once.

    Yields:
        Each new answer with its scores.

    Raises:
        NsaError: If a model or a document cannot be used.
    """
    parts = [
        (each, tuple(way for way in plan.ways if way in ways))
        for each in options
        for ways in (READING, BASELINES)
    ]
    total = sum(len(_missing(plan, each, ways, file)) for each, ways in parts)
    done, heard, commit = 0, each_note_once(emit), git_commit()
    for each, ways in parts:
        missing = _missing(plan, each, ways, file)
        if not missing:
            continue
        dense = bool({*ways} & {*BASELINES})
        engine = Engine(replace(each, store=False, dense=dense or each.dense), heard)
        for names, asked in groupby(missing, key=lambda ask: ask.question.documents):
            emit(BatchProgress(done=done, total=total, name=f"{' and '.join(names)}, {each.model}"))
            some = list(asked)
            for ask, found in _answers(plan, engine, some, heard):
                row = _row(plan, ask, found, setting_of(each), commit)
                result = scored(row, ask.question)
                file.add(row, result.as_json())
                yield result
            done += len(some)
        del engine
    emit(BatchProgress(done=total, total=total, name=""))


def _missing(
    plan: DocumentPlan, options: Options, ways: Sequence[str], file: AnswerRows
) -> list[Asked]:
    setting = setting_of(options)
    return [
        Asked(question=question, way=way)
        for question in plan.questions
        for way in ways
        if not file.has((question.digest, way, setting))
        and not (way == "gold" and not question.is_answerable)
    ]


def _answers(
    plan: DocumentPlan, engine: Engine, asked: Sequence[Asked], emit: Emit
) -> Iterator[tuple[Asked, WayAnswer]]:
    """Answer questions about one document; report and skip those that do not fit."""
    document = plan.texts.read(asked[0].question.documents, emit)
    if document is None:
        return
    try:
        if asked[0].way in READING:
            yield from ask_reading(engine, document, asked, emit, signals=plan.signals)
        else:
            yield from ask_baselines(engine, document, asked, emit)
    except DoesNotFitError as error:
        emit(Note(text=f"{document.name}: {error.message}; its questions are left out"))


def _row(plan: DocumentPlan, ask: Asked, found: WayAnswer, setting: str, commit: str) -> AnswerRow:
    return AnswerRow(
        question=ask.question.id,
        digest=ask.question.digest,
        set_digest=plan.set_digest,
        way=ask.way,
        setting=setting,
        answer=found.answer,
        citations=tuple(map(_cited, found.citations)),
        found=tuple(map(_page, found.found)),
        finish_reason=found.finish_reason,
        read_tokens=found.read_tokens,
        answer_tokens=found.answer_tokens,
        read_seconds=round(found.read_seconds, 3),
        answer_seconds=round(found.answer_seconds, 3),
        commit=commit,
        device=found.device,
        computed=found.computed,
        support=found.support,
        signals=found.signals,
    )


def _page(location: Location) -> CitedPage:
    name = location.source.removesuffix(".pdf")
    return CitedPage(source=name, page=location.page, line=location.line_start)


def _cited(citation: Citation) -> CitedPage:
    return replace(_page(citation), quote=citation.quote, verified=citation.verified)


def each_note_once(emit: Emit) -> Callable[[Event], None]:
    """Pass on events but the text of answers, and each note once."""
    told: set[str] = set()

    def heard(event: Event) -> None:
        if isinstance(event, AnswerText):
            return
        if isinstance(event, Note):
            if event.text in told:
                return
            told.add(event.text)
        emit(event)

    return heard

"""Makes the summaries that the file of rows lacks."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from nsa_cli.config.options import Options
from nsa_cli.config.summary_length import SummaryLength, SummaryRequest
from nsa_cli.context.prompt import fixed_words
from nsa_cli.documents import Document
from nsa_cli.engine.engine import Engine
from nsa_cli.evaluation.document_suite.runner import each_note_once, setting_of
from nsa_cli.evaluation.summary_suite.meetings import Meeting
from nsa_cli.evaluation.summary_suite.rows import SummaryRow, SummaryRows
from nsa_cli.evaluation.summary_suite.ways import (
    CHUNK_WORDS,
    Made,
    by_beginning,
    by_map_reduce,
    by_nsa,
    request,
)
from nsa_cli.events import BatchProgress, Emit, Note
from nsa_cli.summaries.prompts import prompts_of
from nsa_cli.system import git_commit
from nsa_models.errors import DoesNotFitError

_MAKERS: dict[str, Callable[[Engine, Document, SummaryLength, Emit], Made]] = {
    "nsa": by_nsa,
    "beginning": by_beginning,
    "map-reduce": by_map_reduce,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SummaryPlan:
    """What is summarized.

    Attributes:
        meetings: The meetings, in order.
        ways: Some of `rows.WAYS`.
        length: Length of each summary.
    """

    meetings: Sequence[Meeting]
    ways: tuple[str, ...]
    length: SummaryLength


def summary_setting(options: Options, length: SummaryLength) -> str:
    """Return what makes a difference to summaries, in words, with a digest of all prompts."""
    asked = [*prompts_of(SummaryRequest(length=length)), request(length.words)]
    prompts = [options.system, *fixed_words(), *asked, request(CHUNK_WORDS)]
    digest = hashlib.sha256(json.dumps(prompts).encode()).hexdigest()[:8]
    return f"{setting_of(options)}, {length.words} words, prompts {digest}"


def evaluate_summaries(
    plan: SummaryPlan, options: Sequence[Options], file: SummaryRows, emit: Emit
) -> Iterator[SummaryRow]:
    """Make all planned summaries that the file lacks, and append them.

    Args:
        plan: What is summarized.
        options: A model and how it reads, each.
        file: Where the rows are.
        emit: Receives progress and notes, each note once.

    Yields:
        Each new row.

    Raises:
        NsaError: If a model cannot be used, or a row cannot be written.
    """
    heard, commit = each_note_once(emit), git_commit()
    missing = [
        (each, way, meeting)
        for each in options
        for way in plan.ways
        for meeting in plan.meetings
        if not file.has((meeting.digest, way, summary_setting(each, plan.length)))
    ]
    engine: Engine | None = None
    last: tuple[Options, bool] | None = None
    for done, (each, way, meeting) in enumerate(missing):
        name = f"{meeting.title}, {way}, {each.model}"
        emit(BatchProgress(done=done, total=len(missing), name=name))
        needed = (each, way != "nsa" or each.dense)
        if engine is None or last != needed:
            engine = None  # free the memory of the model before the next is loaded
            engine = Engine(replace(each, store=False, dense=needed[1]), heard)
            last = needed
        try:
            made = _MAKERS[way](engine, meeting.document, plan.length, heard)
        except DoesNotFitError as error:
            emit(Note(text=f"{meeting.title}: {error.message}; left out"))
            continue
        row = SummaryRow(
            meeting=meeting.title,
            digest=meeting.digest,
            way=way,
            setting=summary_setting(each, plan.length),
            sentences=made.sentences,
            read_tokens=made.read_tokens,
            written_tokens=made.written_tokens,
            seconds=round(made.seconds, 3),
            commit=commit,
            device=made.device,
        )
        file.add(row)
        yield row
    emit(BatchProgress(done=len(missing), total=len(missing), name=""))

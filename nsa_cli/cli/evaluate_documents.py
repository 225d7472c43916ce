"""`nsa eval documents`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from nsa_cli.cli import console, values
from nsa_cli.cli.errors import interruptible
from nsa_cli.config.options import Options
from nsa_models.errors import UsageError

if TYPE_CHECKING:
    from nsa_cli.evaluation.document_suite.questions import QuestionSet
    from nsa_cli.evaluation.document_suite.sources import Texts
    from nsa_cli.evaluation.runner import Blocks
    from nsa_cli.output.batch_progress import BatchRenderer


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentsRequest:
    """What the command line asks for; the fields are the options of `nsa eval`."""

    data: Path
    documents: Path | None
    ways: str
    only: str | None
    limit: int | None
    seed: int
    held_out: bool
    signals: bool
    report: bool
    out: Path | None
    plot: Path | None
    json: bool
    quiet: bool


def run(
    request: DocumentsRequest,
    settings: Sequence[Options],
    budgets: Sequence[Blocks],
    *,
    is_default: bool,
) -> None:
    """Ask the questions that are not answered in `--out`, and show the report of all.

    Args:
        request: The options of the suite.
        settings: A model and an attention each.
        budgets: Blocks that a question attends to.
        is_default: Whether `--max-tokens` was not given, so that it is that of `nsa ask`.

    Raises:
        NsaError: If an option is invalid, or a file, model or document cannot be used.
    """
    from nsa_cli.evaluation.document_suite.questions import chosen
    from nsa_cli.evaluation.document_suite.report import print_report, report, scored_rows
    from nsa_cli.evaluation.document_suite.rows import AnswerRows
    from nsa_cli.evaluation.document_suite.runner import DocumentPlan, evaluate
    from nsa_cli.evaluation.report import versions
    from nsa_cli.output.batch_progress import BatchRenderer, each_hundredth

    ways, options = _ways(request), _options(settings, budgets, is_default=is_default)
    progress = BatchRenderer("Evaluation", each_hundredth(), quiet=request.quiet)
    questions, texts = _load(request, options[0], progress)
    only = tuple(filter(None, (request.only or "").split(",")))
    asked = chosen(questions, only=only, limit=request.limit, seed=request.seed)
    plan = DocumentPlan(
        questions=asked,
        set_digest=questions.digest,
        ways=ways,
        texts=texts,
        signals=request.signals,
    )
    file = AnswerRows(request.out)
    kept = "nothing was stored" if request.out is None else "answers are in --out; run it again"
    with interruptible(kept):
        try:
            for _ in () if request.report else evaluate(plan, options, file, progress):
                pass
        finally:
            progress.close()
    result = {**report(questions, asked, scored_rows(file.rows, asked), request.seed), **versions()}
    if request.json:
        console.print_json(result)
    else:
        print_report(result)


def _ways(request: DocumentsRequest) -> tuple[str, ...]:
    """Check the options that belong to other suites, and return the ways."""
    from nsa_cli.evaluation.document_suite.rows import WAYS

    if request.report and request.out is None:
        raise UsageError("--report needs a file", hint="name it with --out")
    if request.plot is not None:
        raise UsageError("--plot is not for the suite documents", hint="leave it out")
    ways = tuple(dict.fromkeys(request.ways.split(",")))
    for way in ways:
        values.check_choice("--ways", way, WAYS)
    return ways


def _options(
    settings: Sequence[Options], budgets: Sequence[Blocks], *, is_default: bool
) -> list[Options]:
    """Return the options of `nsa ask` for each model."""
    if len({each.dense for each in settings}) > 1 or len(budgets) > 1 or None in budgets:
        raise UsageError(
            "the suite documents takes one --attention and one number of --answer-blocks",
            hint="run it once for each, with the same --out",
        )
    [budget] = budgets
    blocks = budget if isinstance(budget, int) else None
    most = Options(model="").max_tokens
    return [
        replace(each, answer_blocks=blocks, max_tokens=most if is_default else each.max_tokens)
        for each in settings
    ]


def _load(
    request: DocumentsRequest, options: Options, progress: BatchRenderer
) -> tuple[QuestionSet, Texts]:
    """Return the questions and where their documents come from.

    Raises:
        DataError: If a file is missing or has another form.
    """
    from nsa_cli.evaluation.document_suite.questions import changes, read_frozen, read_questions
    from nsa_cli.evaluation.document_suite.sources import DocumentFolder, KnownTexts
    from nsa_cli.evaluation.document_suite.tables import read_data

    if not request.data.is_dir():
        questions, documents = read_data(request.data, held_out=request.held_out)
        return questions, KnownTexts(documents)
    if request.documents is None and not request.report:
        raise UsageError("documents needs the PDFs", hint="name their folder with --documents")
    folder = request.documents or request.data
    if not folder.is_dir():
        raise UsageError(f"--documents: {folder} is not a folder", hint="name a folder of PDFs")
    questions = read_questions(request.data)
    for line in changes(questions, frozen) if (frozen := read_frozen(request.data)) else ():
        progress.note(f"differs from frozen.json: {line}")
    return questions, DocumentFolder(folder, questions.documents, options)

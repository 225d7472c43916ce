"""`nsa eval summaries`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from nsa_cli.cli import console, values
from nsa_cli.cli.errors import interruptible
from nsa_cli.config.options import Options
from nsa_cli.config.summary_length import SummaryLength
from nsa_models.errors import UsageError

if TYPE_CHECKING:
    from nsa_cli.evaluation.runner import Blocks


@dataclass(frozen=True, slots=True, kw_only=True)
class SummariesRequest:
    """What the command line asks for; the fields are the options of `nsa eval`."""

    data: Path
    ways: tuple[str, ...] | None
    length: str
    only: str | None
    limit: int | None
    seed: int
    held_out: bool
    report: bool
    out: Path | None
    plot: Path | None
    json: bool
    quiet: bool


def run(request: SummariesRequest, settings: Sequence[Options], budgets: Sequence[Blocks]) -> None:
    """Make the summaries that `--out` lacks, and show the report of all.

    Args:
        request: The options of the suite.
        settings: A model and an attention each.
        budgets: Blocks that a question attends to.

    Raises:
        NsaError: If an option is invalid, or a file or a model cannot be used.
    """
    from nsa_cli.evaluation.report import versions
    from nsa_cli.evaluation.summary_suite.meetings import chosen, read_meetings
    from nsa_cli.evaluation.summary_suite.report import print_report, report, scored
    from nsa_cli.evaluation.summary_suite.rows import WAYS, SummaryRows
    from nsa_cli.evaluation.summary_suite.runner import SummaryPlan, evaluate_summaries
    from nsa_cli.output.batch_progress import BatchRenderer, each_hundredth

    if request.report and request.out is None:
        raise UsageError("--report needs a file", hint="name it with --out")
    if request.plot is not None:
        raise UsageError("--plot is not for the suite summaries", hint="leave it out")
    if len(budgets) > 1 or None in budgets:
        raise UsageError(
            "the suite summaries takes one number of --answer-blocks",
            hint="run it once for each, with the same --out",
        )
    ways = WAYS if request.ways is None else request.ways
    for way in ways:
        values.check_choice("--ways", way, WAYS)
    length = SummaryLength.parse(request.length)
    only = tuple(filter(None, (request.only or "").split(",")))
    found = read_meetings(request.data, held_out=request.held_out)
    meetings = chosen(found, only=only, limit=request.limit)
    [budget] = budgets
    blocks = budget if isinstance(budget, int) else None
    most = Options(model="").max_tokens
    options = [replace(each, answer_blocks=blocks, max_tokens=most) for each in settings]
    plan = SummaryPlan(meetings=meetings, ways=ways, length=length)
    file = SummaryRows(request.out)
    progress = BatchRenderer("Evaluation", each_hundredth(), quiet=request.quiet)
    kept = "nothing was stored" if request.out is None else "summaries are in --out; run it again"
    with interruptible(kept):
        try:
            for _ in () if request.report else evaluate_summaries(plan, options, file, progress):
                pass
        finally:
            progress.close()
    result = {**report(scored(file.rows, meetings), meetings, request.seed), **versions()}
    if request.json:
        console.print_json(result)
    else:
        print_report(result)

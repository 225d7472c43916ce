r"""Summarizes meetings by many processes on all GPUs, within a time limit.

    python examples/measure_summaries.py --data meetings.jsonl.xz --out rows.jsonl \
        --system qwen2.5-coder-0.5b:nsa=2 --system qwen2.5-coder-0.5b:beginning,map-reduce=4

A system is a model, the ways to summarize, and the number of its processes. The held-out meetings
are dealt to the processes by length. Rows are kept as they come; a process that is stopped at the
limit loses none, and a second call with the same systems makes what is left. With other systems,
name the rows so far with --known. Without network, set NSA_OFFLINE=1 and NSA_CACHE_DIR.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from measure_answers import Job, run

from nsa_cli.evaluation.summary_suite.meetings import Meeting, read_meetings

_SYSTEM = re.compile(r"(?P<model>[^:,]+):(?P<ways>[^=]+)=(?P<processes>[1-9]\d*)")


def dealt(meetings: Sequence[Meeting], count: int) -> list[list[Meeting]]:
    """Deal meetings to `count` hands of about the same number of characters."""
    hands: list[list[Meeting]] = [[] for _ in range(count)]
    for each in sorted(meetings, key=lambda each: -len(each.document.text)):
        lightest = min(hands, key=lambda hand: sum(len(one.document.text) for one in hand))
        lightest.append(each)
    return [hand for hand in hands if hand]


def jobs_of(
    systems: Sequence[str], meetings: Sequence[Meeting], more: Sequence[str], work: Path
) -> list[Job]:
    """The jobs of all systems.

    Args:
        systems: As on the command line.
        meetings: The meetings.
        more: Further options of `nsa eval summaries`.
        work: Folder for rows and logs.

    Raises:
        ValueError: If a system has another form.
    """
    jobs: list[Job] = []
    for number, system in enumerate(systems):
        match = _SYSTEM.fullmatch(system)
        if match is None:
            raise ValueError(f"--system: {system!r} is not MODEL:WAY,WAY=PROCESSES")
        for part, own in enumerate(dealt(meetings, int(match["processes"]))):
            name = f"{number}-{part}"
            rows = work / f"{name}.jsonl"
            command = ["eval", "summaries", "--model", match["model"], "--ways", match["ways"]]
            command += ["--only", ",".join(each.title for each in own), *more]
            command += ["--out", str(rows), "--quiet"]
            jobs.append(
                Job(name=name, command=(sys.executable, "-m", "nsa_cli", *command), rows=rows)
            )
    return jobs


def main() -> None:
    """Summarize, and join the rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="meetings, as JSON Lines")
    parser.add_argument("--out", type=Path, required=True, help="file for all rows")
    parser.add_argument("--system", action="append", required=True, help="MODEL:WAY,WAY=PROCESSES")
    parser.add_argument("--known", type=Path, help="rows of an earlier call")
    parser.add_argument("--limit", type=int, help="summarize only the shortest meetings")
    parser.add_argument("--seconds", type=float, default=240.0, help="limit for all")
    parser.add_argument("--work", type=Path, default=Path(".bench/summaries"), help="rows and logs")
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    meetings = sorted(
        read_meetings(given.data, held_out=True), key=lambda each: len(each.document.text)
    )[: given.limit]
    data = ["--data", str(given.data), "--held-out"]
    try:
        jobs = jobs_of(given.system, meetings, data, given.work)
    except ValueError as error:
        parser.error(str(error))
    known = given.known.read_bytes() if given.known else b""
    for job in jobs:
        if not job.rows.exists():
            job.rows.write_bytes(known)
    run(jobs, given.seconds, given.work)
    lines = [line for job in jobs for line in job.rows.read_bytes().splitlines(keepends=True)]
    rows = list(dict.fromkeys(lines))
    given.out.write_bytes(b"".join(rows))
    print(given.out, len(rows), "rows")


if __name__ == "__main__":
    main()

r"""Asks the suite of real documents by many processes on all GPUs, within a time limit.

    python examples/measure_answers.py --documents .bench/parsed --out rows.jsonl \
        --system qwen2.5-coder-0.5b:nsa,words --system qwen2.5-coder-0.5b,no-adapter:chunks,gold

A system is a model, options of `nsa eval` without their dashes, and the ways to ask. Each system's
questions are dealt to processes by documents, so that each document is read once, and each process
has one GPU. Rows are kept as they come; a process that is stopped at the limit loses none, and a
second call asks what is left. Without network, set NSA_OFFLINE=1 and NSA_CACHE_DIR.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from nsa_cli.evaluation.document_suite.questions import Question, chosen, read_questions

QUESTIONS = Path("tests/evaluation/documents")


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What one process asks.

    Attributes:
        name: Name of its files.
        command: Its command line.
        rows: The file of its rows.
    """

    name: str
    command: tuple[str, ...]
    rows: Path


def dealt(questions: Sequence[Question], count: int) -> list[list[Question]]:
    """Deal questions to `count` hands of about the same size, those of one document together."""
    documents: dict[tuple[str, ...], list[Question]] = {}
    for each in questions:
        documents.setdefault(each.documents, []).append(each)
    hands: list[list[Question]] = [[] for _ in range(count)]
    for own in sorted(documents.values(), key=lambda each: -len(each)):
        min(hands, key=len).extend(own)
    return [hand for hand in hands if hand]


def jobs_of(systems: Sequence[str], each: int, documents: Path, work: Path) -> list[Job]:
    """The jobs of all systems, `each` of them for a system.

    Args:
        systems: As on the command line.
        each: Processes of a system.
        documents: Folder of the parsed documents.
        work: Folder for rows and logs.

    Raises:
        ValueError: If a system has another form.
    """
    questions, jobs = chosen(read_questions(QUESTIONS)), list[Job]()
    for number, system in enumerate(systems):
        setting, colon, ways = system.partition(":")
        model, *options = setting.split(",")
        if not (model and colon and ways):
            raise ValueError(f"--system: {system!r} is not MODEL[,OPTION...]:WAY,WAY")
        for part, own in enumerate(dealt(questions, each)):
            name = f"{number}-{part}"
            rows = work / f"{name}.jsonl"
            command = ["eval", "documents", "--data", str(QUESTIONS), "--documents", str(documents)]
            command += ["--model", model, *(f"--{option}" for option in options), "--ways", ways]
            command += ["--only", ",".join(question.id for question in own)]
            command += ["--out", str(rows), "--quiet"]
            jobs.append(
                Job(name=name, command=(sys.executable, "-m", "nsa_cli", *command), rows=rows)
            )
    return jobs


def run(jobs: Sequence[Job], seconds: float, work: Path) -> None:
    """Run all jobs at once, each on one GPU, and stop what is left at the limit."""
    cards, end = max(1, torch.cuda.device_count()), time.monotonic() + seconds
    running = []
    for number, job in enumerate(jobs):
        own = {"CUDA_VISIBLE_DEVICES": str(number % cards), "OMP_NUM_THREADS": "2"}
        with (work / f"{job.name}.log").open("w") as log:
            process = subprocess.Popen(
                job.command, env={**os.environ, **own}, stdout=log, stderr=subprocess.STDOUT
            )
        running.append((job, process))
    for job, process in running:
        try:
            code = process.wait(max(0.0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
        count = job.rows.read_bytes().count(b"\n") if job.rows.exists() else 0
        print(f"{job.name}: exit {code}, {count} rows", flush=True)


def main() -> None:
    """Ask, and join the rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--documents", type=Path, required=True, help="folder of parsed documents")
    parser.add_argument("--out", type=Path, required=True, help="file for all rows")
    parser.add_argument("--system", action="append", required=True, help="MODEL[,OPTION]:WAY,WAY")
    parser.add_argument("--processes", type=int, default=4, help="processes of a system")
    parser.add_argument("--seconds", type=float, default=480.0, help="limit for all")
    parser.add_argument("--work", type=Path, default=Path(".bench/answers"), help="rows and logs")
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    try:
        jobs = jobs_of(given.system, given.processes, given.documents, given.work)
    except ValueError as error:
        parser.error(str(error))
    run(jobs, given.seconds, given.work)
    rows = b"".join(job.rows.read_bytes() for job in jobs if job.rows.exists())
    given.out.write_bytes(rows)
    print(given.out, rows.count(b"\n"), "rows")


if __name__ == "__main__":
    main()

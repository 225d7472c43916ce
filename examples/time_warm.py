"""Times `nsa ask` through a running `nsa serve` and without one, in turns.

    python examples/time_warm.py examples/fhs-3.0.pdf "Where must the kernel be located?"

One question before the measurement reads the document, and one opens it in the server. Every
later question has one more space at its end, so that no stored answer is shown. CPU seconds count
the command, and the server during it.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

NSA = [sys.executable, "-m", "nsa_cli"]
FIRST = re.compile(r"first word after ([\d.]+) s")


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """Times of one question, in seconds.

    Attributes:
        wall: From the start of the command to its end.
        first: From the question to the first word, as the command says.
        command: CPU of the command.
        server: CPU of the server.
    """

    wall: float
    first: float
    command: float
    server: float


def cpu_seconds(process: int) -> float:
    """CPU seconds of a process until now; 0 where the platform does not say."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def ask(document: str, question: str, server: int, *more: str) -> Times:
    """Ask once.

    Raises:
        RuntimeError: If the command fails.
    """
    before, children, began = cpu_seconds(server), os.times(), time.perf_counter()
    done = subprocess.run(
        [*NSA, "ask", document, question, *more], capture_output=True, text=True, check=False
    )
    wall, after = time.perf_counter() - began, os.times()
    first = FIRST.search(done.stderr)
    if done.returncode or first is None:
        raise RuntimeError(done.stderr)
    spent = after.children_user + after.children_system
    return Times(
        wall=wall,
        first=float(first[1]),
        command=spent - children.children_user - children.children_system,
        server=cpu_seconds(server) - before,
    )


def show(label: str, found: list[Times]) -> None:
    """Print the median of each time."""
    cells = [
        f"{statistics.median(getattr(each, name) for each in found):10.2f}"
        for name in ("wall", "first", "command", "server")
    ]
    print(f"{label:18}{''.join(cells)}")


def main() -> None:
    """Parse the options, and print a row with and without the server."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("document")
    parser.add_argument("question")
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    server = subprocess.Popen([*NSA, "serve", "--port", "0"], stderr=subprocess.PIPE, text=True)
    assert server.stderr is not None
    try:
        while "answers at" not in (line := server.stderr.readline()):
            if not line:
                raise RuntimeError("the server did not start")
        ways: dict[str, tuple[str, ...]] = {"by itself": ("--no-server",), "with nsa serve": ()}
        found: dict[str, list[Times]] = {name: [] for name in ways}
        for run in range(options.runs + 1):
            for number, (name, more) in enumerate(ways.items()):
                question = options.question + " " * (2 * run + number)
                times = ask(options.document, question, server.pid, *more)
                if run:
                    found[name].append(times)
    finally:
        server.terminate()
        server.wait()
    print(f"medians of {options.runs}, s    wall     first  CPU nsa ask  CPU server")
    for name, times_of in found.items():
        show(name, times_of)


if __name__ == "__main__":
    main()

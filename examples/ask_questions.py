"""Ask a file of questions, one `nsa ask` process each, and count right answers and pages.

    python examples/ask_questions.py examples/fhs-3.0.pdf examples/fhs-3.0.questions.jsonl

Each line of the file holds `question`, `answers` (any of which, found in the answer, makes it
right) and `pages` (physical pages, from 1, where the answer stands). Other options are those of
`nsa ask`. `--out` writes a report as JSON after each answer; with the report of a run that was
stopped, the script asks only what is missing.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nsa_cli import __version__
from nsa_cli.system import git_commit, today

COUNTS = ("right", "first", "among", "verified")
"""What is counted: a right answer, the right page cited first, the right page among the first three
citations, a verified first citation."""


def asked(document: str, item: dict[str, Any], options: Sequence[str]) -> dict[str, Any]:
    """Ask one question; return what is counted, with the answer and the seconds."""
    command = [sys.executable, "-m", "nsa_cli", "ask", document, item["question"], "--json"]
    began = time.monotonic()
    run = subprocess.run([*command, *options], capture_output=True, text=True, check=True)
    seconds = time.monotonic() - began
    result = json.loads(run.stdout)
    pages = [citation["page"] for citation in result["citations"]]
    return {
        "question": item["question"],
        "answer": result["answer"],
        "pages": pages,
        "seconds": round(seconds, 2),
        "right": any(a.casefold() in result["answer"].casefold() for a in item["answers"]),
        "first": bool(set(pages[:1]) & set(item["pages"])),
        "among": bool(set(pages[:3]) & set(item["pages"])),
        "verified": bool(result["citations"] and result["citations"][0]["verified"]),
    }


def new_report(document: str, options: Sequence[str]) -> dict[str, Any]:
    """Return a report without answers."""
    return {
        "document": Path(document).name,
        "options": list(options),
        "date": today(),
        "nsa": __version__,
        "commit": git_commit(),
        "counts": {},
        "rows": [],
    }


def earlier(path: Path | None, fresh: dict[str, Any]) -> dict[str, Any]:
    """Return the report in a file to continue, or the fresh one if the file does not exist.

    Raises:
        SystemExit: If the report is of another document, other options or another commit.
    """
    if path is None or not path.exists():
        return fresh
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    for key in ("document", "options", "nsa", "commit"):
        if found.get(key) != fresh[key]:
            sys.exit(f"{path} is of {key} {found.get(key)}, not {fresh[key]}; name another --out")
    return found


def main(arguments: Sequence[str]) -> None:
    """Print a line per question and the counts at the end."""
    parser = argparse.ArgumentParser(description="Ask a file of questions and count.")
    parser.add_argument("document")
    parser.add_argument("questions", type=Path)
    parser.add_argument("--out", type=Path, help="report as JSON, continued if it exists")
    chosen, options = parser.parse_known_args(arguments)
    report = earlier(chosen.out, new_report(chosen.document, options))
    lines = chosen.questions.read_text(encoding="utf-8").splitlines()
    report["questions"] = len(lines)
    done = {row["question"] for row in report["rows"]}
    for item in map(json.loads, lines):
        if item["question"] in done:
            continue
        row = asked(chosen.document, item, options)
        report["rows"].append(row)
        report["counts"] = {name: sum(each[name] for each in report["rows"]) for name in COUNTS}
        if chosen.out is not None:
            text = json.dumps(report, ensure_ascii=False, indent=1)
            chosen.out.write_text(text + "\n", encoding="utf-8")
        print(
            f"{'right' if row['right'] else 'wrong'} {row['seconds']:5.1f} s  pages "
            f"{row['pages']} of {item['pages']}  {item['question']} -> {row['answer'][:100]!r}",
            flush=True,
        )
    counts = report["counts"]
    print(
        f"of {report['questions']} questions: {counts['right']} right answers; right page first "
        f"{counts['first']}, among the first three citations {counts['among']}; first citation "
        f"verified {counts['verified']}"
    )


if __name__ == "__main__":
    main(sys.argv[1:])

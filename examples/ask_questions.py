"""Ask a file of questions, one `nsa ask` process each, and count right answers and pages.

    python examples/ask_questions.py examples/fhs-3.0.pdf examples/fhs-3.0.questions.jsonl

Each line of the file holds `question`, `answers` (any of which, found in the answer, makes it
right) and `pages` (physical pages, from 1, where the answer stands).
"""

import json
import subprocess
import sys
import time
from pathlib import Path


def main(document: str, questions: str, *options: str) -> None:
    """Print a line per question and the counts at the end."""
    right = first = among = verified = 0
    lines = Path(questions).read_text(encoding="utf-8").splitlines()
    for line in lines:
        item = json.loads(line)
        command = [sys.executable, "-m", "nsa_cli", "ask", document, item["question"], "--json"]
        began = time.monotonic()
        run = subprocess.run([*command, *options], capture_output=True, text=True, check=True)
        seconds = time.monotonic() - began
        result = json.loads(run.stdout)
        pages = [citation["page"] for citation in result["citations"]]
        answered = any(a.casefold() in result["answer"].casefold() for a in item["answers"])
        right += answered
        first += bool(set(pages[:1]) & set(item["pages"]))
        among += bool(set(pages[:3]) & set(item["pages"]))
        verified += bool(result["citations"] and result["citations"][0]["verified"])
        print(
            f"{'right' if answered else 'wrong'} {seconds:5.1f} s  pages {pages} "
            f"of {item['pages']}  {item['question']} -> {result['answer'][:100]!r}",
            flush=True,
        )
    print(
        f"of {len(lines)} questions: {right} right answers; right page first {first}, among the "
        f"first three citations {among}; first citation verified {verified}"
    )


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Freezes the questions of a folder: `python -m nsa_cli.evaluation.document_suite.freeze FOLDER`.

It writes `frozen.json` beside the questions: the SHA-256 of each question and document, and the
digest of the set. A question that is frozen changes only with `--again`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from nsa_cli.evaluation.document_suite.questions import (
    FROZEN,
    QuestionSet,
    changes,
    read_frozen,
    read_questions,
)
from nsa_models.errors import NsaError
from nsa_models.paths import atomic_write


def frozen_text(questions: QuestionSet) -> str:
    """Return the text of `frozen.json`."""
    row = {
        "digest": questions.digest,
        "documents": {each.id: each.sha256 for each in questions.documents.values()},
        "questions": {each.id: each.digest for each in questions.questions},
    }
    return json.dumps(row, indent=1, sort_keys=True) + "\n"


def main(arguments: Sequence[str]) -> int:
    """Freeze a folder of questions; return the exit code."""
    names = [each for each in arguments if each != "--again"]
    if len(names) != 1:
        sys.stderr.write("usage: freeze [--again] QUESTIONS_FOLDER\n")
        return 2
    folder = Path(names[0])
    try:
        questions = read_questions(folder)
        changed = [each for each in changes(questions, read_frozen(folder)) if "added" not in each]
    except NsaError as error:
        sys.stderr.write(f"{error.message}\n")
        return error.exit_code
    if changed and "--again" not in arguments:
        sys.stderr.write("\n".join([*changed, "freeze them with --again\n"]))
        return 1
    with atomic_write(folder / FROZEN) as partial:
        partial.write_text(frozen_text(questions), encoding="utf-8")
    sys.stdout.write(f"{len(questions.questions)} questions, digest {questions.digest}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Parses the suite's PDFs for a machine without PDF libraries.

`python -m nsa_cli.evaluation.document_suite.parse QUESTIONS_FOLDER PDF_FOLDER OUT_FOLDER` writes
`ID.parsed.xz` for each `ID.pdf`. `nsa eval documents --documents OUT_FOLDER` reads them.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from nsa_cli.config.options import Options
from nsa_cli.evaluation.document_suite.questions import read_questions
from nsa_cli.evaluation.document_suite.sources import PARSED, parsed, write_parsed
from nsa_models.errors import NsaError
from nsa_models.hub.registry import DEFAULT_MODEL


def main(arguments: Sequence[str]) -> int:
    """Parse a folder of PDFs; return the exit code, 1 if a document is missing or broken."""
    if len(arguments) != 3:
        sys.stderr.write("usage: parse QUESTIONS_FOLDER PDF_FOLDER OUT_FOLDER\n")
        return 2
    questions, folder, out = map(Path, arguments)
    failed = 0
    try:
        entries = read_questions(questions).documents
    except NsaError as error:
        sys.stderr.write(f"{error.message}\n")
        return error.exit_code
    for name, entry in entries.items():
        path, target = folder / f"{name}.pdf", out / f"{name}{PARSED}"
        try:
            document = parsed(path, entry, Options(model=DEFAULT_MODEL), lambda _: None)
            write_parsed(target, document, entry)
        except (NsaError, OSError) as error:
            failed += 1
            sys.stderr.write(f"{name}: {error}\n")
            continue
        sys.stdout.write(f"{target}: {len(document.text):,} characters\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Word recall and order of the document loader against reference extractions.

Run: python -m tests.documents.recall FOLDER [--json FILE] [--reader NAME]

Each file that has a reference extraction is read in its own process. Three shares are measured:
the reference's words that the loader gives (word recall), the reference's pairs of adjacent
words that are adjacent in the loader's text too (pair recall, a measure of order), and the
reference's sequences of four letters, whatever the spaces between them (letter recall: where it
is high and the word recall is low, the two texts part the same letters into other words).
"""

from __future__ import annotations

import argparse
import importlib
import json
import multiprocessing
import os
import re
import resource
import shutil
import subprocess
import sys
import time
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

FEWEST_WORDS = 20
"""Files with fewer words in the reference extraction are counted apart."""

ENOUGH, LOST = 0.95, 0.8
"""Word recall from which a file counts as read whole, and below which as lost."""

LONGEST_SECONDS = 60
"""CPU seconds after which a file's process is ended."""

MOST_BYTES = 8 * 2**30

_BROKEN_WORD = re.compile(r"(?<=\w)[-‐\xad][ \t]*\r?\n[ \t]*(?=\w)")
_NOISE = re.compile(r"[\x00-\x08\x0e-\x1f\x7f\xad]")
_WORD = re.compile(
    # One character is one word in the scripts that are written without spaces.
    r"[\u0e00-\u0eff\u1000-\u109f\u3040-\u30ff\u31f0-\u31ff\u3400-\u9fff\uf900-\ufaff"
    r"\U00020000-\U0003ffff]|[^\W_\u0e00-\u0eff\u1000-\u109f\u3040-\u30ff\u3400-\u9fff]+"
)

Extraction = tuple[str, Sequence[str]]
"""A text and its warnings."""


@dataclass(frozen=True, kw_only=True)
class FileRecall:
    """What the loader gave of one file.

    Attributes:
        path: Relative to the measured folder.
        words: Words of the reference extraction.
        word_recall: Share of them that the loader gives, from 0 to 1.
        pair_recall: Share of the reference's adjacent pairs that are adjacent in the loader's
            text.
        letter_recall: Share of the reference's sequences of four letters that the loader gives.
        warnings: What the loader tells about the file; an error's message if it refuses it.
        refused: Code of that error, or an empty string.
        crashed: Exception that is not for users, or an empty string.
        seconds: CPU seconds.
        megabytes: Largest resident memory of the process.
    """

    path: str
    words: int
    word_recall: float
    pair_recall: float
    letter_recall: float
    warnings: tuple[str, ...]
    refused: str
    crashed: str
    seconds: float
    megabytes: int

    @property
    def whole(self) -> bool:
        """Whether the loader gives the reference's letters, in whatever words."""
        return max(self.word_recall, self.letter_recall) >= ENOUGH

    @property
    def told(self) -> bool:
        """Whether the user learns that something is missing or was left out."""
        return bool(self.warnings or self.refused)


def words(text: str) -> list[str]:
    """Words for comparison: case folded, NFKC, broken words joined, without punctuation."""
    text = unicodedata.normalize("NFKC", _NOISE.sub("", _BROKEN_WORD.sub("", text)))
    return _WORD.findall(text.casefold())


def fours(found: Sequence[str]) -> list[str]:
    """Sequences of four letters, without regard to where words end."""
    letters = "".join(found)
    return [letters[at : at + 4] for at in range(max(1, len(letters) - 3))]


def recall(reference: Sequence[object], found: Sequence[object]) -> float:
    """Share of a multiset that another holds; 1.0 for an empty one."""
    wanted = Counter(reference)
    return (wanted & Counter(found)).total() / wanted.total() if wanted else 1.0


def pdftotext(path: Path) -> str:
    """The words of a PDF in the order of its content streams, by poppler's pdftotext."""
    command = ["pdftotext", "-raw", "-enc", "UTF-8", str(path), "-"]
    try:
        done = subprocess.run(command, capture_output=True, timeout=20, check=False)
    except subprocess.TimeoutExpired:
        return ""
    return done.stdout.decode("utf-8", "replace")


def text_beside(path: Path) -> str:
    """The reference extraction that lies beside a file, as `<name>.expected.txt`."""
    beside = path.with_name(path.name + ".expected.txt")
    return beside.read_text("utf-8") if beside.exists() else ""


REFERENCES: dict[str, Callable[[Path], str]] = {".pdf": pdftotext}
"""The reference extraction of each kind of file; `text_beside` for all other kinds."""


def nsa(path: Path) -> Extraction:
    """The document loader of this project."""
    from nsa_cli.documents import parse_document

    document = parse_document(path.name, path.read_bytes())
    return document.text, document.warnings


READERS: dict[str, Callable[[Path], Extraction]] = {"nsa": nsa}
"""What can be measured; `tests.documents.pdf_libraries` adds the libraries that it compares."""


def measure(
    path: Path, name: str, reference: Sequence[str], reader: Callable[[Path], Extraction]
) -> FileRecall:
    """Compare one file with the words of its reference extraction."""
    from nsa_models.errors import NsaError

    refused = crashed = text = ""
    warnings: Sequence[str] = ()
    before = time.process_time()
    try:
        text, warnings = reader(path)
    except NsaError as error:
        refused, warnings = error.code, (error.message,)
    except Exception as error:
        crashed = f"{type(error).__name__}: {error}"[:200]
    seconds = time.process_time() - before
    found = words(text)
    return FileRecall(
        path=name,
        words=len(reference),
        word_recall=recall(reference, found),
        pair_recall=recall(list(pairwise(reference)), list(pairwise(found))),
        letter_recall=recall(fours(reference), fours(found)),
        warnings=tuple(warnings),
        refused=refused,
        crashed=crashed,
        seconds=seconds,
        megabytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    )


def _in_process(path: Path, name: str, reference: Sequence[str], reader: str, out: str) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (LONGEST_SECONDS, LONGEST_SECONDS))
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115, PTH123 - ends with the process
    Path(out).write_text(json.dumps(asdict(measure(path, name, reference, READERS[reader]))))


def measure_apart(path: Path, folder: Path, reader: str, out: Path) -> FileRecall:
    """`measure` in its own process, which is ended after `LONGEST_SECONDS`."""
    name = str(path.relative_to(folder))
    reference = words(REFERENCES.get(path.suffix.lower(), text_beside)(path))
    context = multiprocessing.get_context("fork")
    process = context.Process(target=_in_process, args=(path, name, reference, reader, str(out)))
    process.start()
    process.join(20 * LONGEST_SECONDS)  # The machine may be busy with other work.
    late = process.is_alive()
    if late:
        process.kill()
        process.join()
    if not late and process.exitcode == 0:
        found = json.loads(out.read_text())
        return FileRecall(**{**found, "warnings": tuple(found["warnings"])})
    return FileRecall(
        path=name,
        words=len(reference),
        word_recall=0.0,
        pair_recall=0.0,
        letter_recall=0.0,
        warnings=(),
        refused="",
        crashed="timeout" if late else f"exit {process.exitcode}",
        seconds=float(LONGEST_SECONDS),
        megabytes=0,
    )


def files_in(folder: Path) -> Iterator[Path]:
    """The files of a folder that have a reference extraction, sorted."""
    for path in sorted(folder.rglob("*")):
        beside = path.with_name(path.name + ".expected.txt")
        if path.is_file() and (path.suffix.lower() in REFERENCES or beside.exists()):
            yield path


def table(found: Sequence[FileRecall]) -> str:
    """The figures of all files, as Markdown."""
    long = [each for each in found if each.words >= FEWEST_WORDS]
    quiet = [each for each in long if not each.told]
    whole = [each for each in long if each.word_recall >= ENOUGH and not each.refused]
    rows = [
        ("files", len(found)),
        ("files that crashed the reader", sum(bool(each.crashed) for each in found)),
        (f"files with {FEWEST_WORDS} reference words or more", len(long)),
        ("of these: warned or refused", len(long) - len(quiet)),
        ("of these: refused", sum(bool(each.refused) for each in long)),
        (
            f"word recall >= {ENOUGH} of those that do not warn",
            _share(sum(each.word_recall >= ENOUGH for each in quiet), len(quiet)),
        ),
        (
            f"word or letter recall >= {ENOUGH} of those that do not warn",
            _share(sum(each.whole for each in quiet), len(quiet)),
        ),
        (
            f"word recall < {LOST} without a warning",
            sum(each.word_recall < LOST for each in quiet),
        ),
        (
            f"word and letter recall < {LOST} without a warning",
            sum(max(each.word_recall, each.letter_recall) < LOST for each in quiet),
        ),
        (
            f"warned at word recall >= {ENOUGH}",
            _share(sum(each.told for each in whole), len(whole)),
        ),
        ("mean word recall", _mean([each.word_recall for each in long])),
        ("mean pair recall", _mean([each.pair_recall for each in long])),
        ("CPU seconds in all", f"{sum(each.seconds for each in found):.1f}"),
        ("CPU seconds of the slowest", f"{max((each.seconds for each in found), default=0):.1f}"),
        ("largest memory, MB", max((each.megabytes for each in found), default=0)),
    ]
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)])


def _share(part: int, whole: int) -> str:
    return f"{part} of {whole} ({part / whole:.1%})" if whole else "none"


def _mean(values: Sequence[float]) -> str:
    return f"{sum(values) / len(values):.4f}" if values else "none"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure a folder and print the table and the files that lost most."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--reader", default="nsa", choices=sorted(READERS))
    parser.add_argument("--json", type=Path, help="write the figures of each file here")
    parser.add_argument("--worst", type=int, default=20, help="print so many files that lost most")
    options = parser.parse_args(arguments)
    if shutil.which("pdftotext") is None:
        parser.error("pdftotext is not installed (apt install poppler-utils)")
    if options.reader == "nsa":
        importlib.import_module("nsa_cli.documents.pdf")  # Its import counts for no file.
    out = Path(f"/tmp/recall-{os.getpid()}.json")
    found = [
        measure_apart(path, options.folder, options.reader, out)
        for path in files_in(options.folder)
    ]
    out.unlink(missing_ok=True)
    if options.json is not None:
        options.json.write_text(json.dumps([asdict(each) for each in found], indent=1))
    lost = [each for each in found if each.words >= FEWEST_WORDS and not each.told]
    for each in sorted(lost, key=lambda each: each.word_recall)[: options.worst]:
        shares = (each.word_recall, each.pair_recall, each.letter_recall)
        print(*(f"{share:.3f}" for share in shares), f"{each.words:6}", each.path)
    print(table(found))


if __name__ == "__main__":
    main()

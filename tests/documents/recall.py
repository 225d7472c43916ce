"""Word recall and order of the document loader against reference extractions.

Run: python -m tests.documents.recall FOLDER [--json FILE] [--reader NAME]

Each file that has a reference extraction is read in its own process. Five shares are measured:

- word recall: the reference's words that the loader gives.
- joined recall: the same, and words count too that the two texts part otherwise: several words in
  sequence on one side that are one word on the other (`t e s t` and `test`).
- spelled recall: word recall where single letters in sequence in the reference count as the word
  that they spell in the loader's text. Unlike joined recall, it forgives nothing that the loader
  parts, and no words that it joins.
- pair recall: the reference's pairs of adjacent words that are adjacent in the loader's text too, a
  measure of order.
- letter recall: the reference's sequences of four letters; spaces do not count.

A file may have several reference extractions, such as the orders of pdftotext. All shares are
those of the extraction with the best joined recall: none of the orders loses words, but each parts
some words that another one joins.
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
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate, pairwise
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
_LAM_ALEF = re.compile(r"[\u0622\u0623\u0625\u0627\u0644]{2,}")
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
        joined_recall: The same, where words that the texts part otherwise count too.
        spelled_recall: Word recall where single letters of the reference count as their word.
        first_recall: Word recall of the first reference extraction.
        pair_recall: Share of the reference's adjacent pairs that are adjacent in the loader's
            text.
        letter_recall: Share of the reference's sequences of four letters that the loader gives.
        warnings: What the loader tells about the file; an error's message if it refuses it.
        left_out: Words that the loader gives more of when it reads hidden text too.
        foreign: Whether the reference does not read as a language, and the loader's text does.
        refused: Code of that error, or an empty string.
        crashed: Exception that is not for users, or an empty string.
        seconds: CPU seconds.
        megabytes: Largest resident memory of the process.
    """

    path: str
    words: int
    word_recall: float
    joined_recall: float
    spelled_recall: float
    first_recall: float
    pair_recall: float
    letter_recall: float
    warnings: tuple[str, ...]
    left_out: int
    foreign: bool
    refused: str
    crashed: str
    seconds: float
    megabytes: int

    @property
    def told(self) -> bool:
        """Whether the user learns that something is missing or was left out."""
        return bool(self.warnings or self.refused)


def words(text: str) -> list[str]:
    """Words for comparison: case folded, NFKC, broken words joined, without punctuation.

    Poppler turns the letters of the Arabic ligatures of lam and alef round, so that their order
    does not count.
    """
    text = unicodedata.normalize("NFKC", _NOISE.sub("", _BROKEN_WORD.sub("", text)))
    text = _LAM_ALEF.sub(lambda found: "".join(sorted(found[0])), text)
    return _WORD.findall(text.casefold())


def fours(found: Sequence[str]) -> list[str]:
    """Sequences of four letters, without regard to where words end."""
    letters = "".join(found)
    return [letters[at : at + 4] for at in range(max(1, len(letters) - 3))]


def recall(reference: Sequence[object], found: Sequence[object]) -> float:
    """Share of a multiset that another holds; 1.0 for an empty one."""
    wanted = Counter(reference)
    return (wanted & Counter(found)).total() / wanted.total() if wanted else 1.0


def joined_recall(reference: Sequence[str], found: Sequence[str]) -> float:
    """Share of a text's words that another has, parted as they are or otherwise.

    A word counts too if the other text has it as several words in sequence, and so do words in
    sequence that the other text has as one word.
    """
    wanted, given = Counter(reference), Counter(found)
    parted, _ = _sequences(found, wanted - given)
    _, joined = _sequences(reference, given - wanted)
    matched = ((wanted & given) + parted + joined) & wanted
    return matched.total() / wanted.total() if wanted else 1.0


def spelled_recall(reference: Sequence[str], found: Sequence[str]) -> float:
    """Share of the reference's words that a text has, or that are letters of a word in it."""
    wanted, given = Counter(reference), Counter(found)
    _, letters = _sequences(reference, given - wanted, longest=1)
    matched = ((wanted & given) + letters) & wanted
    return matched.total() / wanted.total() if wanted else 1.0


def _sequences(
    text: Sequence[str], wanted: Counter[str], *, longest: int | None = None
) -> tuple[Counter[str], Counter[str]]:
    """Words of a multiset that a text has as sequences of words, and the words of these.

    Args:
        text: The words of the text.
        wanted: The multiset.
        longest: The most letters that each word of a sequence has; any number when None.
    """
    joined = "".join(text)
    ends = {end: at for at, end in enumerate(accumulate(map(len, text)), start=1)}
    starts = {0: 0, **ends}
    taken: set[int] = set()
    found: Counter[str] = Counter()
    for word, times in wanted.items():
        place = joined.find(word)
        while place >= 0 and found[word] < times:
            first, after = starts.get(place), ends.get(place + len(word))
            span = range(first, after) if first is not None and after is not None else range(0)
            short = longest is None or all(len(text[at]) <= longest for at in span)
            if len(span) > 1 and short and taken.isdisjoint(span):
                taken.update(span)
                found[word] += 1
            place = joined.find(word, place + 1)
    return found, Counter(text[at] for at in taken)


def pdftotext(path: Path) -> list[str]:
    """The words of a PDF by poppler's pdftotext.

    The orders are that of the content streams, that in which a person reads, and that of the page's
    layout. The first one keeps repeated draws and puts the letters of turned lines apart; the other
    two leave out repeats and part some other words.
    """
    texts = []
    for order in (["-raw"], [], ["-layout"]):
        command = ["pdftotext", *order, "-enc", "UTF-8", str(path), "-"]
        try:
            done = subprocess.run(command, capture_output=True, timeout=20, check=False)
        except subprocess.TimeoutExpired:
            continue
        texts.append(done.stdout.decode("utf-8", "replace"))
    return texts or [""]


def text_beside(path: Path) -> list[str]:
    """The reference extraction that lies beside a file, as `<name>.expected.txt`."""
    beside = path.with_name(path.name + ".expected.txt")
    return [beside.read_text("utf-8") if beside.exists() else ""]


REFERENCES: dict[str, Callable[[Path], list[str]]] = {".pdf": pdftotext}
"""The reference extractions of each kind of file; `text_beside` for all other kinds."""


def nsa(path: Path) -> Extraction:
    """The document loader of this project."""
    from nsa_cli.documents import parse_document

    document = parse_document(path.name, path.read_bytes())
    return document.text, document.warnings


def nsa_with_hidden(path: Path) -> Extraction:
    """The same with hidden text."""
    from nsa_cli.documents import parse_document

    document = parse_document(path.name, path.read_bytes(), hidden=True)
    return document.text, document.warnings


READERS: dict[str, Callable[[Path], Extraction]] = {"nsa": nsa}
"""What can be measured; `tests.documents.pdf_libraries` adds the libraries that it compares."""


def measure(
    path: Path,
    name: str,
    references: Sequence[Sequence[str]],
    reader: Callable[[Path], Extraction],
    with_hidden: Callable[[Path], Extraction] | None = None,
) -> FileRecall:
    """Compare one file with the words of its reference extractions.

    Args:
        path: Of the file.
        name: In the result.
        references: The words of each extraction; the best one counts.
        reader: What is measured.
        with_hidden: Reads a file that warns once more, with its hidden text.
    """
    from nsa_models.errors import NsaError

    refused = crashed = text = ""
    warnings: Sequence[str] = ()
    before = _cpu_seconds()
    try:
        text, warnings = reader(path)
    except NsaError as error:
        refused, warnings = error.code, (error.message,)
    except Exception as error:
        crashed = f"{type(error).__name__}: {error}"[:200]
    seconds = _cpu_seconds() - before
    megabytes = max(each.ru_maxrss for each in _usage()) // 1024
    left_out = 0
    if with_hidden is not None and warnings and not refused:
        more, _ = with_hidden(path)
        left_out = (Counter(words(more)) - Counter(words(text))).total()
    found = words(text)
    best = max(references, key=lambda each: (joined_recall(each, found), recall(each, found)))
    return FileRecall(
        path=name,
        words=len(references[0]),
        word_recall=recall(best, found),
        joined_recall=joined_recall(best, found),
        spelled_recall=spelled_recall(best, found),
        first_recall=recall(references[0], found),
        pair_recall=recall(list(pairwise(best)), list(pairwise(found))),
        letter_recall=recall(fours(best), fours(found)),
        warnings=tuple(warnings),
        left_out=left_out,
        foreign=_reads(text) and not _reads(" ".join(references[0])),
        refused=refused,
        crashed=crashed,
        seconds=seconds,
        megabytes=megabytes,
    )


def _cpu_seconds() -> float:
    """CPU seconds of this process and of the programs that it ran."""
    return sum(each.ru_utime + each.ru_stime for each in _usage())


def _usage() -> list[resource.struct_rusage]:
    """What this process used, and the programs that it ran."""
    return [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]


def _reads(text: str) -> bool:
    from nsa_cli.documents.pdf.language import is_language

    return is_language(text)


def _in_process(
    path: Path, name: str, references: Sequence[Sequence[str]], reader: str, out: str
) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (LONGEST_SECONDS, LONGEST_SECONDS))
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115, PTH123 - ends with the process
    with_hidden = nsa_with_hidden if reader == "nsa" else None
    found = measure(path, name, references, READERS[reader], with_hidden)
    Path(out).write_text(json.dumps(asdict(found)))


def measure_apart(path: Path, folder: Path, reader: str, out: Path) -> FileRecall:
    """`measure` in its own process, which is ended after `LONGEST_SECONDS`."""
    name = str(path.relative_to(folder))
    references = [words(text) for text in REFERENCES.get(path.suffix.lower(), text_beside)(path)]
    context = multiprocessing.get_context("fork")
    process = context.Process(target=_in_process, args=(path, name, references, reader, str(out)))
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
        words=len(references[0]),
        word_recall=0.0,
        joined_recall=0.0,
        spelled_recall=0.0,
        first_recall=0.0,
        pair_recall=0.0,
        letter_recall=0.0,
        warnings=(),
        left_out=0,
        foreign=False,
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
    sound = [each for each in long if not each.foreign]
    quiet = [each for each in sound if not each.told]
    whole = [each for each in sound if each.joined_recall >= ENOUGH and not each.refused]
    told = [each for each in whole if each.told]
    rows = [
        ("files", len(found)),
        ("files that crashed the reader", sum(bool(each.crashed) for each in found)),
        (f"files with {FEWEST_WORDS} reference words or more", len(long)),
        ("of these: reference does not read as a language, the text does", len(long) - len(sound)),
        ("of the others: warned or refused", len(sound) - len(quiet)),
        ("of the others: refused", sum(bool(each.refused) for each in sound)),
        *_recall_rows(quiet),
        (f"warned at joined recall >= {ENOUGH}", _share(len(told), len(whole))),
        (
            "of these: no word left out",
            _share(sum(not each.left_out for each in told), len(whole)),
        ),
        ("mean word recall", _mean([each.word_recall for each in sound])),
        ("mean joined recall", _mean([each.joined_recall for each in sound])),
        ("mean pair recall", _mean([each.pair_recall for each in sound])),
        ("CPU seconds in all", f"{sum(each.seconds for each in found):.1f}"),
        ("CPU seconds of the slowest", f"{max((each.seconds for each in found), default=0):.1f}"),
        ("largest memory, MB", max((each.megabytes for each in found), default=0)),
    ]
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)])


def _recall_rows(quiet: Sequence[FileRecall]) -> list[tuple[str, str]]:
    """How many of the files that do not warn are read whole, and how many are lost."""
    shares = {
        "joined recall": [each.joined_recall for each in quiet],
        "spelled recall": [each.spelled_recall for each in quiet],
        "word recall": [each.word_recall for each in quiet],
        "word recall in the first order": [each.first_recall for each in quiet],
    }
    enough = [
        (
            f"{name} >= {ENOUGH} of those that do not warn",
            _share(sum(value >= ENOUGH for value in values), len(values)),
        )
        for name, values in shares.items()
    ]
    lost = [
        (f"{name} < {LOST} without a warning", str(sum(value < LOST for value in values)))
        for name, values in shares.items()
    ]
    return enough + lost


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
    for each in sorted(lost, key=lambda each: each.joined_recall)[: options.worst]:
        shares = (each.joined_recall, each.word_recall, each.pair_recall, each.letter_recall)
        print(*(f"{share:.3f}" for share in shares), f"{each.words:6}", each.path)
    print(table(found))


if __name__ == "__main__":
    main()

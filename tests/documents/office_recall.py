"""Word recall of the readers of office files, against all text in the XML parts of the files.

Run as `python -m tests.documents.office_recall FOLDER`. The reference shares no code with the
readers: it takes the text of each text element of each part that a reader sees, in the order of
the parts. A word counts as found as often as both texts have it. A file that loses words passes
if the document warns.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from nsa_cli.documents import parse_document
from nsa_models.errors import NsaError

WORD = re.compile(r"\w+")
_PARTS = {
    ".docx": r"word/(document\d*|header\d*|footer\d*|footnotes|endnotes|comments"
    r"|(charts/)?chart\d+|diagrams/data\d+)\.xml",
    ".pptx": r"ppt/(slides/slide\d+|charts/chart\d+|diagrams/data\d+|comments/.+)\.xml",
    ".xlsx": r"xl/(sharedStrings|worksheets/sheet\d+|comments\d*|drawings/drawing\d+)\.xml",
    ".odt": r"content\.xml",
    ".ods": r"content\.xml",
    ".odp": r"content\.xml",
}
_TEXT = frozenset(["t", "text"])
_BREAKS = frozenset(
    [
        *("p", "tab", "br", "cr", "tc", "ptab", "pt", "h", "s", "line-break", "table-cell"),
        *("row", "si", "c", "text", "comment", "cm"),
    ]
)
_NOT_SEEN = frozenset(
    ["Fallback", "delText", "instrText", "tracked-changes", "oMath", "math", "desc", "title"]
)
"""Equations depend on how they are written; an alternative text is not shown."""

_BOILERPLATE = "[Threaded comment]"
"""Begins a text for programs that know no threaded comments; the comment is in its own part."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """How much of a file was read.

    Attributes:
        path: The file.
        words: In its parts.
        found: Of these in the document.
        missing: The first words that were not.
        told: Whether the document warns.
        seconds: That reading took.
        refused: Why it could not be read, or None.
    """

    path: Path
    words: int
    found: int
    missing: tuple[str, ...]
    told: bool
    seconds: float
    refused: str | None = None

    @property
    def recall(self) -> float:
        """The share of the words that were read."""
        return self.found / self.words if self.words else 1.0


def reference(path: Path) -> Counter[str]:
    """The words of all parts of a file that hold text; distinct ones alone for a workbook.

    A workbook keeps each text once and a chart repeats its labels, so that how often a word comes
    says nothing there.
    """
    found: Counter[str] = Counter()
    pattern = re.compile(_PARTS[path.suffix.lower()])
    with zipfile.ZipFile(path) as package:
        for name in package.namelist():
            if not pattern.fullmatch(name):
                continue
            words = Counter(
                WORD.findall("".join(_texts(ElementTree.fromstring(package.read(name)))))
            )
            distinct = "chart" in name or path.suffix.lower() in (".xlsx", ".ods")
            found |= Counter(set(words)) if distinct else Counter()
            found += Counter() if distinct else words
    return found


def _texts(element: ElementTree.Element) -> Iterator[str]:
    name = element.tag.rpartition("}")[2]
    if name in _NOT_SEEN and not (name == "title" and "chart" in element.tag):
        return
    if name in _BREAKS:
        yield "\n"
    own = name in _TEXT or "opendocument" in element.tag or (name == "v" and "chart" in element.tag)
    if own and element.text and not element.text.startswith(_BOILERPLATE):
        yield _shown(element.text) if name == "v" else element.text
    for each in element:
        yield from _texts(each)
        if "opendocument" in element.tag and each.tail:
            yield each.tail
    if name in _BREAKS or name == "v":
        yield "\n"


def _shown(number: str) -> str:
    """A stored number with the digits that a chart shows."""
    try:
        return f"{float(number):.12g}"
    except ValueError:
        return number


def measure(path: Path) -> Result:
    """Read a file and compare."""
    wanted = reference(path)
    begun = time.process_time()
    try:
        document = parse_document(str(path), path.read_bytes())
    except NsaError as error:
        reason = error.message.removeprefix(str(path)).strip()
        return Result(
            path=path,
            words=wanted.total(),
            found=0,
            missing=(),
            told=True,
            refused=reason,
            seconds=time.process_time() - begun,
        )
    seconds = time.process_time() - begun
    missing = wanted - Counter(WORD.findall(document.text))
    return Result(
        path=path,
        words=wanted.total(),
        found=wanted.total() - missing.total(),
        missing=tuple(missing)[:6],
        told=bool(document.warnings),
        seconds=seconds,
    )


def main() -> int:
    """Print a line for each file that lost words or warns, and a table by format."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    results: dict[str, list[Result]] = {}
    for path in sorted(parser.parse_args().folder.rglob("*")):
        if path.suffix.lower() not in _PARTS or not zipfile.is_zipfile(path):
            continue
        result = measure(path)
        results.setdefault(path.suffix.lower(), []).append(result)
        if result.refused or result.recall < 1:
            what = result.refused or f"{result.recall:.3f} {' '.join(result.missing)}"
            print(f"{path.name}: {what}{'' if result.told else ' (not told)'}")
    print("format  files  refused  lost words  not told  warn and lost nothing  recall  CPU s")
    for suffix, found in sorted(results.items()):
        read = [each for each in found if not each.refused]
        lost = [each for each in read if each.recall < 1]
        untold = sum(not each.told for each in lost)
        false = sum(each.told and each.recall == 1 for each in read)
        mean = sum(each.recall for each in read) / max(1, len(read))
        print(
            f"{suffix:6}  {len(found):5}  {len(found) - len(read):7}  {len(lost):10}  {untold:8}"
            f"  {false:21}  {mean:6.4f}  {sum(each.seconds for each in found):5.1f}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())

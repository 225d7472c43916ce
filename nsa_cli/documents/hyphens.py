"""Words broken at line ends are made whole again."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise

_WORD = r"[^\W\d_]"

_BREAK = re.compile(
    # No part of a path, an address, an option or a longer compound comes before the word ...
    rf"(?<![\w\-‐./@:#\\&=+~])(?P<left>{_WORD}{{2,}})[-‐][ \t]*\n[ \t]*"
    # ... nor follows it.
    rf"(?P<right>{_WORD}++)(?![\d_/@\\=~])(?P<rest>\S*)[ \t]*"
)
_SOFT_BREAK = re.compile(r"\xad[ \t]*\n[ \t]*(?P<rest>\S+)[ \t]*")

_TOKEN = re.compile(rf"{_WORD}+(?:[-‐]{_WORD}+)*")


def mend_hyphens(pages: Sequence[str]) -> list[str]:
    """Join the words that a hyphen breaks at a line end; the joined word ends the first line.

    `config-` at the end of a line and `uration` at the start of the next become
    `configuration`, and every line keeps its number. Whether the hyphen belongs to the word
    (`run-` and `time`) is asked of the document itself: the spelling that its other lines use
    more often wins. Where they use neither, two halves that are both words elsewhere
    (`sendmail-` and `compatible`) stay apart. Soft hyphens always join. Never joined are: a next
    line that begins with an uppercase letter or a digit, an abbreviation (`UNIX-`), a single
    letter (`e-`), a compound with another hyphen, parts of paths and addresses, and a word
    broken across two pages.

    Args:
        pages: The text of each page, its lines ended by a line feed.

    Returns:
        The pages in the same order, with the same number of lines each.
    """
    softly = [_SOFT_BREAK.sub(r"\g<rest>\n", page).replace("\xad", "") for page in pages]
    spelling = _Spelling(softly)

    def mend(match: re.Match[str]) -> str:
        left, right = match["left"], match["right"]
        if not _may_join(left, right) or spelling.keeps_hyphen(left, right):
            return match[0]
        return f"{left}{right}{match['rest']}\n"

    return [_BREAK.sub(mend, page) for page in softly]


def _may_join(left: str, right: str) -> bool:
    return right[0].islower() and not left.isupper()


class _Spelling:
    """How the unbroken lines of a document spell the words that other lines break."""

    def __init__(self, pages: Sequence[str]) -> None:
        wanted: set[str] = set()
        for page in pages:
            for match in _BREAK.finditer(page):
                left, right = match["left"].lower(), match["right"]
                wanted.update((left, right, left + right, f"{left}-{right}"))
        self._seen: Counter[str] = Counter()
        self._seen_exactly: set[str] = set()
        if not wanted:
            return
        for page in pages:
            for word in _words(_BREAK.sub("\n", page)):
                if word in wanted:
                    self._seen_exactly.add(word)
                if (lower := word.lower()) in wanted:
                    self._seen[lower] += 1

    def keeps_hyphen(self, left: str, right: str) -> bool:
        """Whether `left-right` is a compound rather than one broken word."""
        joined = self._seen[(left + right).lower()]
        hyphened = self._seen[f"{left}-{right}".lower()]
        if joined or hyphened:
            return hyphened > joined
        # A German noun's second half is known only with its capital: then it is one word.
        return left.lower() in self._seen and right in self._seen_exactly


def _words(page: str) -> Iterator[str]:
    """The words of a page; a compound gives its parts and each pair of neighbors."""
    for token in _TOKEN.findall(page):
        parts = token.replace("‐", "-").split("-")
        yield from parts
        for left, right in pairwise(parts):
            yield f"{left}-{right}"

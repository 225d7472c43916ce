"""Page ranges such as `10-40,55`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from nsa_models.errors import UsageError

_PART = re.compile(r"(\d+)?\s*(-)?\s*(\d+)?")
_HINT = "give pages and ranges separated by commas, such as 10-40,55 or 3-"


@dataclass(frozen=True, slots=True, kw_only=True)
class PageRanges:
    """Some pages of a document, by physical number from 1.

    Attributes:
        text: As the user typed it.
        ranges: First and last page of each range; None for the last page of the document.
    """

    text: str
    ranges: tuple[tuple[int, int | None], ...]

    @classmethod
    def parse(cls, text: str) -> PageRanges:
        """Read `10-40,55`, `3-` (to the end) and `-5` (from the beginning).

        Raises:
            UsageError: If it is not a list of page ranges.
        """
        ranges: list[tuple[int, int | None]] = []
        for part in text.split(","):
            found = _PART.fullmatch(part.strip())
            if found is None or not (found[1] or found[3]):
                raise _invalid(text)
            first = int(found[1] or 1)
            last = int(found[3]) if found[3] else (None if found[2] else first)
            if first < 1 or (last is not None and last < first):
                raise _invalid(text)
            ranges.append((first, last))
        return cls(text=text, ranges=tuple(ranges))

    def __contains__(self, page: int) -> bool:
        return any(first <= page and (last is None or page <= last) for first, last in self.ranges)

    def check(self, pages: Iterable[int], name: str, unit: str = "page") -> None:
        """Make sure that a document has at least one of the pages.

        Raises:
            UsageError: If it has none.
        """
        numbers = list(pages)
        if not any(number in self for number in numbers):
            raise UsageError(
                f"--pages {self.text}: {name} has {unit}s {numbers[0]}-{numbers[-1]}"
                if len(numbers) > 1
                else f"--pages {self.text}: {name} has one {unit}",
                hint=_HINT,
            )


def _invalid(text: str) -> UsageError:
    return UsageError(f"invalid value for --pages: {text!r}", hint=_HINT)

"""Base64 data inside text: pictures of Markdown, JSON and XML files, certificates."""

from __future__ import annotations

import re

MARK = "[base64 data]"
"""What stands where base64 data was left out."""

_LETTERS = "A-Za-z0-9+/"
_LONG = re.compile(rf"(?<![{_LETTERS}_-])[{_LETTERS}_-]{{400,}}+={{0,2}}")
_WRAPPED = re.compile(
    rf"^[ \t]*[{_LETTERS}]{{60,100}}+[ \t]*\n(?:[ \t]*[{_LETTERS}]{{60,100}}+[ \t]*\n){{7,}}"
    rf"(?:[ \t]*[{_LETTERS}]*+={{0,2}}[ \t]*$)?",
    re.MULTILINE,
)
_FEWEST_SIGNS = 20
"""Different characters of data; a run of dashes, of hexadecimal figures or of DNA has fewer."""


def without_encoded(text: str) -> tuple[str, tuple[str, ...]]:
    """Return a text without its runs of base64 data.

    Args:
        text: With line feeds as line ends; the number of its lines does not change.

    Returns:
        The text with `MARK` in the place of each run, and a warning if it has one.
    """
    places: list[tuple[int, int]] = []

    def marked(found: re.Match[str]) -> str:
        run = found[0]
        if not _is_data(run):
            return run
        places.append((found.string.count("\n", 0, found.start()) + 1, len(run)))
        head = run[: len(run) - len(run.lstrip(" \t"))]
        return head + MARK + "\n" * run.count("\n")

    text = _WRAPPED.sub(marked, _LONG.sub(marked, text))
    if not places:
        return text, ()
    size, line = sum(length for _, length in places), min(places)[0]
    where = "in" if len(places) == 1 else f"at {len(places):,} places, first in"
    return text, (f"{size:,} characters of base64 data are left out {where} line {line:,}",)


def _is_data(run: str) -> bool:
    signs = set(run) - set("\n\t =")
    return (
        len(signs) >= _FEWEST_SIGNS
        and any(map(str.isupper, signs))
        and any(map(str.islower, signs))
        and any(map(str.isdigit, signs))
    )

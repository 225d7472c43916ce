"""Names of files as the disk spells them, and names that are URLs."""

from __future__ import annotations

import glob
import os
import re
import unicodedata
from pathlib import Path

_URL = re.compile(r"[a-z][a-z0-9+.-]+://\S", re.IGNORECASE)


def is_url(name: str) -> bool:
    """Whether a name is a URL, such as `https://example.org/report.pdf`, and not a path."""
    return _URL.match(name) is not None


def existing_name(name: str) -> str:
    """Return a path in the Unicode form in which it exists.

    A name typed in NFC finds a file named in NFD and the reverse, in any part of the path. The
    name is returned as it is if the file exists, or in no form.
    """
    if name.isascii() or os.path.lexists(name):
        return name
    for form in _forms(name):
        if os.path.lexists(form):
            return form
    found = ""
    for part in Path(name).parts:
        beside = os.path.join(found, part)  # noqa: PTH118 - an empty folder is the current one
        if not os.path.lexists(beside):
            same = _same_entry(found, part)
            if same is None:
                return name
            beside = os.path.join(found, same)  # noqa: PTH118
        found = beside
    return found


def matching_names(pattern: str) -> list[str]:
    """Return the paths that a glob matches, sorted, in either Unicode form."""
    patterns = dict.fromkeys([pattern, *_forms(pattern)])
    matches = (glob.glob(each, recursive=True) for each in patterns)  # noqa: PTH207 - keeps `./`
    return sorted({match for found in matches for match in found})


def _forms(name: str) -> list[str]:
    return [unicodedata.normalize("NFC", name), unicodedata.normalize("NFD", name)]


def _same_entry(folder: str, name: str) -> str | None:
    """Return the entry of a folder with a name that differs in its Unicode form alone, or None."""
    wanted = unicodedata.normalize("NFC", name)
    try:
        entries = os.listdir(folder or ".")  # noqa: PTH208 - names are all that is needed
    except OSError:
        return None
    return next((each for each in entries if unicodedata.normalize("NFC", each) == wanted), None)

"""Meetings with a reference summary of all that was said, from JSON Lines."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nsa_cli.documents import Document
from nsa_cli.evaluation.document_suite.tables import of_parts
from nsa_models.errors import DataError, UsageError
from nsa_models.tasks import is_held_out
from nsa_models.tasks.questions import read_lines

_NOISE = re.compile(r"\{\w+\}")
"""What a transcriber noted in place of words, such as `{vocalsound}`."""

_SPELLED = re.compile(r"(?<![A-Za-z])(?:[A-Z]_)+")
"""Letters that a speaker spells, such as `L_C_D_`."""

_APART = re.compile(r"\s+(?=[,.;:?!%)]|n't\b|'\w)")
_SPACES = re.compile(r"\s+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Meeting:
    """A meeting.

    Attributes:
        title: Its title.
        speakers: Those who speak, each once; their names are before their turns.
        document: What was said, a piece for each turn.
        reference: The summary that a person wrote.
        digest: SHA-256 of the document and the reference.
    """

    title: str
    speakers: tuple[str, ...]
    document: Document
    reference: str
    digest: str


def read_meetings(path: Path, *, held_out: bool) -> list[Meeting]:
    """Read meetings.

    Args:
        path: JSON Lines, optionally compressed with xz or gzip. A line has `title`, `turns`
            (speaker and text) and `questions`; the answer to a question without `turns` is a
            summary of the whole meeting.
        held_out: Whether to read only the eighth of the titles that training omits.

    Raises:
        DataError: If the file cannot be read, or a line has another form.
        UsageError: If no meeting has a summary.
    """
    found = []
    for number, row in enumerate(read_lines(path), 1):
        try:
            title = str(row["title"])
            whole = [each for each in row["questions"] if not each["turns"]]
            if whole and not (held_out and not is_held_out(title)):
                found.append(_meeting(title, row["turns"], str(whole[0]["answers"][0])))
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise DataError(
                f"{path}, line {number}: not a meeting with a summary",
                hint="each line has title, turns and questions",
                code="broken",
            ) from error
    if not found:
        raise UsageError(
            f"{path} has no meeting with a summary",
            hint="leave out --held-out" if held_out else "name another file",
        )
    return found


def chosen(meetings: Sequence[Meeting], *, only: Sequence[str], limit: int | None) -> list[Meeting]:
    """Return some meetings, the shortest first.

    Args:
        meetings: The meetings.
        only: Titles; empty for all.
        limit: Maximum meetings.

    Raises:
        UsageError: If a title is unknown.
    """
    titles = {each.title for each in meetings}
    for title in only:
        if title not in titles:
            raise UsageError(f"--only: no meeting {title!r}", hint="name titles of --data")
    some = [each for each in meetings if not only or each.title in only]
    return sorted(some, key=lambda each: (len(each.document.text), each.title))[:limit]


def _meeting(title: str, turns: Sequence[Any], reference: str) -> Meeting:
    said = [(str(speaker), _plain(str(text))) for speaker, text in turns]
    parts = [f"{speaker}: {text}" for speaker, text in said if text]
    facts = json.dumps([title, parts, reference], ensure_ascii=False)
    return Meeting(
        title=title,
        speakers=tuple(dict.fromkeys(speaker for speaker, _ in said)),
        document=of_parts(title, parts, unit="turn"),
        reference=" ".join(reference.split()),
        digest=hashlib.sha256(facts.encode()).hexdigest(),
    )


def _plain(text: str) -> str:
    """A turn without the transcriber's notes and marks, and without spaces before punctuation."""
    spelled = _SPELLED.sub(lambda match: match[0].replace("_", ""), _NOISE.sub(" ", text))
    return _APART.sub("", _SPACES.sub(" ", spelled)).strip()

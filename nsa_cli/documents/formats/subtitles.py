"""Transcripts in SubRip (.srt) and WebVTT (.vtt), cited by time."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass, field

from nsa_cli.documents.build import Builder
from nsa_cli.documents.document import Document
from nsa_cli.documents.formats.left_out import LeftOut
from nsa_cli.documents.text import read_text

_TIMES = re.compile(
    r"\s*((?:\d+:)?\d{1,2}:\d{2}[.,]\d{1,3})\s*-->\s*((?:\d+:)?\d{1,2}:\d{2}[.,]\d{1,3}).*"
)
_VOICE = re.compile(r"<v(?:\.[^\s>]*)?\s+([^>]*)>")
_TAG = re.compile(r"</?(?:[biuc]|v|lang|ruby|rt|font)\b[^>]*>|<\d[\d:.]*>|\{\\[^}]*\}", re.I)
_SENTENCE_END = re.compile(r"[.!?…。！？][\"'”’)\]]*$")
_UNREAD = ("STYLE", "REGION", "WEBVTT", "NOTE")
_MOST_CHARACTERS = 600


@dataclass(slots=True, kw_only=True)
class _Cue:
    """A cue: its number from 1, its time, its line in the file, and its text."""

    number: int
    time: str
    line: int
    text: list[str] = field(default_factory=list)


def read(data: bytes, name: str, *, hidden: bool = False) -> Document:
    """Read a transcript: each sentence, of one cue or several, is a piece labeled with its time.

    Args:
        data: The file.
        name: For citations and messages.
        hidden: Nothing is hidden in such a file.

    Raises:
        UnreadableError: If it is empty or no text.
    """
    del hidden
    source = read_text(data, name)
    left_out = LeftOut()
    cues, before = _cues(source.text, left_out)
    if not cues:
        return source
    builder = Builder(name, "cue")
    builder.add("\n".join(before))
    group: list[_Cue] = []
    for cue in cues:
        group.append(cue)
        text = " ".join(line for each in group for line in each.text)
        if _SENTENCE_END.search(text) or len(text) > _MOST_CHARACTERS:
            _add(builder, group)
            group = []
    _add(builder, group)
    return builder.document([*source.warnings, *left_out.warnings()])


def _add(builder: Builder, group: list[_Cue]) -> None:
    lines = [line for cue in group for line in cue.text]
    if lines:
        first = next(cue for cue in group if cue.text)
        builder.add("\n".join(lines), page=first.number, label=first.time, first_line=first.line)


def _cues(text: str, left_out: LeftOut) -> tuple[list[_Cue], list[str]]:
    """The cues, and the lines before the first one that say something."""
    lines = text.split("\n")
    cues: list[_Cue] = []
    before: list[str] = []
    speaker, unread = "", False
    for index, line in enumerate(lines):
        times = _TIMES.fullmatch(line)
        if times:
            cues.append(_Cue(number=len(cues) + 1, time=_shown(times[1]), line=index + 2))
            ended = len(cues) < 2 or _SENTENCE_END.search("".join(cues[-2].text[-1:]))
            speaker, unread = "" if ended else speaker, False
            continue
        following = lines[index + 1] if index + 1 < len(lines) else ""
        blank = not line.strip()
        after_blank = index == 0 or not lines[index - 1].strip()
        unread = (unread and not blank) or (after_blank and line.startswith(_UNREAD))
        if unread and after_blank and line.startswith("NOTE"):
            left_out.add("note", line.removeprefix("NOTE"))
        if blank or unread or (after_blank and _TIMES.fullmatch(following)):
            continue  # an identifier: the line above the times
        voice = _VOICE.search(line)
        shown = html.unescape(_TAG.sub("", line)).strip()
        if voice and voice[1].strip() != speaker:
            speaker = voice[1].strip()
            shown = f"{speaker}: {shown}"
        if shown:
            (cues[-1].text if cues else before).append(shown)
    return cues, before


def _shown(time: str) -> str:
    """A time as `01:02:03`, without its fraction."""
    parts = time.replace(",", ".").partition(".")[0].split(":")
    return ":".join(part.zfill(2) for part in ["00", *parts][-3:])

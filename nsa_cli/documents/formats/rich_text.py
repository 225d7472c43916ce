"""Rich Text Format, read by striprtf after its skipped groups are moved into the text."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from nsa_cli.documents.build import Builder
from nsa_cli.documents.decoding import known_charset
from nsa_cli.documents.document import Document
from nsa_cli.documents.formats.archive import as_broken
from nsa_cli.documents.formats.left_out import HIDDEN_TEXT, LeftOut
from nsa_cli.documents.formats.raised import mark_before
from nsa_cli.documents.missing import need

_SURFACED = {
    **dict.fromkeys(("header", "headerf", "headerl", "headerr"), ("\\par Header: ", "\\par ")),
    **dict.fromkeys(("footer", "footerf", "footerl", "footerr"), ("\\par Footer: ", "\\par ")),
    **dict.fromkeys(("shptxt", "dptxbxtext"), ("\\par ", "\\par ")),
    "footnote": (" [Note: ", "]"),
    "annotation": (" [Comment: ", "]"),
}
"""Destinations that a reader sees and striprtf passes over, and what is put around them."""

_NUMBERS = frozenset(["pntext"])
"""Destinations whose text is part of the line around them."""

_ENDS = frozenset(["nosupersub", "plain", "par", "sub"])
"""Words after which text is not raised."""

_CHANGED = frozenset(["chftn", "chatn"])
_TOKEN = re.compile(r"\\([a-z]+)(-?\d+)? ?|\\'[0-9a-f]{2}|\\[^a-z]|[{}]|[^\\{}]+", re.I)
_GROUP = re.compile(r"\s*(\\\*\s*)?\\([a-z]+)")
_ESCAPED = re.compile(r"\\'([0-9a-f]{2})", re.I)
_BINARY = re.compile(r"\\bin(\d{1,9}) ?")
_UNCOUNTED = re.compile(r"\\bin(?![\da-z]) ?", re.I)
"""The mark of raw bytes without their number, which some programs write before figures in hex."""

_FONT = re.compile(r"(\\f\d+)(?=(?:(?!\\fcharset|\\f\d)[^;])*;)")
"""A font without a charset, which striprtf would give that of the next one."""

_CODE_PAGE = re.compile(r"\\ansicpg(\d+)")
_IGNORED = "\\*"
_MOST_DEPTH = 500


@dataclass(slots=True, kw_only=True)
class _Group:
    """A group of the file that is being copied.

    Attributes:
        word: Its destination, or an empty string.
        skipped: Whether striprtf passes over it.
        state: Kinds of text that are left out here: hidden and deleted text.
        parts: What was copied.
        hoisted: What follows the group, since a reader sees it.
    """

    word: str = ""
    skipped: bool = False
    state: frozenset[str] = frozenset()
    parts: list[str] = field(default_factory=list)
    hoisted: list[str] = field(default_factory=list)


def read(data: bytes, name: str, *, hidden: bool = False) -> Document:
    """Read an .rtf.

    Args:
        data: The file.
        name: For citations and messages.
        hidden: Whether hidden text is read.

    Raises:
        UnreadableError: If it is damaged or empty, or striprtf is missing.
    """
    library = need("striprtf.striprtf", "striprtf", "RTF documents")
    left_out = LeftOut()
    with as_broken(name, "RTF document"):
        source = data.lstrip().decode("cp1252", "replace")
        page = _CODE_PAGE.search(source)
        encoding = known_charset(f"cp{page[1]}" if page else "cp1252") or "cp1252"
        source = _surfaced(source, left_out, hidden=hidden)
        text = library.rtf_to_text(source, encoding=encoding, errors="replace")
    builder = Builder(name)
    builder.add("\n".join(map(_row, text.replace("\xad", "").split("\n"))))
    return builder.document(left_out.warnings())


def _row(line: str) -> str:
    """A row of a table, whose cells end with bars, like the rows of other formats."""
    if not line.rstrip().endswith("|"):
        return line
    return " | ".join(cell.strip() for cell in line.rstrip().removesuffix("|").split("|"))


def _surfaced(source: str, left_out: LeftOut, *, hidden: bool) -> str:
    """A file with its headers, notes, comments and text boxes as plain text of the document."""
    source = _without_binary(source)
    stack = [_Group()]
    raised, before = False, ""
    for token in _TOKEN.finditer(source):
        text, group = token[0], stack[-1]
        if token[1]:
            raised = token[2] != "0" if token[1] == "super" else raised and token[1] not in _ENDS
        elif text == "}":
            raised = False
        elif text != "{" and not group.skipped and not group.state:
            if raised and (mark := mark_before(before, text)):
                group.parts.append(mark)
            raised, before = False, text.strip("\r\n") or before
        if text == "{" and len(stack) < _MOST_DEPTH:
            stack.append(_opened(source, token.end(), group))
        elif text == "}" and len(stack) > 1:
            _close(stack)
        elif token[1] in ("v", "deleted"):
            kind = HIDDEN_TEXT if token[1] == "v" else "tracked deletion"
            on = token[2] != "0" and not (kind == HIDDEN_TEXT and hidden)
            group.state = group.state | {kind} if on else group.state - {kind}
        elif token[1] == "plain":
            group.state = frozenset()
            group.parts.append(text)
        elif group.state and not token[1] and text not in "{}":
            if not group.skipped:
                left_out.add(next(iter(group.state)), _plain(text))
        elif token[1] not in _SURFACED and token[1] not in _NUMBERS | _CHANGED:
            group.parts.append(text)
    while len(stack) > 1:
        _close(stack)
    return "".join(stack[0].parts)


def _without_binary(source: str) -> str:
    """A file without raw bytes of pictures, which braces may be among."""
    parts: list[str] = []
    start = 0
    while found := _BINARY.search(source, start):
        parts.append(source[start : found.start()])
        start = found.end() + int(found[1])
    return _UNCOUNTED.sub("", "".join([*parts, source[start:]]))


def _opened(source: str, at: int, outer: _Group) -> _Group:
    found = _GROUP.match(source, at)
    word = found[2].lower() if found else ""
    shown = word in _SURFACED or word in _NUMBERS
    skipped = not shown and (outer.skipped or word in ("shp", "do") or bool(found and found[1]))
    return _Group(word=word, skipped=skipped, state=outer.state)


def _close(stack: list[_Group]) -> None:
    """End the innermost group, and put it where it is read."""
    group = stack.pop()
    body = "".join(group.parts)
    if group.word == "fonttbl":
        body = _FONT.sub(r"\1\\fcharset1", body)
    outer = stack[-1]
    if group.word in _SURFACED:
        before, after = _SURFACED[group.word]
        text = f"{{{before}{body.removeprefix(_IGNORED).strip()}{after}}}"
        skipped = next((each for each in stack if each.skipped), None)
        (outer.parts if skipped is None else skipped.hoisted).append(text)
    else:
        outer.parts.append(f"{{{body}}}")
    outer.parts += group.hoisted if not outer.skipped else []
    if outer.skipped:
        outer.hoisted += group.hoisted


def _plain(text: str) -> str:
    return _ESCAPED.sub(lambda found: bytes([int(found[1], 16)]).decode("cp1252", "replace"), text)

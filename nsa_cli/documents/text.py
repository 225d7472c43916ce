"""Plain text, Markdown, source code and logs become documents."""

from __future__ import annotations

import re
import textwrap
import unicodedata

from nsa_cli.documents.decoding import decode
from nsa_cli.documents.document import Document, Piece
from nsa_cli.documents.encoded import without_encoded
from nsa_cli.documents.errors import UnreadableError
from nsa_cli.documents.invisible import tagged_text, without_invisible

_ESCAPES = re.compile(
    r"\x1b(?:"
    r"\[[0-?]*[ -/]*[@-~]"  # CSI: colors, cursor movement
    r"|\][^\x07\x1b\n\r]*(?:\x07|\x1b\\)"  # OSC: window titles, links
    r"|[ -/]*[0-~]"  # all shorter ones
    r")?"
)
_SHOWN = 40
"""Characters of invisible text that a warning quotes."""

_LINE_END = re.compile(r"\r+\n")


def read_text(
    data: bytes, name: str, declared: str | None = None, *, encoded: bool = False
) -> Document:
    """Decode a text file into a document of one piece.

    Line ends become line feeds. Terminal escape sequences, letters that are typed over, invisible
    characters and base64 data go. Line numbers are those of the file, as `grep -n` counts them.
    The text is normalized to NFC, as the tokenizer needs.

    Args:
        data: The bytes of the file.
        name: The path as the user typed it, for citations and messages.
        declared: The charset that the file names, or None.
        encoded: Whether base64 data is kept; otherwise a mark stands for it.

    Raises:
        UnreadableError: The file is empty or white space (`empty`), is not text (`binary`), or
            has an encoding that cannot be told (`encoding`).
    """
    text, warnings = decode(data, name, declared)
    text = without_backspaces(without_escapes(unify_line_ends(text)))
    if tagged := tagged_text(text):
        said = textwrap.shorten(tagged, _SHOWN, placeholder=" …")
        warnings += (f"invisible text (Unicode tags) is left out: “{said}”",)
    text = unicodedata.normalize("NFC", without_invisible(text))
    if not encoded:
        text, told = without_encoded(text)
        warnings += told
    if not text.strip():
        what = "is empty" if not data else "contains nothing but white space"
        raise UnreadableError(f"{name} {what}", hint="name a file with text in it", code="empty")
    piece = Piece(source=name, page=None, page_label=None, start=0, end=len(text), first_line=1)
    return Document(name=name, text=text, pieces=(piece,), warnings=warnings)


def without_escapes(text: str) -> str:
    """A text without terminal escape sequences."""
    return _ESCAPES.sub("", text) if "\x1b" in text else text


def without_backspaces(text: str) -> str:
    """A text as a terminal shows it: manual pages type bold and underlined letters twice."""
    if "\b" not in text:
        return text
    return "\n".join(_typed(line) if "\b" in line else line for line in text.split("\n"))


def _typed(line: str) -> str:
    """A line whose backspaces move back, so that the next character replaces the one there."""
    typed: list[str] = []
    at = 0
    for char in line:
        if char == "\b":
            at = max(0, at - 1)
            continue
        if at == len(typed):
            typed.append(char)
        elif char != "_":
            typed[at] = char
        at += 1
    return "".join(typed)


def unify_line_ends(text: str) -> str:
    """A text whose lines end with a line feed alone.

    A carriage return that no line feed follows moves the cursor back in the same line, as progress
    bars do, and becomes a space. It ends a line only in a text without any line feed.
    """
    if "\r" not in text:
        return text
    text = _LINE_END.sub("\n", text)
    return text.replace("\r", " " if "\n" in text else "\n")

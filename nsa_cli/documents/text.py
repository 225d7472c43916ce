"""Plain text, Markdown, source code and logs become documents."""

from __future__ import annotations

import codecs
import re
import shlex
import unicodedata
from collections import Counter

from nsa_cli.documents.document import Document, Piece
from nsa_cli.documents.signatures import identify
from nsa_models.errors import UnreadableError

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
"""Byte-order marks; UTF-32 first, because its little-endian mark begins like that of UTF-16."""

_CONTROLS = bytes(set(range(32)) - set(b"\t\n\r\f\b\x1b")) + b"\x7f"
_MOST_CONTROLS = 0.05
"""A larger share of control bytes than this is no text; random bytes hold a tenth."""

_MOST_FOREIGN = 0.3
"""In a Western European text fewer than this share of characters lie outside ASCII."""

_FEWEST_PLAUSIBLE = 0.9
"""At least this share of the characters outside ASCII are letters or typography there."""

_TYPOGRAPHY = frozenset("‘’‚“”„‹›«»–—…•·§©®™°±²³¹¼½¾€£¥¢¡¿ªº×÷µ¶´¨¸¬¦\xa0\xad")

_ESCAPES = re.compile(
    r"\x1b(?:"
    r"\[[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor movement
    r"|\][^\x07\x1b\n\r]*(?:\x07|\x1b\\)"  # OSC: window titles, links
    r"|[ -/]*[0-~]"  # all shorter ones
    r")?"
)


def read_text(data: bytes, name: str) -> Document:
    """Decode a text file into a document of one piece.

    Line ends become line feeds and terminal escape sequences go; nothing else is stripped, so
    line numbers are those of the file. The text is normalised to NFC, as the tokenizer needs.
    UTF-8, and UTF-16 or UTF-32 with a byte-order mark, are read as they are. Anything else is
    read with a warning: as UTF-8 with the damaged places marked where most of it is UTF-8, as
    Windows-1252 where the outcome looks like a Western European text.

    Args:
        data: The bytes of the file.
        name: The path as the user typed it, for citations and messages.

    Raises:
        UnreadableError: The file is empty or white space (`empty`), is not text (`binary`), or
            has an encoding that cannot be told (`encoding`).
    """
    text, warnings = _decode(data, name)
    text = _ESCAPES.sub("", _unify_line_ends(text)) if "\x1b" in text else _unify_line_ends(text)
    text = unicodedata.normalize("NFC", text)
    if not text.strip():
        what = "is empty" if not data else "contains nothing but white space"
        raise UnreadableError(f"{name} {what}", hint="name a file with text in it", code="empty")
    piece = Piece(source=name, page=None, page_label=None, start=0, end=len(text), first_line=1)
    return Document(name=name, text=text, pieces=(piece,), warnings=warnings)


def _unify_line_ends(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _decode(data: bytes, name: str) -> tuple[str, tuple[str, ...]]:
    """The text of some bytes, and a warning where its encoding was guessed."""
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return _decode_marked(data[len(mark) :], encoding, name), ()
    _refuse_binary(data, name)
    try:
        return data.decode("utf-8"), ()
    except UnicodeDecodeError as error:
        intact_bytes = data[: error.start]
    marked = data.decode("utf-8", "replace")
    damaged = marked.count("�") - data.count("�".encode())
    foreign = len(marked) - len(marked.encode("ascii", "ignore"))
    if foreign - damaged > damaged:
        line = 1 + _unify_line_ends(intact_bytes.decode("utf-8")).count("\n")
        places = "place is" if damaged == 1 else "places are"
        return marked, (f"{damaged} {places} not valid UTF-8 and read as �, first in line {line}",)
    western = _decode_western(data)
    if western is None:
        raise UnreadableError(
            f"{name} is neither UTF-8 nor another encoding that can be told",
            hint=_convert_hint("ENCODING", name),
            code="encoding",
        )
    return western, ("not UTF-8; read as Windows-1252 (cp1252), so some letters may be wrong",)


def _decode_marked(data: bytes, encoding: str, name: str) -> str:
    """Decode bytes whose byte-order mark told their encoding."""
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise UnreadableError(
            f"{name} is not valid {encoding.upper()}, which its byte-order mark says it is",
            hint="save it again as UTF-8",
            code="encoding",
        ) from error
    if "\0" in text:
        raise _binary(name, "contains NUL characters and is no text")
    return text


def _decode_western(data: bytes) -> str | None:
    """The text as Windows-1252, or None where that does not look like a text."""
    try:
        text = data.decode("cp1252")
    except UnicodeDecodeError:
        return None
    foreign = Counter({char: n for char, n in Counter(text).items() if char > "\x7f"})
    if foreign.total() > _MOST_FOREIGN * len(text):
        return None
    plausible = sum(n for char, n in foreign.items() if char.isalpha() or char in _TYPOGRAPHY)
    return text if plausible >= _FEWEST_PLAUSIBLE * foreign.total() else None


def _refuse_binary(data: bytes, name: str) -> None:
    """Raise for bytes that are no text, with what they look like where that is known."""
    controls = len(data) - len(data.translate(None, _CONTROLS))
    signature = identify(data) if controls else None
    if signature is not None:
        raise UnreadableError(
            f"{name} looks like {signature.looks_like}, not like text",
            hint=signature.hint_for(name),
            code="binary",
        )
    if b"\0" in data:
        encoding = _unmarked_utf16(data)
        if encoding is not None:
            raise UnreadableError(
                f"{name} looks like {encoding} without a byte-order mark",
                hint=_convert_hint(encoding, name),
                code="encoding",
            )
        raise _binary(name, "contains NUL bytes and is no text")
    if controls > _MOST_CONTROLS * len(data):
        raise _binary(name, "consists of control characters and is no text")


def _unmarked_utf16(data: bytes) -> str | None:
    """The byte order of UTF-16 without a mark, told by which half of its bytes is NUL."""
    sample = data[:1024]
    first = sample[0::2].count(0) / len(sample[0::2])
    second = sample[1::2].count(0) / max(1, len(sample[1::2]))
    if first < 0.2 and second > 0.8:
        return "UTF-16LE"
    return "UTF-16BE" if second < 0.2 and first > 0.8 else None


def _convert_hint(encoding: str, name: str) -> str:
    return f"convert it first, e.g. `iconv -f {encoding} -t UTF-8 {shlex.quote(name)} > out.txt`"


def _binary(name: str, what: str) -> UnreadableError:
    return UnreadableError(f"{name} {what}", hint="name a PDF or a text file", code="binary")

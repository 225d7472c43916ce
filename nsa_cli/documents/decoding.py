"""Bytes become text: by their byte-order mark, the charset they declare, or what they look like."""

from __future__ import annotations

import codecs
import shlex
from collections import Counter

from nsa_cli.documents.byte_forms import (
    ASCII_LINE,
    CONTROLS,
    MARKS,
    is_log_with_nul,
    mixed_utf16,
    unmarked_utf16,
    without_nul,
)
from nsa_cli.documents.errors import UnreadableError
from nsa_cli.documents.signatures import identify

_MOST_CONTROLS = 0.05
"""Maximum share of control bytes in text; random bytes have a tenth."""

_MOST_FOREIGN = 0.3
"""In a Western European text fewer than this share of characters lie outside ASCII."""

_FEWEST_PLAUSIBLE = 0.9
"""At least this share of the characters outside ASCII are letters or typography there."""

_TYPOGRAPHY = frozenset("‘’‚“”„‹›«»–—…•·§©®™°±²³¹¼½¾€£¥¢¡¿ªº×÷µ¶´¨¸¬¦\xa0\xad")

_LABELS = {
    "iso-8859-1": "cp1252",
    "latin1": "cp1252",
    "latin-1": "cp1252",
    "us-ascii": "cp1252",
    "ascii": "cp1252",
    "iso-8859-9": "cp1254",
    "iso-8859-11": "cp874",
    "tis-620": "cp874",
    "shift_jis": "cp932",
    "shift-jis": "cp932",
    "sjis": "cp932",
    "x-sjis": "cp932",
    "windows-31j": "cp932",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "x-gbk": "gb18030",
    "euc-kr": "cp949",
    "ks_c_5601-1987": "cp949",
    "big5": "big5hkscs",
    "x-user-defined": "cp1252",
    "macintosh": "mac-roman",
    "x-mac-cyrillic": "mac-cyrillic",
    "unicode-1-1-utf-8": "utf-8",
    "utf8": "utf-8",
    "unicode": "utf-8",
    "utf-16": "utf-8",  # a page that could say so in ASCII is not UTF-16
}
"""What browsers take a label for, where it is not what the label says."""

_FEWEST_MULTIBYTE = 4
"""Valid UTF-8 with this many characters outside ASCII overrides the declared charset."""

_CUT_WITHIN = 64
_FOREIGN = bytes(range(0x80, 0x100))
_FEWEST_TO_GUESS = 64
"""Bytes outside ASCII that tell a charset; with fewer, charset-normalizer is often wrong."""

_LOOKED_AT = 262_144


def decode(data: bytes, name: str, declared: str | None = None) -> tuple[str, tuple[str, ...]]:
    """The text of some bytes, with a warning where it was guessed or damaged.

    A byte-order mark goes first, then the charset that the file declares, then UTF-8. Anything else
    is read as UTF-8 with the damaged places marked where most of it is UTF-8, as Windows-1252 where
    the outcome looks like a Western European text, and else as charset-normalizer guesses.

    Args:
        data: The bytes.
        name: The path as the user typed it, for messages.
        declared: The charset that the file names, or None.

    Raises:
        UnreadableError: They are not text (`binary`), or their encoding cannot be told
            (`encoding`).
    """
    for mark, encoding in MARKS:
        if data.startswith(mark):
            return _decode_marked(data[len(mark) :], encoding, name)
    told: tuple[str, ...] = ()
    if declared is not None:
        text, told = _decode_declared(data, declared)
        if text is not None:
            return text, told
    data, nul = without_nul(data)
    told += nul
    _refuse_binary(data, name)
    if b"\x1b$" in data and (text := _decoded(data, "iso2022_jp")) is not None:
        return text, told
    if (text := _decoded(data, "utf-8")) is not None:
        return text, told
    text, damage = _decode_damaged(data)
    if text is not None:
        return text, (*told, damage)
    western = _decode_western(data)
    if western is None and (guessed := _guess(data)) is not None:
        text, encoding = guessed
        guess = f"not UTF-8; the charset was guessed as {encoding}, so letters may be wrong"
        return text, (*told, guess)
    if western is None:
        raise UnreadableError(
            f"{name} is neither UTF-8 nor another known encoding",
            hint=_convert_hint("ENCODING", name),
            code="encoding",
        )
    guess = "not UTF-8; read as Windows-1252 (cp1252), so some letters may be wrong"
    return western, (*told, guess)


def decode_anyhow(data: bytes, declared: str | None) -> tuple[str, tuple[str, ...]]:
    """The text of a part of a file, such as a mail; what cannot be decoded is marked with `�`.

    Args:
        data: The bytes.
        declared: The charset that the part names, or None.
    """
    try:
        return decode(data, "the text", declared)
    except UnreadableError:
        return data.decode("cp1252", "replace"), ("the charset of a part cannot be told",)


def _windows_charset(label: str) -> codecs.CodecInfo | None:
    """The codec of a label such as `windows-950`, which Python knows by its number alone."""
    number = label.removeprefix("windows_").removeprefix("windows-")
    return codecs.lookup(f"cp{number}") if number != label and number.isdecimal() else None


codecs.register(_windows_charset)


def known_charset(label: str) -> str | None:
    """The codec for a charset's label, as browsers take it; None for one that is not known."""
    label = label.strip().strip("\"'").lower()
    try:
        found = codecs.lookup(_LABELS.get(label, label))
    except (LookupError, ValueError):
        return None
    return found.name if found._is_text_encoding else None


def _decode_declared(data: bytes, declared: str) -> tuple[str | None, tuple[str, ...]]:
    """The text in the charset that a file declares; None and a warning if it is in another one."""
    encoding = known_charset(declared)
    if encoding is None:
        return None, (f"the declared charset {declared[:40]!r} is not known",)
    if encoding == "utf-8":
        return _decoded(data, encoding), ()
    unicode = _decoded(data, "utf-8")
    if unicode is not None and encoding != "iso2022_jp":
        multibyte = sum(1 for char in unicode if char > "\x7f")
        if multibyte >= _FEWEST_MULTIBYTE:
            return unicode, (f"declared as {declared}, but valid UTF-8, and read as that",)
    try:
        return data.decode(encoding), ()
    except (UnicodeDecodeError, LookupError):
        text = data.decode(encoding, "replace")
    damaged = text.count("�")
    if damaged > max(1, len(text) // 50):
        return None, (f"not valid {declared}, which it declares",)
    places = "1 place is" if damaged == 1 else f"{damaged:,} places are"
    return text, (f"{places} not valid {declared} and read as �",)


def _decoded(data: bytes, encoding: str) -> str | None:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        return None


def _decode_damaged(data: bytes) -> tuple[str | None, str]:
    """The text and a warning where most of what is outside ASCII is UTF-8; else None."""
    marked = data.decode("utf-8", "replace")
    damaged = marked.count("�") - data.count("�".encode())
    foreign = len(marked) - len(marked.encode("ascii", "ignore"))
    if foreign - damaged <= damaged:
        return None, ""
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = 1 + data.count(b"\n", 0, error.start)
    places = "place is" if damaged == 1 else "places are"
    return marked, f"{damaged} {places} not valid UTF-8 and read as �, first in line {line}"


def _decode_marked(data: bytes, encoding: str, name: str) -> tuple[str, tuple[str, ...]]:
    """Decode bytes whose byte-order mark told their encoding."""
    if encoding.startswith("utf-16") and ASCII_LINE.search(data):
        text, lines = mixed_utf16(data, encoding)
        if lines:
            what = "1 line is" if lines == 1 else f"{lines:,} lines are"
            return _checked(text, name, (f"{what} UTF-8 in a file of {encoding.upper()}",))
    found = _decoded(data, encoding)
    told: tuple[str, ...] = ()
    if found is None and encoding == "utf-8":
        found, damage = _decode_damaged(data)
        told = (damage,)
    elif found is None and len(data) >= _CUT_WITHIN:
        found = data.decode(encoding, "replace")
        damaged = found.count("�")
        told = (f"not valid {encoding.upper()} in places, read as � ({damaged:,})",)
        found = found if damaged <= max(1, len(found) // 50) else None
    if found is None:
        raise UnreadableError(
            f"{name} is not valid {encoding.upper()}, which its byte-order mark says it is",
            hint="save it again as UTF-8",
            code="encoding",
        )
    return _checked(found, name, told)


def _checked(text: str, name: str, told: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """A text without the NUL characters that a log may hold."""
    if "\0" not in text:
        return text, told
    data, nul = without_nul(text.encode("utf-8", "surrogatepass"))
    if b"\0" in data:
        raise _binary(name, "contains NUL characters and is not text")
    return data.decode("utf-8", "surrogatepass"), (*told, *nul)


def _decode_western(data: bytes) -> str | None:
    """The text as Windows-1252, or None if that does not look like text."""
    text = _decoded(data, "cp1252")
    if text is None:
        return None
    foreign = Counter({char: n for char, n in Counter(text).items() if char > "\x7f"})
    if foreign.total() > _MOST_FOREIGN * len(text):
        return None
    plausible = sum(n for char, n in foreign.items() if char.isalpha() or char in _TYPOGRAPHY)
    return text if plausible >= _FEWEST_PLAUSIBLE * foreign.total() else None


def _guess(data: bytes) -> tuple[str, str] | None:
    """The text and the charset that charset-normalizer guesses; None for too little text."""
    if len(data) - len(data.translate(None, _FOREIGN)) < _FEWEST_TO_GUESS:
        return None
    from charset_normalizer import from_bytes  # takes a while to import

    best = from_bytes(data[:_LOOKED_AT]).best()
    if best is None:
        return None
    text = _decoded(data, best.encoding)
    return None if text is None else (text, best.encoding)


def may_be_text(head: bytes) -> bool:
    """Whether the first bytes of a file look like a text, NUL bytes in a log included."""
    if any(head.startswith(mark) for mark, _ in MARKS):
        return True
    controls = len(head) - len(head.translate(None, CONTROLS))
    if controls and identify(head) is not None:
        return False
    if b"\0" in head:
        return is_log_with_nul(head)
    return controls <= _MOST_CONTROLS * len(head)


def _refuse_binary(data: bytes, name: str) -> None:
    """Raise the error for bytes that are not text, with the format they look like, if known."""
    controls = len(data) - len(data.translate(None, CONTROLS))
    signature = identify(data) if controls else None
    if signature is not None:
        raise UnreadableError(
            f"{name} looks like {signature.looks_like}, not like text",
            hint=signature.hint_for(name),
            code="binary",
        )
    if b"\0" in data:
        encoding = unmarked_utf16(data)
        if encoding is not None:
            raise UnreadableError(
                f"{name} looks like {encoding} without a byte-order mark",
                hint=_convert_hint(encoding, name),
                code="encoding",
            )
        raise _binary(name, "contains NUL bytes and is not text")
    if controls > _MOST_CONTROLS * len(data):
        raise _binary(name, "consists of control characters and is not text")


def _convert_hint(encoding: str, name: str) -> str:
    return f"convert it first, e.g. `iconv -f {encoding} -t UTF-8 {shlex.quote(name)} > out.txt`"


def _binary(name: str, what: str) -> UnreadableError:
    return UnreadableError(f"{name} {what}", hint="name a PDF or a text file", code="binary")

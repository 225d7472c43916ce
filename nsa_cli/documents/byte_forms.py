"""Forms of bytes that a text may have: marks, NUL bytes between lines, two encodings in one."""

from __future__ import annotations

import codecs
import re

from nsa_cli.documents.signatures import identify

MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
"""Byte-order marks; UTF-32 first, because its little-endian mark begins like that of UTF-16."""

CONTROLS = bytes(set(range(32)) - set(b"\t\n\r\f\b\x1b")) + b"\x7f"
_MOST_CONTROLS = 0.002
"""The share beside NUL bytes, which make a binary file likely."""

ASCII_LINE = re.compile(rb"[\t\x20-\x7e]{16,}\r?\n?")
_FEWEST_BYTES = 8


def mixed_utf16(data: bytes, encoding: str) -> tuple[str, int]:
    """A text of UTF-16 to which lines of UTF-8 were appended, and the number of these lines."""
    newline = "\n".encode(encoding)
    parts: list[str] = []
    start = lines = 0
    while start < len(data):
        end = data.find(b"\n", start) + 1 or len(data)
        line = data[start:end]
        if _is_utf8_line(line, data[end : end + 1]):
            parts.append(line.decode())
            lines += 1
        else:
            end = data.find(newline, start)
            while end >= 0 and (end - start) % 2:
                end = data.find(newline, end + 1)
            end = len(data) if end < 0 else end + 2
            parts.append(data[start:end].decode(encoding, "replace"))
        start = end
    return "".join(parts), lines


def _is_utf8_line(line: bytes, after: bytes) -> bool:
    if len(line) < _FEWEST_BYTES or b"\0" in line or after == b"\0":
        return False
    printable = sum(1 for byte in line if 0x20 <= byte < 0x7F or byte in b"\t\r\n")
    return printable >= 0.8 * len(line) and _is_utf8(line)


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def is_log_with_nul(data: bytes) -> bool:
    """Whether some bytes are lines of text with NUL bytes between, as a truncated log holds."""
    rest = data.replace(b"\0", b"")
    if b"\n" not in rest:
        return False
    controls = len(rest) - len(rest.translate(None, CONTROLS))
    marked = rest.decode("utf-8", "replace").count("�")
    return controls + marked <= max(1, _MOST_CONTROLS * len(rest))


def without_nul(data: bytes) -> tuple[bytes, tuple[str, ...]]:
    """Bytes of a log without its NUL bytes, and a warning; other bytes as they are."""
    count = data.count(0)
    if not count or identify(data) is not None or unmarked_utf16(data) is not None:
        return data, ()
    if not is_log_with_nul(data):
        return data, ()
    line = 1 + data.count(b"\n", 0, data.index(0))
    what = "1 NUL byte is" if count == 1 else f"{count:,} NUL bytes are"
    return data.replace(b"\0", b""), (f"{what} left out, first in line {line}",)


def as_utf8(data: bytes) -> bytes:
    """UTF-16 as UTF-8, with or without a byte-order mark; other bytes as they are."""
    encoding = unmarked_utf16(data)
    for mark, marked in MARKS:
        if data.startswith(mark):
            data, encoding = data[len(mark) :], marked
            break
    if encoding is None or encoding == "utf-8":
        return data
    return data.decode(encoding, "replace").encode("utf-8", "replace")


def unmarked_utf16(data: bytes) -> str | None:
    """The byte order of UTF-16 without a mark, told by which half of its bytes is NUL."""
    sample = data[:1024]
    first = sample[0::2].count(0) / max(1, len(sample[0::2]))
    second = sample[1::2].count(0) / max(1, len(sample[1::2]))
    if first < 0.2 and second > 0.8:
        return "UTF-16LE"
    return "UTF-16BE" if second < 0.2 and first > 0.8 else None

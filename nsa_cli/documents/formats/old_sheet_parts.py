"""Records of an .xls workbook: text boxes, and records that xlrd does not need."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

_BOF, _EOF = 0x809, 0x0A
_SHEET, _WORKSHEET = 0x85, 0
_DRAWING, _OBJECT, _TEXT, _CONTINUED = 0xEC, 0x5D, 0x1B6, 0x3C
_NAME, _NOTE = 0x18, 0x1C
_NOTE_OBJECT = 0x19
_UNKNOWN = 0x0FFF
_BESIDE = frozenset([_NAME, _NOTE, _DRAWING, _OBJECT, _TEXT])
_ANCHOR = re.compile(rb"\x00\x00\x10\xf0\x12\x00\x00\x00.{6}(..)", re.DOTALL)
"""Place of a shape: the row of its upper left corner, counted from 0, after six bytes."""


def text_boxes(stream: bytes) -> list[list[tuple[int, str]]]:
    """The lines of the text boxes of each worksheet, each with its row from 1.

    Args:
        stream: The records of an Excel 97 to 2003 workbook; others have none.
    """
    return [
        _boxes_of(stream, struct.unpack_from("<I", content)[0])
        for _, kind, content in _records(stream, 0)
        if kind == _SHEET and len(content) > 6 and content[5] == _WORKSHEET
    ]


def values_alone(stream: bytes) -> bytes:
    """A workbook of the same length without names, comments and drawings."""
    changed = bytearray(stream)
    position = 0
    while position + 4 <= len(stream):
        kind, length = struct.unpack_from("<HH", stream, position)
        if kind in _BESIDE:
            struct.pack_into("<H", changed, position, _UNKNOWN)
        position += 4 + length
    return bytes(changed)


def _records(stream: bytes, start: int) -> Iterator[tuple[int, int, bytes]]:
    """The records of a part of a workbook: position, kind, content; charts in it are left out."""
    position, depth = start, 0
    while position + 4 <= len(stream):
        kind, length = struct.unpack_from("<HH", stream, position)
        depth += (kind == _BOF) - (kind == _EOF)
        if depth <= 0:
            return
        if depth == 1:
            yield position, kind, stream[position + 4 : position + 4 + length]
        position += 4 + length


def _boxes_of(stream: bytes, start: int) -> list[tuple[int, str]]:
    found = []
    row, is_note = 1, False
    for position, kind, content in _records(stream, start):
        if kind == _DRAWING and (anchor := _ANCHOR.search(content)):
            row = 1 + int(struct.unpack("<H", anchor[1])[0])
        elif kind == _OBJECT and len(content) >= 6:
            is_note = struct.unpack_from("<H", content, 4)[0] == _NOTE_OBJECT
        elif kind == _TEXT and len(content) >= 12 and not is_note:
            text = _text_of(stream, position + 4 + len(content), content)
            lines = (" ".join(line.split()) for line in text.splitlines())
            found += [(row, line) for line in lines if line]
    return found


def _text_of(stream: bytes, position: int, content: bytes) -> str:
    """The text of a box, which the records after it hold: Latin-1 or UTF-16, each by a flag."""
    wanted = struct.unpack_from("<H", content, 10)[0]
    text = ""
    while len(text) < wanted and position + 5 <= len(stream):
        kind, length = struct.unpack_from("<HH", stream, position)
        if kind != _CONTINUED:
            break
        raw = stream[position + 5 : position + 4 + length]
        wide = stream[position + 4] & 1
        text += raw.decode("utf-16-le" if wide else "latin-1", "replace")
        position += 4 + length
    return text[:wanted]

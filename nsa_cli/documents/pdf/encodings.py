"""Characters that PDFium takes for others, by what pypdf knows of their fonts."""

from __future__ import annotations

import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from pypdf import PageObject
from pypdf._codecs import charset_encoding
from pypdf._codecs.adobe_glyphs import adobe_glyphs
from pypdf.generic import DictionaryObject, NumberObject, StreamObject

from nsa_cli.documents.pdf.language import is_language
from nsa_cli.documents.pdf.pdfium import address
from nsa_cli.documents.pdf.runs import NUMBER, NUMBERS, Run

_SPACE, _TO_ASCII = 3, 29
"""The number of the space's glyph in most TrueType fonts, and what is missing to its ASCII code."""

_FEWEST_WORDS = 4

_DEPTH, _MOST_OBJECTS = 5, 2000
"""How many form objects inside one another are looked into for fonts, and how many in all."""

_UNICODE_NAME = re.compile(r"/(?:uni|u)([0-9A-F]{4,6})")

_NUMBER_NAME = re.compile(r"/(?:[gG]|cid|index|glyph)(\d{1,4})")

_ANY_NAME = re.compile(r"/[a-zA-Z]{1,2}\d{1,5}|/\.notdef")
"""Names that say nothing, some of which pypdf takes for the numbers of characters."""

_TO_NULL = re.compile(rb"<([0-9a-fA-F]{2})>\s*(?:<\1>\s*)?<0000>")
"""A byte that a ToUnicode map gives no character, although it has a glyph."""

_PRIVATE = 0xF000
"""Fonts of symbols have their characters from here on, one for each byte."""

_SYMBOLS = {
    chr(_PRIVATE + byte): char
    for byte, char in enumerate(charset_encoding["/Symbol"])
    if len(char) == 1 and char != "\x00"
}
_DINGBATS = {
    chr(_PRIVATE + byte): char
    for byte, char in {
        0x6C: "●",
        0x6E: "■",
        0x6F: "□",
        0x71: "❑",
        0x75: "◆",
        0x76: "❖",
        0x77: "◆",
        0x9F: "•",
        0xA7: "▪",
        0xA8: "□",
        0xB7: "•",
        0xD8: "➢",
        0xE0: "→",
        0xF0: "⇨",
        0xFB: "✗",
        0xFC: "✓",
        0xFD: "☒",
        0xFE: "☑",
    }.items()
}
"""Bullets, arrows and checked boxes of Wingdings."""

_MAC_TO_WINDOWS = {
    bytes([byte]).decode("mac_roman"): bytes([byte]).decode("cp1252", "replace")
    for byte in range(0x80, 0x100)
}

Table = Mapping[str, int]
"""The code or the glyph number that a character stands for."""


class FontTables:
    """The characters of a page's fonts that PDFium takes for others.

    Args:
        sheet: The page; None if pypdf does not find it.
    """

    def __init__(self, sheet: PageObject | None) -> None:
        self._sheet = sheet
        self._by_name: dict[str, dict[str, int]] | None = None
        self._numbers: dict[str, dict[str, int]] = {}
        self._bytes: set[str] = set()
        self._nulls: dict[str, int] | None = None

    def of(self, name: str) -> Table:
        """What to read for the unmapped characters of a font.

        Args:
            name: The font's name without a slash; empty for a font without a name.
        """
        self._read()
        assert self._by_name is not None
        return self._by_name.get(name, {})

    def numbers(self, name: str) -> Table:
        """The glyph numbers in the names of a font's glyphs, by the characters of its bytes."""
        self._read()
        return self._numbers.get(name, {})

    def has_bytes(self, name: str) -> bool:
        """Whether a font says for none of its bytes which character it is."""
        self._read()
        return name in self._bytes

    def null(self, name: str) -> int:
        """The code of the character that U+0000 of a font stands for; 0 if that is not known.

        Quartz maps the glyphs of ligatures and marks to U+0000 and names them in the encoding.
        """
        if self._nulls is None:
            self._nulls = {}
            for font in self._fonts():
                _add_null(font, self._nulls)
        return self._nulls.get(name, 0)

    def _fonts(self) -> list[DictionaryObject]:
        """The fonts of the page; none if they cannot be read."""
        if self._sheet is None:
            return []
        try:
            return list(_fonts(self._sheet.get("/Resources"), _DEPTH, {}))
        except MemoryError:
            raise
        except Exception:  # pypdf leaks exceptions of many types from damaged files.
            return []

    def _read(self) -> None:
        if self._by_name is not None:
            return
        self._by_name = {}
        if self._sheet is None:
            return
        try:
            for font in _fonts(self._sheet.get("/Resources"), _DEPTH, {}):
                self._add(font)
        except MemoryError:
            raise
        except Exception:  # pypdf leaks exceptions of many types from damaged files.
            return

    def _add(self, font: DictionaryObject) -> None:
        assert self._by_name is not None
        name = str(font.get("/BaseFont", "")).removeprefix("/")
        plain = name.rpartition("+")[2]  # PDFium may name another font without the prefix.
        encoding = _resolved(font.get("/Encoding"))
        if "/ToUnicode" in font:
            return
        if isinstance(encoding, DictionaryObject):
            for char, glyph in _glyph_names(_resolved(encoding.get("/Differences")) or ()):
                numbered = _NUMBER_NAME.fullmatch(glyph)
                meant = int(numbered[1]) if numbered else _code_of(glyph)
                tables = self._numbers if numbered else self._by_name
                for each in {name, plain} if meant else ():
                    # Of two fonts of one name it is not known which one drew a glyph.
                    table = tables.setdefault(each, {})
                    table[char] = meant if table.get(char, meant) == meant else ord(char)
        elif font.get("/Subtype") == "/TrueType" and encoding is None:
            self._bytes |= {name, plain}


def _resolved(value: Any) -> Any:
    return value.get_object() if hasattr(value, "get_object") else value


def _fonts(resources: Any, depth: int, seen: dict[int, Any]) -> Iterator[DictionaryObject]:
    """The fonts of a page or of a form object, and of the form objects in it, each once.

    Args:
        resources: Of the page or the form object.
        depth: How many form objects inside one another to look into.
        seen: Takes the objects by their identity.
    """
    resources = _resolved(resources)
    if not isinstance(resources, DictionaryObject) or len(seen) > _MOST_OBJECTS:
        return
    for font in (_resolved(resources.get("/Font")) or {}).values():
        font = _resolved(font)
        if isinstance(font, DictionaryObject) and id(font) not in seen:
            seen[id(font)] = font
            yield font
    forms = _resolved(resources.get("/XObject")) or {} if depth else {}
    for form in forms.values():
        form = _resolved(form)
        if id(form) in seen or not isinstance(form, DictionaryObject):
            continue
        seen[id(form)] = form
        if form.get("/Subtype") == "/Form":
            yield from _fonts(form.get("/Resources"), depth - 1, seen)


def _add_null(font: DictionaryObject, nulls: dict[str, int]) -> None:
    """Find out what U+0000 of a font stands for; a damaged font gives nothing."""
    try:
        encoding, to_unicode = _resolved(font.get("/Encoding")), _resolved(font.get("/ToUnicode"))
        if not isinstance(encoding, DictionaryObject) or not isinstance(to_unicode, StreamObject):
            return
        names = dict(_glyph_names(_resolved(encoding.get("/Differences")) or ()))
        found = {chr(int(each, 16)) for each in _TO_NULL.findall(to_unicode.get_data())}
    except MemoryError:
        raise
    except Exception:  # pypdf leaks exceptions of many types from damaged files.
        return
    meant = {_code_of(names[each]) for each in found if each in names}
    name = str(font.get("/BaseFont", "")).removeprefix("/")
    for each in {name, name.rpartition("+")[2]} if found else ():
        # PDFium says neither which byte a glyph has nor which font of one name.
        known = meant | ({nulls[each]} if each in nulls else set())
        nulls[each] = next(iter(known)) if len(known) == 1 else 0


def _glyph_names(differences: Sequence[Any]) -> Iterator[tuple[str, str]]:
    """The bytes of an encoding, as characters, and the names of their glyphs."""
    byte = 0
    for each in differences:
        if isinstance(each, (int, NumberObject)):
            byte = int(each)
            continue
        if 0 <= byte < 256:
            yield chr(byte), str(each)
        byte += 1


def _code_of(name: str) -> int:
    """The code of the character that the name of a glyph means; 0 if none."""
    if found := _UNICODE_NAME.fullmatch(name):
        return min(int(found[1], 16), sys.maxunicode)
    meant = "" if _ANY_NAME.fullmatch(name) else adobe_glyphs.get(name, "")
    return ord(meant) if len(meant) == 1 else 0


def symbol(char: str, name: str) -> str:
    """What a private character of a font of symbols means; the character itself if unknown."""
    if "wingding" in name.lower() or "webding" in name.lower():
        return _DINGBATS.get(char, char)
    return _SYMBOLS.get(char, char) if "symbol" in name.lower() else char


def mend_bytes(runs: Sequence[Run]) -> None:
    """Read the bytes of some runs in the charset of Windows where that of the Mac makes no words.

    PDFium takes the bytes of a TrueType font without an encoding for those of the Mac, poppler and
    pypdf for those of Windows. The file does not say.

    Args:
        runs: Of fonts that say nothing about their bytes.
    """
    as_mac = " ".join(run.string() for run in runs)
    if as_mac.isascii():
        return
    as_windows = "".join(_MAC_TO_WINDOWS.get(char, char) for char in as_mac)
    if _odd(as_windows) < _odd(as_mac):
        for run in runs:
            run.text = [_MAC_TO_WINDOWS.get(char, char) for char in run.text]


def mend_numbers(
    runs: Sequence[Run], fonts: Mapping[int, int], numbers: Mapping[int, Table]
) -> None:
    """Read glyph numbers as the characters that they have in most TrueType fonts.

    Their glyphs stand in the order of ASCII, with the space as the third. Numbers that do not make
    a language so are left; those that are no characters become U+FFFD.

    Args:
        runs: Of a page.
        fonts: The font of each text object, by their addresses.
        numbers: Of a font, the glyph numbers of characters that are none themselves.
    """
    suspects: dict[int, list[Run]] = defaultdict(list)
    for run in runs:
        if 2 * run.unmapped > len(run.text) and run.style.pointer is not None:
            suspects[fonts.get(address(run.style.pointer), 0)].append(run)
    for font, group in suspects.items():
        table = numbers.get(font, {})
        given = " ".join(run.string() for run in group)
        meant = "".join(_by_number(char, table) for char in given)
        if len(meant.split()) >= _FEWEST_WORDS and is_language(meant) and not is_language(given):
            for run in group:
                run.text = [_by_number(char, table) for char in run.text]
                run.unmapped = 0
    for run in runs:
        if run.unmapped:
            run.text = ["\ufffd" if char >= NUMBER else char for char in run.text]


def _by_number(char: str, table: Table) -> str:
    """The character that a glyph number means; the same one if it means none."""
    byte = ord(char) - NUMBERS if char >= NUMBER else ord(char)
    number = table.get(chr(byte), byte)
    return chr(number + _TO_ASCII) if _SPACE <= number < 0x7F - _TO_ASCII else char


def _odd(text: str) -> int:
    """Characters in words that are no small letters although letters or a word's end are beside."""
    return sum(
        count
        for (before, char), count in Counter(pairwise(text)).items()
        if before.islower() and not char.isascii() and not char.islower()
    )

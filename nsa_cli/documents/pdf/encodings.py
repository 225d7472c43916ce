"""Characters that PDFium takes for others, by what pypdf knows of their fonts."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pypdf import PageObject
from pypdf._codecs import charset_encoding
from pypdf._codecs.adobe_glyphs import adobe_glyphs
from pypdf.generic import DictionaryObject, NumberObject

from nsa_cli.documents.pdf.runs import Run

_DEPTH = 5
"""Form objects inside one another whose fonts are looked at."""

_UNICODE_NAME = re.compile(r"/(?:uni|u)([0-9A-F]{4,6})")

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
        **{0x6C: "●", 0x6E: "■", 0x6F: "□", 0x71: "❑", 0x75: "◆", 0x76: "❖", 0x77: "◆"},
        **{0x9F: "•", 0xA7: "▪", 0xA8: "□", 0xB7: "•", 0xD8: "➢", 0xE0: "→", 0xF0: "⇨"},
        **{0xFB: "✗", 0xFC: "✓", 0xFD: "☒", 0xFE: "☑"},
    }.items()
}
"""Bullets, arrows and checked boxes of Wingdings."""

_MAC_TO_WINDOWS = {
    bytes([byte]).decode("mac_roman"): bytes([byte]).decode("cp1252", "replace")
    for byte in range(0x80, 0x100)
}

Table = Mapping[str, str]


class FontTables:
    """The characters of a page's fonts that PDFium takes for others.

    Args:
        sheet: The page; None if pypdf does not find it.
    """

    def __init__(self, sheet: PageObject | None) -> None:
        self._sheet = sheet
        self._by_name: dict[str, dict[str, str]] | None = None
        self._bytes: set[str] = set()

    def of(self, name: str) -> Table:
        """What to read for an unmapped character of a font; empty for ordinary fonts.

        Args:
            name: The font's name without a slash; empty for a font without a name.
        """
        self._read()
        assert self._by_name is not None
        return self._by_name.get(name, {})

    def has_bytes(self, name: str) -> bool:
        """Whether a font says for none of its bytes which character it is."""
        self._read()
        return name in self._bytes

    def _read(self) -> None:
        if self._by_name is not None:
            return
        self._by_name = {}
        if self._sheet is None:
            return
        try:
            for font in _fonts(self._sheet.get("/Resources"), _DEPTH):
                self._add(font)
        except MemoryError:
            raise
        except Exception:  # pypdf leaks exceptions of many types from damaged files.
            return

    def _add(self, font: DictionaryObject) -> None:
        assert self._by_name is not None
        name = str(font.get("/BaseFont", "")).removeprefix("/")
        kind, encoding = font.get("/Subtype"), _resolved(font.get("/Encoding"))
        if "/ToUnicode" in font:
            return
        if kind == "/Type3" and isinstance(encoding, DictionaryObject):
            table = self._by_name.setdefault(name, {})
            for char, meant in _by_glyph_names(_resolved(encoding.get("/Differences")) or ()):
                # Of two fonts of one name it is not known which one drew a glyph.
                table[char] = meant if table.get(char, meant) == meant else char
        elif kind == "/TrueType" and encoding is None:
            # PDFium names the font that it takes for a damaged one without the subset's prefix.
            self._bytes |= {name, name.rpartition("+")[2]}


def _resolved(value: Any) -> Any:
    return value.get_object() if hasattr(value, "get_object") else value


def _fonts(resources: Any, depth: int) -> Iterator[DictionaryObject]:
    """The fonts of a page or of a form object, and of the form objects in it."""
    resources = _resolved(resources)
    if not isinstance(resources, DictionaryObject):
        return
    for font in (_resolved(resources.get("/Font")) or {}).values():
        font = _resolved(font)
        if isinstance(font, DictionaryObject):
            yield font
    forms = _resolved(resources.get("/XObject")) or {} if depth else {}
    for form in forms.values():
        form = _resolved(form)
        if isinstance(form, DictionaryObject) and form.get("/Subtype") == "/Form":
            yield from _fonts(form.get("/Resources"), depth - 1)


def _by_glyph_names(differences: Sequence[Any]) -> Iterator[tuple[str, str]]:
    """The bytes of an encoding, as characters, and what their glyphs' names mean."""
    byte = 0
    for each in differences:
        if isinstance(each, (int, NumberObject)):
            byte = int(each)
            continue
        name = str(each)
        meant = adobe_glyphs.get(name, "")
        if found := _UNICODE_NAME.fullmatch(name):
            meant = chr(min(int(found[1], 16), 0x10FFFF))
        if len(meant) == 1 and 0 <= byte < 256:
            yield chr(byte), meant
        byte += 1


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


def _odd(text: str) -> int:
    """Characters in words that are no small letters although letters or a word's end are beside."""
    return sum(
        count
        for (before, char), count in Counter(zip(text, text[1:], strict=False)).items()
        if before.islower() and not char.isascii() and not char.islower()
    )

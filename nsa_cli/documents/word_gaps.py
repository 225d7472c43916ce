"""Make pypdf see the gaps between words in fonts that have no space glyph."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

from pypdf import _page
from pypdf.generic import DictionaryObject
from pypdf.generic._font import Font

SPACE_WIDTH = 240.0
"""The width of a space, in thousandths of the font size, where the text leaves it out.

pypdf takes a gap of half of it for a space: 0.12 of the font size, near the 0.1 of poppler.
"""

_patching = Lock()


class _FontWithoutSpace(Font):
    """A font whose space is always `SPACE_WIDTH` wide."""

    @classmethod
    def from_font_resource(cls, pdf_font_dict: DictionaryObject) -> Font:
        """Read a font and forget its space glyph, so that pypdf takes the width it is given."""
        font = Font.from_font_resource(pdf_font_dict)
        font.space_char = ""
        return font


@contextmanager
def gaps_become_spaces() -> Iterator[None]:
    """Within this context `page.extract_text(space_width=SPACE_WIDTH)` finds the word gaps.

    TeX and others leave spaces out of the text and move the pen instead. pypdf takes half a
    space for the least gap, but if a font has no space glyph it takes the width of the glyph that
    has the number 32, often twice as wide, and runs the words together ("Thefollowing").
    That is its open issue 3978; on the books this was tried with it lost up to half of the
    spaces. There is no public way to tell it the width, so its name for the font class is
    replaced here; one thread at a time.
    """
    with _patching:
        _page.Font = _FontWithoutSpace  # type: ignore[attr-defined]
        try:
            yield
        finally:
            _page.Font = Font  # type: ignore[attr-defined]

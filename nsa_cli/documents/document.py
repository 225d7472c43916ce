"""A document: its text, and the place of each character in the source."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field

from nsa_cli.documents.location import Location
from nsa_cli.documents.table import Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """One page of a PDF, or one whole text file, as a range of `Document.text`.

    Attributes:
        source: The path as the user typed it, or `stdin`.
        page: The physical page, counted from 1; None for a text file.
        page_label: The page's printed name such as `iv`, None where it equals the number.
        start: The first character of the piece.
        end: One past its last character.
        first_line: The number of its first line, counted from 1.
        unit: What `page` counts: `page`, `slide`, `sheet`, `cell`, `chapter`, `mail`, `record`
            or `cue`.
    """

    source: str
    page: int | None
    page_label: str | None
    start: int
    end: int
    first_line: int
    unit: str = "page"


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A text of any length with the provenance of each character.

    The loaders of this package normalize the text to NFC once, so that the tokenizer, which
    reads NFC, sees the very characters that the ranges here count.

    Attributes:
        name: The path as the user typed it, or `stdin`.
        text: The whole text in NFC, its lines ended by a line feed alone.
        pieces: The pages (or the one file) in order; none is empty, none overlap. Characters
            between two pieces separate them and belong to the one before.
        warnings: What the reader should know about the text, one clause each.
        left_out_lines: Lines of a log that are not in the text; see `Sifted`.
        tables: Tables whose rows are in the text, each row on one line.
    """

    name: str
    text: str
    pieces: tuple[Piece, ...]
    warnings: tuple[str, ...] = ()
    left_out_lines: int = 0
    tables: tuple[Table, ...] = ()
    _newlines: array[int] | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        previous = 0
        for piece in self.pieces:
            if not previous <= piece.start < piece.end <= len(self.text):
                raise ValueError(f"pieces must be ordered, filled and inside the text: {piece}")
            previous = piece.end
        if not self.pieces:
            raise ValueError("a document has at least one piece")

    def piece_at(self, char: int) -> Piece:
        """The piece that holds a character, or the one before it for a separator.

        Args:
            char: A character of the text, counted from 0; the end of the text is allowed.

        Raises:
            ValueError: The character is outside the text.
        """
        return self.pieces[self._piece_index(char)]

    def edges(self, start: int, end: int) -> set[int]:
        """Where pieces begin and end inside a range of characters.

        Args:
            start: The first character, counted from 0.
            end: One past the last character.
        """
        first, last = self._piece_index(start), self._piece_index(max(start, end - 1))
        inside = self.pieces[first : last + 1]
        return {edge for p in inside for edge in (p.start, p.end) if start < edge < end}

    def locate(self, start: int, end: int) -> Location:
        """The page and the lines of a range of characters.

        A range across pages is located on the page that holds the larger part of it, the
        earlier one of equals. An empty range is located at its one point. The time grows with
        the logarithm of the text and with the number of pages inside the range.

        Args:
            start: The first character, counted from 0.
            end: One past the last character.

        Raises:
            ValueError: The range is reversed or reaches outside the text.
        """
        if not 0 <= start <= end <= len(self.text):
            raise ValueError(f"range {start}:{end} is not in a text of {len(self.text)}")
        first, last = self._piece_index(start), self._piece_index(max(start, end - 1))
        candidates = self.pieces[first : last + 1]
        piece = max(candidates, key=lambda each: min(end, each.end) - max(start, each.start))
        head = min(max(start, piece.start), piece.end)
        tail = max(head, min(end, piece.end) - 1)
        return Location(
            source=piece.source,
            page=piece.page,
            page_label=piece.page_label,
            line_start=self._line_of(head, piece),
            line_end=self._line_of(tail, piece),
            unit=piece.unit,
        )

    def line_span(self, source: str, page: int | None, line: int) -> tuple[int, int] | None:
        """The characters of a line of a source, without its line feed; None if it is not here.

        Args:
            source: The file, as citations name it.
            page: The page or sheet, or None.
            line: Number of the line there.
        """
        newlines = self._newline_offsets()
        for piece in self.pieces:
            if (piece.source, piece.page) != (source, page) or piece.first_line > line:
                continue
            before = bisect_left(newlines, piece.start)
            at = before + line - piece.first_line
            start = (
                piece.start
                if at == before
                else newlines[at - 1] + 1
                if at <= len(newlines)
                else piece.end
            )
            if start < piece.end:
                end = min(piece.end, newlines[at]) if at < len(newlines) else piece.end
                return start, end
        return None

    def _piece_index(self, char: int) -> int:
        if not 0 <= char <= len(self.text):
            raise ValueError(f"character {char} is outside a text of {len(self.text)}")
        return max(0, bisect_right(self.pieces, char, key=lambda piece: piece.start) - 1)

    def _line_of(self, char: int, piece: Piece) -> int:
        newlines = self._newline_offsets()
        return piece.first_line + bisect_left(newlines, char) - bisect_left(newlines, piece.start)

    def _newline_offsets(self) -> array[int]:
        """The offset of every line feed, found at the first question and then kept."""
        if self._newlines is None:
            offsets = array("q")
            position = self.text.find("\n")
            while position >= 0:
                offsets.append(position)
                position = self.text.find("\n", position + 1)
            object.__setattr__(self, "_newlines", offsets)
            return offsets
        return self._newlines

"""Rows of the tables of a web page, each value in its column."""

from __future__ import annotations

from dataclasses import dataclass, field

_MOST_COLUMNS = 1000
_MOST_ROWS = 65_534
"""Rows that a cell may span, as browsers limit them."""

_LONGEST_CELL = 600
"""Characters of a cell of several paragraphs that is still part of a row; others lay out a page."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A paragraph, heading, item or row.

    Attributes:
        prefix: What marks its kind, such as `## `.
        text: Its words.
        line: The line of the file that it begins on, from 1.
    """

    prefix: str
    text: str
    line: int


@dataclass(slots=True, kw_only=True)
class _Cell:
    column: int
    width: int
    height: int
    blocks: list[Block] = field(default_factory=list)
    layered: bool = False

    def text(self) -> str:
        return " ".join(block.text for block in self.blocks)

    def lays_out(self) -> bool:
        """Whether the cell holds a part of a page rather than a value."""
        return self.layered or (len(self.blocks) > 1 and len(self.text()) > _LONGEST_CELL)


@dataclass(slots=True, kw_only=True)
class _Table:
    """A table that is open.

    Attributes:
        cells: Of the row that is open.
        column: The first column after them.
        spans: Cells that reach down from rows above: their columns, rows left, and text.
    """

    cells: list[_Cell] = field(default_factory=list)
    column: int = 0
    spans: dict[int, tuple[int, str]] = field(default_factory=dict)


class TableRows:
    """Takes the blocks of a page; those in the cells of a row become one block.

    A row of cells that hold tables or long texts lays out a page: its blocks come cell by cell. A
    cell that spans rows is repeated in each, so that each row says what it belongs to.
    """

    def __init__(self) -> None:
        self.found: list[Block] = []
        self._tables: list[_Table] = []

    def add(self, block: Block) -> None:
        """Add a block to the cell that is open, or to the page."""
        cells = self._tables[-1].cells if self._tables else []
        (cells[-1].blocks if cells else self.found).append(block)

    def begin_table(self) -> None:
        """Open a table, inside the open cell, if any."""
        if self._tables and self._tables[-1].cells:
            self._tables[-1].cells[-1].layered = True
        self._tables.append(_Table())

    def end_table(self) -> None:
        """Close the innermost table."""
        if self._tables:
            self.end_row()
            self._tables.pop()

    def begin_cell(self, width: str | None, height: str | None) -> None:
        """Open a cell of the innermost table; outside of tables nothing happens.

        Args:
            width: Columns that it spans, as the page says.
            height: Rows that it spans.
        """
        if not self._tables:
            return
        table = self._tables[-1]
        while table.column in table.spans:
            table.column += 1
        cell = _Cell(
            column=table.column,
            width=_span(width, _MOST_COLUMNS),
            height=_span(height, _MOST_ROWS),
        )
        table.cells.append(cell)
        table.column += cell.width

    def end_row(self) -> None:
        """Close the row that is open, and add its text."""
        if not self._tables or not self._tables[-1].cells:
            return
        table = self._tables[-1]
        cells, table.cells, table.column = table.cells, [], 0
        texts = {column: text for column, (_, text) in table.spans.items()}
        table.spans = {
            column: (rows - 1, text) for column, (rows, text) in table.spans.items() if rows > 1
        }
        self._tables.pop()
        blocks = [block for cell in cells for block in cell.blocks]
        if any(cell.lays_out() for cell in cells):
            for block in blocks:
                self.add(block)
        elif blocks:
            self._add_row(table, cells, texts)
        self._tables.append(table)

    def _add_row(self, table: _Table, cells: list[_Cell], texts: dict[int, str]) -> None:
        for cell in cells:
            text = cell.text()
            texts |= dict.fromkeys(range(cell.column, cell.column + cell.width), "")
            texts[cell.column] = text
            if cell.height > 1:
                for column in range(cell.column, cell.column + cell.width):
                    table.spans[column] = (cell.height - 1, texts[column])
        first = next(block for cell in cells for block in cell.blocks)
        row = " | ".join(texts.get(column, "") for column in range(max(texts) + 1))
        prefix = first.prefix if sum(bool(cell.blocks) for cell in cells) == 1 else ""
        self.add(Block(prefix=prefix, text=row.rstrip(" |"), line=first.line))

    def finish(self) -> list[Block]:
        """The blocks of the page, with those of tables that were not closed."""
        while self._tables:
            self.end_table()
        return self.found


def _span(value: str | None, most: int) -> int:
    text = (value or "").strip()
    return min(max(1, int(text)), most) if text.isdecimal() else 1

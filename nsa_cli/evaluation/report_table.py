"""Tables of reports: whole where they fit the terminal, or else a block for each row."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from nsa_cli.output import layout

_UNLIMITED = 10_000
"""Cells, more than any table needs."""


_PADDINGS = ((0, 1, 0, 0), (0, 0, 0, 0))
"""Cells around a cell, besides one between columns: as many as fit the terminal."""


def new_table(heads: Sequence[str], *, left: int = 1) -> Table:
    """Return an empty table.

    Args:
        heads: The names of its columns, of one or two lines.
        left: Columns that are aligned to the left.
    """
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for number, head in enumerate(heads):
        table.add_column(head, justify="left" if number < left else "right", no_wrap=True)
    return table


def print_table(table: Table, console: Console) -> None:
    """Print a table whole: in a narrow terminal as blocks, and uncut outside a terminal."""
    for table.padding in _PADDINGS:
        needed = console.measure(table, options=console.options.update(width=_UNLIMITED)).maximum
        if needed <= console.width:
            break
    if not console.is_terminal or needed <= console.width:
        console.print(table, width=max(needed, console.width), crop=False, soft_wrap=False)
        return
    head = [str(column.header).replace("\n", " ").strip() for column in table.columns]
    cells = [[str(cell) for cell in column.cells] for column in table.columns]
    right = [at for at, column in enumerate(table.columns) if column.justify == "right"]
    lines = layout.table(head, list(zip(*cells, strict=True)), console.width, right=right)
    console.print("\n".join(lines), markup=False)

"""Figures for plots, and checks before a plot is drawn."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from nsa_models.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def check_plot(path: Path | None) -> None:
    """Check, before a long measurement, that a plot can be written.

    Raises:
        UsageError: If matplotlib or the file's folder is missing.
    """
    if path is None:
        return
    if not path.parent.is_dir():
        raise UsageError(f"folder {path.parent} does not exist", hint="create it, or name another")
    new_figure(1, 1)


def new_figure(width: float, height: float) -> Figure:
    """An empty figure; width and height are in inches.

    Raises:
        UsageError: If matplotlib is missing.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UsageError(
            "the plot needs matplotlib", hint="install it with `pip install matplotlib`"
        ) from error
    return Figure(figsize=(width, height), layout="constrained")

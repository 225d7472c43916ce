"""Checks before a plot is drawn."""

from __future__ import annotations

from pathlib import Path

from nsa_models.errors import UsageError


def check_plot(path: Path | None) -> None:
    """Refuse a picture before anything is measured, where it could not be drawn.

    Raises:
        UsageError: If matplotlib is missing, or the file's folder.
    """
    if path is None:
        return
    if not path.parent.is_dir():
        raise UsageError(f"there is no folder {path.parent}", hint="make it, or name another")
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise UsageError(
            "the plot needs matplotlib", hint="install it: pip install 'nsa[eval]'"
        ) from error

"""Libraries for formats that not everybody needs."""

from __future__ import annotations

import importlib
from typing import Any

from nsa_cli.documents.errors import UnreadableError


def need(module: str, package: str, what: str) -> Any:
    """Import an optional library.

    Args:
        module: What to import.
        package: What to install.
        what: What it reads, in the plural.

    Raises:
        UnreadableError: If it is not installed, with the command that installs it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UnreadableError(
            f"{what} need the library {package}, which is not installed",
            hint=f"install it with `pip install {package}`",
            code="missing_library",
        ) from error

"""A model on this machine: its folder, name, fingerprint and adapter."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

SHIPPED = "shipped"
"""Stands for the adapter that is installed with the package."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFolder:
    """A model on this machine.

    Attributes:
        name: The name that the user gave.
        folder: The Hugging Face folder.
        fingerprint: Changes whenever the weights may have changed.
        adapter: Folder of the adapter to apply, if any.
    """

    name: str
    folder: Path
    fingerprint: str
    adapter: Path | None = None

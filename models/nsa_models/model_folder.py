"""A model on this machine: its folder, name, fingerprint and adapter."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

SHIPPED = "shipped"
"""The adapter that the program brings for a model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFolder:
    """A model that lies on this machine.

    Attributes:
        name: As the user named it.
        folder: A Hugging Face folder.
        fingerprint: Changes when the weights may have changed.
        adapter: Folder of trained changes to apply, if any.
    """

    name: str
    folder: Path
    fingerprint: str
    adapter: Path | None = None

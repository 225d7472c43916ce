"""Choices that take turns with fixed words: the grammar in which a model decodes an expression."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

NOTHING = "none"
"""What the model chooses where nothing suits."""


class Turns(ABC):
    """Texts that a model chooses one after another, with words between them."""

    @property
    @abstractmethod
    def slots(self) -> int:
        """How many texts are chosen."""

    @abstractmethod
    def between(self, count: int) -> str:
        """Return the words after `count` chosen texts."""

    @abstractmethod
    def suited(self, chosen: Sequence[str]) -> list[str]:
        """Return the texts that may follow others."""

    def follow(self, path: tuple[int, ...]) -> list[str]:
        """Return the texts that may follow some choices.

        Args:
            path: Index of each choice so far; texts and the words between them take turns.
        """
        chosen = self.texts(path)
        if chosen is None or len(chosen) == self.slots:
            return []
        if len(path) % 2:
            return [self.between(len(chosen))]
        return [*self.suited(chosen), NOTHING]

    def texts(self, path: tuple[int, ...]) -> list[str] | None:
        """Return the texts that some choices mean; None if one means none."""
        chosen: list[str] = []
        for index in path[::2]:
            suited = self.suited(chosen)
            if index >= len(suited):
                return None
            chosen.append(suited[index])
        return chosen

"""A grammar of choices: an answer is a row of parts, each one of a few given texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from nsa_models.tokenization.ids import TokenIds

Alternatives = Sequence[Sequence[int] | TokenIds]


class _State(NamedTuple):
    """Tokens done of a choice, after the choices before it."""

    path: tuple[int, ...]
    choice: int
    done: int


class ChoiceGrammar:
    """The grammar of one answer; it advances token by token.

    Args:
        follow: Returns the alternatives of the next part as token ids, none of them empty, given
            the indices of the choices so far; none where the answer ends.
        stop_ids: Tokens that end the answer.
    """

    def __init__(
        self, follow: Callable[[tuple[int, ...]], Alternatives], stop_ids: frozenset[int]
    ) -> None:
        self._follow = follow
        self._stop_ids = stop_ids
        self._parts: dict[tuple[int, ...], list[tuple[int, ...]]] = {}
        self._states = self._begin(())

    @property
    def path(self) -> tuple[int, ...]:
        """The indices of the choices so far; of several that fit, the one with most parts."""
        return max((state.path for state in self._states), key=len)

    @property
    def is_complete(self) -> bool:
        """Whether nothing but the end may follow."""
        return all(not self._parts[state.path] for state in self._states)

    def allowed(self, size: int) -> Tensor:
        """Return which of `size` tokens may come next: (V,) booleans on the CPU."""
        mask = torch.zeros(size, dtype=torch.bool)
        for state in self._states:
            mask[self._next(state)] = True
        return mask

    def accept(self, token: int) -> None:
        """Advance by the token that was chosen."""
        states = set[_State]()
        for state in self._states:
            if token not in self._next(state):
                continue
            part = self._parts[state.path]
            if part and state.done + 1 < len(part[state.choice]):
                states.add(state._replace(done=state.done + 1))
            elif part:
                states |= self._begin((*state.path, state.choice))
        self._states = states or self._states

    def _begin(self, path: tuple[int, ...]) -> set[_State]:
        """The states at the beginning of a part; one that may only stop after the last part."""
        if path not in self._parts:
            self._parts[path] = [tuple(int(i) for i in each) for each in self._follow(path)]
        return {_State(path, choice, 0) for choice in range(max(1, len(self._parts[path])))}

    def _next(self, state: _State) -> list[int]:
        """The tokens that may follow in a state."""
        part = self._parts[state.path]
        return [part[state.choice][state.done]] if part else sorted(self._stop_ids)

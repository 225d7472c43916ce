"""A grammar of choices allows the tokens of its alternatives, part by part, and then the end."""

from __future__ import annotations

import pytest

from nsa_models.generation.choice_grammar import ChoiceGrammar

END = frozenset([0, 9])
FIRST = [[1, 2], [1, 2, 3], [4]]


def follow(path: tuple[int, ...]) -> list[list[int]]:
    """Three alternatives, a fixed part, and an end; after the last alternative nothing."""
    if not path:
        return FIRST
    return [[5]] if len(path) == 1 and path[0] < 2 else []


def allowed(grammar: ChoiceGrammar) -> set[int]:
    return set(grammar.allowed(10).nonzero()[:, 0].tolist())


def test_alternatives_that_begin_alike_stay_open() -> None:
    grammar = ChoiceGrammar(follow, END)
    assert allowed(grammar) == {1, 4}
    grammar.accept(1)
    assert allowed(grammar) == {2}
    grammar.accept(2)
    assert allowed(grammar) == {3, 5}  # the second alternative, or what follows the first
    assert not grammar.is_complete


@pytest.mark.parametrize(
    ("tokens", "path"), [([1, 2, 5], (0, 0)), ([1, 2, 3, 5], (1, 0)), ([4], (2,))]
)
def test_the_end_follows_the_last_part(tokens: list[int], path: tuple[int, ...]) -> None:
    grammar = ChoiceGrammar(follow, END)
    for token in tokens:
        assert token in allowed(grammar)
        assert not grammar.is_complete
        grammar.accept(token)
    assert grammar.is_complete
    assert grammar.path == path
    assert allowed(grammar) == END
    grammar.accept(0)
    assert allowed(grammar) == END

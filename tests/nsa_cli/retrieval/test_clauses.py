"""Main clauses of a text."""

from __future__ import annotations

import pytest

from nsa_cli.retrieval.clauses import main_clauses, words_of


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It rained. The bus left; it was full.", ("It rained.", "The bus left", "it was full.")),
        ("The pool is open, the sauna is not.", ("The pool is open", "the sauna is not.")),
        ("Es ist hell, und das Tor ist zu.", ("Es ist hell", "das Tor ist zu.")),
        ("Il est là, elles ne le sont pas.", ("Il est là", "elles ne le sont pas.")),
        # not a separate clause
        ("Books, maps and prints are lent.", None),
        ("No books, maps or prints are lent.", None),
        ("The fee was paid, and was refunded later.", None),
        ("If the fee is late, the seat is given away.", None),
        ("The house is old, which is no fault.", None),
        ("The boat is free, since the crew has left.", None),
    ],
)
def test_main_clauses(text: str, expected: tuple[str, ...] | None) -> None:
    assert main_clauses(text) == (expected or (text,))


def test_words_of_a_clause() -> None:
    assert words_of("The bus left at 9.") == {"bus", "left", "9"}

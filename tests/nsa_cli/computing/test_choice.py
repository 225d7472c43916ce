"""Figures of the passages fill a form; the text tells their years and what it states itself."""

from __future__ import annotations

import pytest

from nsa_cli.computing.choice import FigureChoice, Span
from nsa_cli.computing.forms import form_of
from nsa_cli.computing.turns import NOTHING
from nsa_cli.documents.text import read_text

GROWTH = "By how much did revenue grow from 2018 to 2019?"
PROSE = "Revenue was 12 euros in 2018 and 14 euros in 2019. Rent was 5 dollars. It took 3 days."
TABLE = "              2019   2018\nSales           15     13\nRevenue          9      7\n"


def choice(text: str, question: str = GROWTH) -> FigureChoice:
    form, document = form_of(question), read_text(text.encode(), "a.txt")
    assert form is not None
    return FigureChoice(form, question, document, [Span(0, len(document.text))])


def test_figures_and_the_words_between_them_take_turns() -> None:
    found = choice(PROSE)
    assert found.lead == ""
    assert found.follow(()) == ["12 euros", "14 euros", "5 dollars", "3 days", NOTHING]
    assert found.follow((1,)) == [" - "]
    assert found.follow((1, 0)) == ["12 euros", NOTHING]
    assert found.follow((1, 0, 0)) == []
    assert found.texts((1, 0, 0)) == ["14 euros", "12 euros"]
    assert found.follow((4,)) == []
    assert found.texts((1, 0, 1)) is None


@pytest.mark.parametrize(
    ("text", "texts"), [(PROSE, ["12 euros", "14 euros"]), (TABLE, ["7", "9"])]
)
def test_the_later_year_comes_first(text: str, texts: list[str]) -> None:
    found = choice(text)
    for given in (texts, texts[::-1]):
        figures = found.chosen(given)
        assert [figure.text for figure in figures] == texts[::-1]
        assert [found.year_of(figure) for figure in figures] == [2019, 2018]


@pytest.mark.parametrize(("verb", "first"), [("rise", "14"), ("fall", "12")])
def test_without_years_the_verb_decides(verb: str, first: str) -> None:
    found = choice("Sales were 12 here and 14 there.", f"By what percentage did sales {verb}?")
    assert found.chosen(["12", "14"])[0].text == first


def test_a_result_that_is_stated_is_not_computed() -> None:
    assert choice("In 2019 revenue grew by 2 euros to 14 euros.").is_stated()
    assert not choice(PROSE).is_stated()
    assert not choice("Rent grew by 2 euros. " + PROSE).is_stated()


def test_missing_years_and_figures_are_told() -> None:
    assert choice("Revenue was 12 in 2018, 14 last year.").problem == (
        "the passages do not name 2019"
    )
    assert choice("Revenue in 2018 and 2019").problem == (
        "the passages have fewer than 2 figures for it"
    )
    assert choice(PROSE).problem is None


def test_the_whole_of_a_share_is_not_smaller_than_its_part() -> None:
    found = choice("Of 40 boats, 9 are red and 60 are blue.", "What share of the boats is red?")
    assert found.follow((0, 0)) == ["60", NOTHING]
    assert found.follow((1, 0)) == ["40", "60", NOTHING]

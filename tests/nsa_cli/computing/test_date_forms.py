"""Questions that ask for a date or a time, and the choice of what they are computed from."""

from __future__ import annotations

import pytest

from nsa_cli.computing.asks import asks_for_expression
from nsa_cli.computing.choice import Span
from nsa_cli.computing.date_forms import DateChoice, date_form_of
from nsa_cli.documents.text import read_text

LEASE = (
    "The tenant returns the keys within 14 days of the end of the lease.\n"
    "Notice of renewal is given not less than forty-five (45) days before the end of the lease.\n"
    "A request for more time is made at least seven business days prior to the end."
)
LETTER = "Ordered on 4 March 2024. Delivered on 21 March 2024. Paid in May 2024."


def choice(question: str, text: str) -> DateChoice:
    form = date_form_of(question)
    assert form is not None
    return DateChoice(form, question, read_text(text.encode(), "a.txt"), [Span(0, len(text))])


@pytest.mark.parametrize(
    ("question", "name"),
    [
        ("The lease ends on 30 June 2026. By which date must the keys be back?", "deadline"),
        ("The bill is of May 2, 2024. From when on is interest due?", "deadline"),
        ("Der Vertrag endet am 30.06.2026. Bis wann muss man kündigen?", "deadline"),
        ("How many days passed between the order and the delivery?", "elapsed"),
        ("How many weeks after the order was the delivery?", "elapsed"),
        ("Wie viele Monate liegen zwischen Bestellung und Zahlung?", "elapsed"),
    ],
)
def test_forms(question: str, name: str) -> None:
    form = date_form_of(question)
    assert form is not None
    assert form.name == name
    assert asks_for_expression(question)


@pytest.mark.parametrize(
    "question",
    [
        "Within how many days must the keys be back?",
        "How many days may pass at most between two lists?",
        "How many days pass on average between the test and the result?",
        "By which date must the keys be back?",
        "What happened on 30 June 2026?",
        "Which of 30 June 2026 and 1 July 2026 is the deadline?",
        "How many years does an octopus live?",
    ],
)
def test_other_questions_have_no_form(question: str) -> None:
    assert date_form_of(question) is None


@pytest.mark.parametrize(
    ("chosen", "answer", "value"),
    [
        ("+ 14 days", "14 July 2026 = 30 June 2026 + 14 days [1]", "2026-07-14"),
        ("- 45 days", "16 May 2026 = 30 June 2026 - 45 days [1]", "2026-05-16"),
        (
            "- 7 business days",
            "Friday, 19 June 2026 = 30 June 2026 - 7 business days (Monday to Friday) [1]",
            "2026-06-19",
        ),
    ],
)
def test_a_deadline(chosen: str, answer: str, value: str) -> None:
    text = f"{LEASE}\nThe cat sleeps for 9 days."
    found = choice("The lease ends on 30 June 2026. By which date must it be done?", text)
    assert "+ 9 days" not in found.options, "its sentence has no word of the question"
    assert chosen in found.options
    result = found.result([chosen])
    assert (result.sentence(1), result.value, result.unit) == (answer, value, "date")
    [place] = result.places
    start, end = found.sentence_at(place)
    assert "days" in LEASE[start:end]
    assert start == LEASE.rfind("\n", 0, place[0]) + 1


def test_the_model_chooses_one_after_another_or_none() -> None:
    found = choice("How many days passed between the order and the delivery?", LETTER)
    assert found.options == ["4 March 2024", "21 March 2024"]  # May has no day
    assert found.follow(()) == ["4 March 2024", "21 March 2024", "none"]
    assert found.follow((0,)) == [" - "]
    assert found.follow((0, 0)) == ["21 March 2024", "none"]
    assert found.texts((0, 0, 0)) == ["4 March 2024", "21 March 2024"]
    assert found.texts((2,)) is None
    result = found.result(["4 March 2024", "21 March 2024"])
    assert result.sentence(2) == "17 days = 21 March 2024 - 4 March 2024 [1] [2]"
    assert (result.value, result.unit) == (17, "days")
    assert not choice("How many days passed between A and B?", "On 4 May 2024.").is_possible


def test_years_are_counted_between_years_alone() -> None:
    text = "The club was founded in 1996. It won its first cup on 3 May 2014, for $2000."
    found = choice("How many years passed between the founding and the first cup?", text)
    assert found.options == ["3 May 2014", "1996"]
    assert found.result(["1996", "3 May 2014"]).sentence(2) == (
        "18 years = 3 May 2014 - 1996 [1] [2]"
    )


def test_periods_of_clauses_about_other_things_are_not_offered() -> None:
    """The second clause has one word of the question, and the deposit's sentence has one, too."""
    found = choice(
        "By when must the tenant give notice if the lease ends on 30 June 2026?",
        "The tenant must give notice at least 45 days before the end of the lease; otherwise the "
        "lease is extended by one year.\nThe tenant has the deposit back within 30 days.\n",
    )
    assert found.options == ["- 45 days"]


def test_a_word_of_every_clause_tells_no_period_from_another() -> None:
    found = choice(
        "The contract was signed on 3 May 2024. By which date must the sample be in the warehouse?",
        "The firm applies within 20 days of the contract. The firm delivers the first parts within "
        "6 months of the contract. The firm brings the sample to the warehouse within 70 days of "
        "the contract.",
    )
    assert found.options == ["+ 70 days"]


@pytest.mark.parametrize(
    ("question", "options"),
    [
        ("The term ends on Friday, 6 June 2025. By when do we renew at the latest?", "- 9 days"),
        ("The term began on 6 June 2025. By which day at the latest do we renew?", "+ 30 days"),
        ("The term ends on 6 June 2025. From which day on can we renew it?", "+ 30 days"),
    ],
)  # fmt: skip
def test_what_is_due_by_an_end_lies_before_it(question: str, options: str) -> None:
    """The period with most words of the question lies after an end."""
    text = (
        "Whoever asks for an extension does so 9 days prior to the end of the term. The office "
        "can renew the term within 30 days, on a day of its choice. Tea costs 2 euros for 8 days."
    )
    assert choice(question, text).options[-1:] == [options]


def test_dates_of_the_numbers_in_a_question_are_offered_alone() -> None:
    text = "v1.0 (1 May 2020)\nv1.1 (3 May 2020)\nv2.0 (9 May 2021)\n"
    asked = "How many days lie between version 1.0 and version v2.0?"
    assert choice(asked, text).options == ["1 May 2020", "9 May 2021"]
    one = "How many days lie between version 1.0 and the newest one?"
    assert choice(one, text).options == ["1 May 2020", "3 May 2020", "9 May 2021"]

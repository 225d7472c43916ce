"""Support of an answer by a passage."""

from __future__ import annotations

import pytest

from nsa_cli.retrieval.claims import counts_nothing, is_about, is_of_another_year, is_supported


@pytest.mark.parametrize(
    ("answer", "question", "passage"),
    [
        ("March 19, 2015", "When was it published?", "Published March 19, 2015 by LF"),
        ("Christopher Yeoh", "Who?", "dedicated to the memory of CHRISTOPHER YEOH."),
        ("It is kept in /etc/opt.", "Where is it kept?", "configuration lies in /etc/opt"),
        ("Logs are located in `/var/log`.", "Where are logs?", "/var/log : Log files"),
        ("The pier cost 4,200 crowns", "What did the pier cost?", "cost: 4,200 crowns in all"),
        (
            "blue, green or red paint",
            "Which?",
            "paint that is green or red",
        ),  # two thirds
        ("the keeper", "Did the keeper come?", "the keeper was away"),  # adds no word
        ("No data was lost.", "Was any data lost?", "It stopped.\nNo data was lost. We slept."),
        ("In May.", "When are keys handed out?", "Keys are handed out in May."),  # small words
        ("灯塔建于", "何时？", "灯塔建于一八九二年"),
    ],
)
def test_supported(answer: str, question: str, passage: str) -> None:
    assert is_supported(answer, question, passage)


@pytest.mark.parametrize(
    ("answer", "question", "passage"),
    [
        ("March 18, 2015", "When was it published?", "Published March 19, 2015 by LF"),
        ("4,300 crowns", "What did it cost?", "it cost 4,200 crowns"),
        ("It is located in /var/log.", "Where are logs?", "the name is located in /var/lib"),
        ("42 crowns", "What did it cost?", "it cost 420 crowns"),
        ("Anna Moor", "Who?", "dedicated to Christopher Yeoh"),
        ("blue, green or red paint", "Which?", "paint that is red"),
        ("the keeper", "Did the keeper come?", "nobody was there"),
        ("", "Who?", "anything"),
        ("yes", "Is it so?", "yes it is"),  # no content words
        ("In May.", "When are keys handed out?", "Keys are handed out in March."),
        ("May", "When are keys handed out?", "Keys may be handed out in March."),
    ],
)
def test_not_supported(answer: str, question: str, passage: str) -> None:
    assert not is_supported(answer, question, passage)


def test_a_number_inside_a_longer_number_is_another_number() -> None:
    assert not is_supported("2015 crowns", "What did it cost?", "it cost 12015 crowns")


@pytest.mark.parametrize(
    ("answer", "question", "passage"),
    [
        ("12.4 million", "How much?", "in thousands: revenue 12,400 thousand"),
        ("USD 4.2m", "What did it cost?", "a cost of $4,200,000 in all"),
        ("12 %", "What was the margin in 2019?", "Operating margin 12% 11% 9%"),
        ("In 2019 it was 12 %.", "What was the margin in 2019?", "Operating margin 12% 11% 9%"),
        ("1.234,50 €", "Wie viel?", "Summe: 1,234.50 EUR"),
        ("No, pets are not allowed.", "Are pets allowed?", "Pets are not allowed in the flat."),
        ("Yes.", "Is there a swimming pool?", "A heated swimming pool is on the roof."),
        ("No.", "Is there a swimming pool?", "The building has no swimming pool."),
        ("Yes", "Is the deposit not refundable?", "The deposit is not refundable."),
        ("No. 7", "Which number?", "It is No. 7 of the list."),
        ("sda1", "Which disk?", "mounted on sda1"),
        ("1.8.9", "Which firmware?", "we recommend you to download 1.8.9"),
        ("1.8", "Which revision?", "Revision 1.8, October"),
        ("thirty days", "How long is the notice?", "a notice of 30 days"),
    ],
)
def test_supported_numbers_and_negations(answer: str, question: str, passage: str) -> None:
    assert is_supported(answer, question, passage)


@pytest.mark.parametrize(
    ("answer", "question", "passage"),
    [
        ("12.4 million", "How much?", "revenue 12.4 thousand"),
        ("42 %", "Which share?", "42 days"),
        (
            "Yes, there is a swimming pool in the building.",
            "Is there a swimming pool?",
            "8.1 The Landlord insures the building.",
        ),
        ("Yes, pets are allowed.", "Are pets allowed?", "Pets are not allowed in the flat."),
        ("No, pets are not allowed.", "Are pets allowed?", "Pets are allowed in the flat."),
        ("No.", "Is there a swimming pool?", "A heated swimming pool is on the roof."),
        ("The document does not say.", "Which document?", "The document does not say a word."),
        ("sda2", "Which disk?", "mounted on sda1"),
        ("1.8.8", "Which firmware?", "we recommend you to download 1.8.9"),
        ("sixty days", "How long is the notice?", "a notice of 30 days"),
    ],
)
def test_unsupported_numbers_and_negations(answer: str, question: str, passage: str) -> None:
    assert not is_supported(answer, question, passage)


@pytest.mark.parametrize(
    ("passage", "expected"),
    [
        ("Sales were 4 million.", True),
        ("In 2016: 41,200", True),
        ("It rained on 12 days.", False),
        ("The selling price fell.", False),
    ],
)
def test_a_passage_is_about_a_question_if_they_share_a_word(passage: str, expected: bool) -> None:
    assert is_about("By how much did sales rise from 2016?", passage) is expected


@pytest.mark.parametrize(
    ("answer", "question", "passage", "expected"),
    [
        ("On Friday", "Which day?", "They come on Saturday, not on Friday.", False),
        ("On Saturday", "Which day?", "They come on Saturday, not on Friday.", True),
        ("On Friday", "Which day?", "Not on Friday at 8, but on Friday at 9.", True),
        ("Not on Friday", "Which day?", "They come on Saturday, not on Friday.", True),
        ("The tenants", "Who pays?", "The owners pay instead of the tenants.", False),
        ("Im Juli", "Welcher Monat?", "Im Mai, nicht wie geplant im Juli.", False),
        ("Au port", "Quel endroit ?", "À la gare, pas au port.", False),
    ],
)
def test_what_is_not_so_supports_nothing(
    answer: str, question: str, passage: str, expected: bool
) -> None:
    assert is_supported(answer, question, passage) is expected


@pytest.mark.parametrize(
    ("answer", "question", "expected"),
    [
        ("Die Miete beträgt 940 Euro.", "Wie hoch ist die Miete?", True),
        ("Le loyer s'élève à 940 euros.", "Quel est le loyer de la maison ?", True),
        ("Die Miete beträgt 490 Euro.", "Wie hoch ist die Miete?", False),
        ("Die Miete zahlt der Nachbar.", "Wer zahlt die Miete?", False),
        ("The fee amounts to 940 euros.", "What is the fee?", False),  # the same language
    ],
)
def test_an_answer_in_another_language_needs_its_figures(
    answer: str, question: str, expected: bool
) -> None:
    passage = "The rent of the house is 940 euros, and it is due on the first of the month."
    assert is_supported(answer, question, passage) is expected


@pytest.mark.parametrize(
    ("question", "quote", "other"),
    [
        ("What was the catch in 2019?", "The catch was 12 tonnes in 2018.", True),
        ("What was the catch in 2019?", "It was 12 tonnes in 2018 and 14 in 2019.", False),
        ("What was the catch in 2019?", "The catch was 12 tonnes.", False),
        ("What was the catch?", "The catch was 12 tonnes in 2018.", False),
    ],
)
def test_a_quote_of_another_year(question: str, quote: str, other: bool) -> None:
    assert is_of_another_year(question, quote) == other


@pytest.mark.parametrize(
    ("question", "answer", "nothing"),
    [
        ("Within how many days is it back?", "You hear from us when it is back.", True),
        ("Wie viele Boote gibt es?", "Die Boote liegen im Hafen.", True),
        ("How many boats are there?", "There are two boats.", False),
        ("How many boats are there?", "None.", False),
        ("How many boats are there?", "12", False),
        ("How many boats are there?", "About a dozen.", False),
        ("How many may sail?", "Everybody may sail.", False),
        ("Wie viele Boote gibt es?", "Es sind fünfzehn.", False),
        ("Wie viele Boote gibt es?", "Zweihundert", False),
        ("Combien de bateaux y a-t-il ?", "Il y a trente-deux bateaux.", False),
        ("Tous les combien d'années le bateau est-il vérifié ?", "Toujours en hiver.", False),
        ("Where are the boats?", "In the harbor.", False),
    ],
)
def test_an_answer_to_how_many_has_a_number(question: str, answer: str, nothing: bool) -> None:
    assert counts_nothing(answer, question) == nothing

"""Numbers, words and declined answers, by examples."""

from __future__ import annotations

import pytest

from nsa_cli.evaluation.document_suite.matching import judge, says
from nsa_cli.retrieval.declining import declines


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        ("It was 12,400 thousand dollars.", "12.4 million"),
        ("12.4m", "12,400,000"),
        ("$12.4m", "12.4 million"),
        ("USD 3.1 billion", "$3,100 million"),
        ("12.4 Mio. EUR", "12.4 million"),
        ("2,5 Milliarden", "2.5 billion"),
        ("10 mil millones", "10 billion"),
        ("1240万円", "12.4 million"),
        ("3.1億", "310 million"),
        ("1.234,5 €", "1,234.5"),
        ("1 234,5", "1234.5"),
        ("12'400", "12400"),
        ("12.400.000", "12.4 million"),
        ("1,23,456", "123456"),
        ("41.20", "41.2"),
        ("The share is 41,2 %.", "41.2%"),
        ("41.2 per cent", "41.2 %"),
        ("41.2%", "41.2"),
        ("a 365-day period", "365 days"),
        ("365", "365 days"),
        ("約365日です", "365 days"),
        ("five days", "5 days"),
        ("twenty-five", "25"),
        ("3kΩ", "3 kΩ"),
        ("5 euros", "€5"),
        ("(12.6)", "-12.6"),
        ("It fell by 12.6 million", "-12.6 million"),
        ("$-5", "-5"),
        ("December 31, 2019", "31 December 2019"),
        ("am 31. Dezember 2019", "31 December 2019"),
        ("2019-12-31", "December 31, 2019"),
        ("2019年12月31日", "31 December 2019"),
        ("by 31 December 2019", "2019"),
        ("the Landlord's agent", "landlord"),
        ("Zurich", "Zürich"),
        ("Annex A of the contract", "Annex A"),
        ("Section 4.1.2 applies", "4.1.2"),
        ("東京都です", "東京"),
        ("It is the © sign", "©"),
    ],
)
def test_the_same_in_another_notation(answer: str, wanted: str) -> None:
    assert says(answer, wanted)


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        ("112.4 million", "12.4 million"),
        ("12.45", "12.4"),
        ("2019", "201"),
        ("12.4 billion", "12.4 million"),
        ("12.4", "12.4 million"),
        ("12 months", "12 days"),
        ("$5", "€5"),
        ("10 percent", "10 percentage points"),
        ("12.6", "-12.6"),
        ("-12.6 million", "12.6 million"),
        ("2018-2019", "-2019"),
        ("section 4.10", "section 4.1"),
        ("3.12.4", "12.4"),
        ("v1.2.3", "2.3"),
        ("1990s", "1990"),
        ("A4", "4"),
        ("concatenate", "cat"),
        ("Annex B of it", "Annex A"),
        ("5 June 2019", "5 May 2019"),
        ("", "5"),
    ],
)
def test_another_number_or_word(answer: str, wanted: str) -> None:
    assert not says(answer, wanted)


@pytest.mark.parametrize(
    "answer",
    [
        "The document does not say.",
        "The document doesn’t specify the date. It was signed in 2019, though.",
        "No, the lease does not mention a pool.",
        "The provided document does not contain any information about it.",
        "The fee is not stated in the document.",
        "Not specified.",
        "There is no information about it.",
        "No mention of a pool is made.",
        "It cannot be determined from the document.",
        "I don't know.",
        "There is no data on this.",
        "No details are given.",
        "There is no specific data.",
        "The contract is silent on this.",
        "Das Dokument enthält keine Angaben dazu.",
        "Das wird im Dokument nicht erwähnt.",
        "Aus dem Bericht geht dies nicht hervor.",
        "Le document ne précise pas la date.",
        "Il n'est pas mentionné.",
        "La date n'est pas indiquée.",
        "El documento no menciona la tasa.",
        "No se especifica.",
        "O documento não menciona o valor.",
        "Il documento non specifica il valore.",
        "Het wordt niet vermeld.",
        "文書には記載されていません。",
        "文件中没有提到。",
    ],
)
def test_declined(answer: str) -> None:
    assert declines(answer)
    assert judge(answer, ()).right


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "The fee is 500.",
        "The deposit is 500. The currency is not stated.",
        "No dogs are allowed.",
        "No.",
        "The warranty does not cover batteries.",
        "No personal information is collected.",
        "No data was lost.",
        "There are no data races.",
        "O valor é 5.",
        "Non, la carte n'est pas remboursable.",
    ],
)
def test_not_declined(answer: str) -> None:
    assert not declines(answer)
    assert not judge(answer, ()).right


def test_every_group_is_needed_and_nothing_wrong() -> None:
    groups = (("12.4 million", "12.4m"), ("2019",))
    assert judge("12,400 thousand in 2019", groups).right
    assert judge("12.4m", groups).groups_hit == 1
    assert not judge("12.4m", groups).right
    assert not judge("12.4m in 2019, not in 2018", groups, ["2018"]).right


def test_an_answerable_question_that_is_declined() -> None:
    found = judge("The document does not say.", (("5",),))
    assert (found.right, found.declined) == (False, True)
    hedged = judge("The document does not say so, but it is 5", (("5",),))
    assert (hedged.right, hedged.declined) == (True, False)

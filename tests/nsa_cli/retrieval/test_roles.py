"""Who does what to whom."""

from __future__ import annotations

import pytest

from nsa_cli.retrieval.claims import is_supported
from nsa_cli.retrieval.roles import is_of_another, swaps_roles

LOAN = "Nora lent the trailer to Emil. Emil thanked Nora."
DUTIES = "The seller delivers the goods. The buyer inspects the goods at the port."


@pytest.mark.parametrize(
    ("answer", "question", "passage", "expected"),
    [
        ("Emil lent the trailer to Nora.", "Who lent what?", LOAN, True),
        ("Nora lent the trailer to Emil.", "Who lent what?", LOAN, False),
        ("Emil", "Who lent the trailer to Nora?", LOAN, True),
        ("Nora", "Who lent the trailer to Emil?", LOAN, False),
        ("Lotte gibt das Rad an Karl.", "Wer gibt?", "Karl gibt das Rad an Lotte.", True),
        ("Karl gibt das Rad an Lotte.", "Wer gibt?", "Karl gibt das Rad an Lotte.", False),
        ("Luc prête le vélo à Inès.", "Qui ?", "Inès prête le vélo à Luc.", True),
        ("The bus runs from Ulm to Bonn.", "Where?", "The bus runs from Bonn to Ulm.", True),
        ("The bus runs from Bonn to Ulm.", "Where?", "The bus runs from Bonn to Ulm.", False),
        ("Moss sued Reed over the barn.", "Who sued?", "Reed sued Moss over the barn.", True),
        ("Reed sued Moss over the barn.", "Who sued?", "Reed sued Moss over the barn.", False),
        ("Moss was sued by Reed.", "Who was sued?", "Reed sued Moss over the barn.", False),
        ("Ida Reed", "Who sued Tom Moss?", "Tom Moss was sued by Ida Reed.", False),
        ("Nora", "Who?", LOAN, False),
        # German has a free order; a passive has another one
        ("Der Gast", "Wer zahlt das Porto?", "Das Porto zahlt der Gast.", False),
        ("Operator Kim", "Who opened the valve?", "The valve was opened by operator Kim.", False),
        ("The town gave it to Ms. Orr.", "Who?", "It was given to the town by Ms. Orr.", True),
        # a noun is no verb, an article no direction, and a comma parts
        ("Jo Lee", "Who is the mayor of Ulm?", "Ulm mayor Jo Lee came.", False),
        ("Tom", "Who helps with a flat tire?", "If a tire is flat, Tom helps.", False),
        ("A man", "Who sat in the cellar?", "We reached the cellar, there sat a man.", False),
    ],
)  # fmt: skip
def test_swapped_roles(answer: str, question: str, passage: str, expected: bool) -> None:
    assert swaps_roles(answer, question, passage) is expected
    if expected:
        assert not is_supported(answer, question, passage)


@pytest.mark.parametrize(
    ("answer", "question", "passage", "expected"),
    [
        ("The seller inspects the goods.", "Who inspects the goods?", DUTIES, True),
        ("The buyer inspects the goods.", "Who inspects the goods?", DUTIES, False),
        ("The seller", "Who inspects the goods?", DUTIES, True),
        ("Nora", "Who drove the van?", "Nora came early. She drove the van.", False),
        ("Emil", "Who drove the van?", "Emil drove the van. Nora drove the van, too.", False),
        ("Emil", "What drove the van?", "Nora drove the van.", False),
        ("Emil", "Who drove?", "Nora drove the van.", False),
        ("Emil", "Wer lenkte den Wagen?", "Nora lenkte den Wagen. Emil schlief.", True),
        ("Emil", "Who drove the van?", "Nora drove the van, Emil walked home.", True),
        ("Nora", "Who drove the van?", "Nora drove the van, Emil walked home.", False),
        ("Nora", "Who drove the van?", "Nora (27), a guest from Ulm, drove the van.", False),
        ("Nora", "Who drove the van?", "Emil slept, and she drove the van.", False),
        ("The owner", "Who pays for lost keys?", "The renter replaces lost keys.", True),
        ("On Monday", "When does the fuser come?", "The fuser comes Friday. Monday: rain.", True),
        ("On Friday", "When does the fuser come?", "The fuser comes Friday. Monday: rain.", False),
        ("In Juli", "Wann kommt der Maler?", "Der Maler kommt im August.", True),
    ],
)  # fmt: skip
def test_a_sentence_about_someone_else(
    answer: str, question: str, passage: str, expected: bool
) -> None:
    assert is_of_another(answer, question, passage) is expected
    assert not (expected and is_supported(answer, question, passage))

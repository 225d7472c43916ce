"""What a sentence says of a question: yes, no, or nothing."""

from __future__ import annotations

import pytest

from nsa_cli.retrieval.claims import is_supported
from nsa_cli.retrieval.polarity import (
    alike,
    contradicts_itself,
    denies,
    is_refuted,
    stance,
    without_contradiction,
)

SKATES = "Skates may be worn in the hall, but not in the gym."
BADGE = "Visitors may wear a badge."


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Skating is prohibited.", True),
        ("Skating is not prohibited.", False),
        ("The appeal was refused.", True),
        ("The appeal was not refused.", False),
        ("Reports arrive no later than noon.", False),
        ("The gate is not only for staff.", False),
        ("It is room No. 12.", False),
        ("Zelten ist untersagt.", True),
        ("Der Zutritt wurde abgelehnt.", True),
        ("Le camping est interdit.", True),
        ("Le parking n'est ouvert que le soir.", False),
        ("Le parking n'est pas ouvert.", True),
        ("They didn't come.", True),
        ("The council has turned down the plan.", True),
        ("The board rejected the plan.", True),
        ("The dose was skipped.", True),
        ("deploy: declined by ida", True),
        ("The pool is closed.", True),
        ("The police closed the road.", False),
        ("Canceled bookings are refunded.", False),
        ("Canceled bookings are not refunded.", True),
        ("The fee of a rejected claim is due.", False),
        ("Les réservations annulées ne sont pas remboursées.", True),
        ("La visite est annulée.", True),
        ("Reifen sind von der Garantie ausgenommen.", True),
        ("Der Laden ist am Montag geschlossen.", True),
        ("La piscine reste fermée.", True),
        ("The shop is open.", False),
    ],
)
def test_denies(text: str, expected: bool) -> None:
    assert denies(text) is expected


@pytest.mark.parametrize(
    ("word", "other", "expected"),
    [
        ("smoke", "smoking", True),
        ("register", "registration", True),
        ("garantie", "garantiebedingungen", True),
        ("competitor", "compensated", False),
        ("employer", "employee", False),
        ("lessees", "lessors", False),
        ("employees", "employee", True),
    ],
)
def test_forms_of_a_word(word: str, other: str, expected: bool) -> None:
    assert alike(word, other) is expected
    assert alike(other, word) is expected


@pytest.mark.parametrize(
    ("sentence", "question", "expected"),
    [
        # the clause with the words of the question counts
        (
            "Skates may be worn in the hall, but not in the gym.",
            "May skates be worn in the gym?",
            0,
        ),
        (
            "Skates may be worn in the hall, but not in the gym.",
            "May skates be worn in the hall?",
            1,
        ),
        ("The roof was mended without new tiles.", "Was the roof mended?", 1),
        ("The roof was mended; the gutter was not mended.", "Was the gutter mended?", 0),
        ("The roof was mended; the gutter was not mended.", "Was the roof mended?", 1),
        # an exception says the contrary
        ("The museum is open every day except on Tuesdays.", "Is the museum open on Tuesdays?", 0),
        ("Der Hof ist täglich geöffnet, außer am Montag.", "Ist der Hof am Montag geöffnet?", 0),
        ("Le parc est fermé, sauf le dimanche.", "Le parc est-il fermé le dimanche ?", 0),
        (
            "No entry is granted unless a guard is present.",
            "Is entry granted if a guard is there?",
            1,
        ),
        # a limit tells nothing about what it does not name
        ("The sauna is only for adults.", "Is the sauna for teenagers?", None),
        ("The sauna is only for adults.", "Is the sauna for adults?", 1),
        ("Le ponton n'est ouvert que le jeudi.", "Le ponton est-il ouvert le jeudi ?", 1),
        ("Le ponton n'est ouvert que le jeudi.", "Le ponton est-il ouvert le lundi ?", None),
        # a permission is no duty, and what is no duty may still be permitted
        ("Visitors may wear a badge.", "Must visitors wear a badge?", None),
        ("A badge is optional for visitors.", "Is a badge mandatory for visitors?", 0),
        ("Visitors must wear a badge.", "Must visitors wear a badge?", 1),
        ("Visitors need not wear a badge.", "Must visitors wear a badge?", 0),
        ("Visitors are not required to wear a badge.", "May visitors wear a badge?", None),
        ("Gäste müssen keinen Helm tragen.", "Dürfen Gäste einen Helm tragen?", None),
        ("Visitors must not wear a badge.", "May visitors wear a badge?", 0),
        # a condition states nothing
        ("No fee is due if the train is late.", "Is a fee due if the train is late?", 0),
        ("Calls are fine as long as they cause no costs.", "Are calls forbidden?", 0),
        # `without` in both
        ("Guests cannot stay without a deposit.", "Can guests stay without a deposit?", 0),
        # someone else
        ("The valve was opened by Kim.", "Was the valve opened by a timer?", None),
        # the question denies, too
        ("Filming is forbidden here.", "Is filming forbidden here?", 1),
        ("The fee is not refunded.", "Is the fee not refunded?", 1),
    ],
)
def test_stance(sentence: str, question: str, expected: int | None) -> None:
    assert stance(sentence, question) is (None if expected is None else bool(expected))


@pytest.mark.parametrize(
    ("answer", "question", "passage"),
    [
        ("No.", "May skates be worn in the gym?", SKATES),
        ("Yes.", "May skates be worn in the hall?", SKATES),
        ("No.", "Was the appeal accepted?", "The appeal was refused."),
        ("Nein.", "Ist Zelten am Ufer erlaubt?", "Zelten am Ufer ist untersagt."),
        ("Non.", "Le camping est-il permis ?", "Le camping est interdit."),
        ("No.", "Do visitors have to wear a badge?", "Visitors need not wear a badge."),
        (
            "Visitors must not feed the ducks.",
            "What must visitors not do?",
            "Feeding the ducks: visitors must not feed the ducks.",
        ),
        ("No dogs are allowed.", "Are dogs allowed?", "Rule 4: no dogs are allowed."),
        ("No.", "Did the ferry leave?", "The ferry waited. It did not leave."),
        ("No.", "May dogs enter the hall?", "Cats may enter the hall, dogs may not."),
        (
            "Yes, but not on Mondays.",
            "Is the museum open?",
            "The museum is open, but not on Mondays.",
        ),
    ],
)
def test_supported(answer: str, question: str, passage: str) -> None:
    assert is_supported(answer, question, passage)


@pytest.mark.parametrize(
    ("answer", "question", "passage"),
    [
        ("Yes.", "May skates be worn in the gym?", SKATES),
        ("No.", "May skates be worn in the hall?", SKATES),
        ("Yes.", "Was the appeal refused?", "The appeal was not refused."),
        (
            "Yes.",
            "Is the museum open on Tuesdays?",
            "The museum is open every day except on Tuesdays.",
        ),
        ("Yes.", "Is the sauna for teenagers?", "The sauna is only for adults."),
        ("Yes.", "Must visitors wear a badge?", "Visitors may wear a badge."),
        ("No.", "May visitors wear a badge?", "Visitors are not required to wear a badge."),
        ("Yes, the appeal was not granted.", "Was the appeal granted?", "The appeal was granted."),
        ("Yes.", "May dogs enter the hall?", "Cats may enter the hall, dogs may not."),
        ("No.", "May dogs enter the hall?", "Cats may not enter the hall, dogs may."),
        ("Yes.", "Is the lift open?", "Is the lift open? Ask the porter."),  # nothing is stated
        (
            "Yes.",
            "Is a lease void if unsigned?",
            "A lease is void. A lease is not void if unsigned.",
        ),
        (
            "Yes.",
            "Do flats 1 to 3 get a door?",
            "Flats 7 to 9 get a door. Flats 1 to 3 keep theirs.",
        ),
        # statements without yes or no
        (
            "Visitors may feed the ducks.",
            "May visitors feed the ducks?",
            "Visitors must not feed the ducks.",
        ),
        ("The ducks may not be fed.", "May the ducks be fed?", "The ducks may be fed at noon."),
        (
            "Gäste dürfen die Enten füttern.",
            "Was dürfen Gäste?",
            "Gäste dürfen die Enten nicht füttern.",
        ),
    ],
)
def test_not_supported(answer: str, question: str, passage: str) -> None:
    assert not is_supported(answer, question, passage)


@pytest.mark.parametrize(
    ("answer", "question", "without"),
    [
        (
            "Yes, the bridge was not painted.",
            "Was the bridge painted?",
            "The bridge was not painted.",
        ),
        ("Ja, Zelten ist untersagt.", "Darf man baden?", "Ja, Zelten ist untersagt."),
        ("Ja, Zelten ist untersagt.", "Ist Zelten erlaubt?", "Zelten ist untersagt."),
        ("Oui, le camping est interdit.", "Le camping est-il permis ?", "Le camping est interdit."),
        ("Yes, hiking is forbidden.", "May we hike there?", "Hiking is forbidden."),
        (
            "Yes, the bus stops in Ulm, but not in Bonn.",
            "Does the bus stop in Bonn?",
            "The bus stops in Ulm, but not in Bonn.",
        ),
        ("Yes, the bridge was painted, but not the rail.", "Was the bridge painted?", None),
        ("Yes. The rail was not painted.", "Was the bridge painted?", None),
        ("Yes, the bridge was not painted.", "Was the bridge not painted?", None),
        ("Yes, filming is forbidden.", "Is filming forbidden?", None),
        ("No, the bridge was not painted.", "Was the bridge painted?", None),
        ("Yes", "Was the bridge painted?", None),
        ("Yesterday it was not painted.", "Was the bridge painted?", None),
    ],
)
def test_a_yes_that_its_own_statement_denies_is_left_out(
    answer: str, question: str, without: str | None
) -> None:
    assert without_contradiction(answer, question) == (without or answer)
    assert contradicts_itself(answer, question) == (without not in (None, answer))


@pytest.mark.parametrize(
    ("answer", "question", "passage", "expected"),
    [
        ("Yes, they may.", "May skates be worn in the gym?", SKATES, True),
        ("No.", "May skates be worn in the gym?", SKATES, False),
        ("No.", "May skates be worn in the hall?", SKATES, True),
        ("Yes.", "Is there a pool?", SKATES, False),
        ("In the hall.", "May skates be worn in the gym?", SKATES, False),
        ("Yes.", "Must visitors wear a badge?", BADGE, False),  # it does not tell
    ],
)
def test_a_passage_may_refute_yes_or_no(
    answer: str, question: str, passage: str, expected: bool
) -> None:
    assert is_refuted(answer, question, passage) is expected

"""Checks of a text: answers to judge, also to what it lacks, and expressions."""

from __future__ import annotations

import re
from collections import Counter
from functools import cache

import pytest

from nsa_cli.computing.figures import numbers
from nsa_cli.context.judge import NO, YES, judge_question
from nsa_cli.training.check_examples import (
    EXPRESSION,
    Check,
    CheckedText,
    CheckExamples,
    OwnAnswers,
    holds,
    without_sentences,
)
from nsa_cli.training.computations import Computation
from nsa_models.tasks import Article
from nsa_models.tasks.questions import Paragraph

TEXTS = 400
NAMES = ("mayor", "baker", "pilot", "judge")
LEAST_SHARE = 0.2


def town(number: int) -> Article:
    """An article of four paragraphs; the answers of all articles differ."""
    parts = []
    for year in range(4):
        said, asked = [], []
        for place, name in enumerate(NAMES):
            gold = f"Ada{number}x{year}x{place}"
            said.append(f"In {1950 + year} the {name} of town {number} was {gold}, as all knew.")
            asked.append((f"Who was {name} of town {number} in {1950 + year}?", (gold,)))
        parts.append(Paragraph(text=" ".join(said), questions=tuple(asked)))
    return Article(title=f"Town {number}", paragraphs=tuple(parts))


def sheet(number: int) -> Article:
    """A table as an article of one paragraph, with one question."""
    a, b = 10_000 + 7 * number, 20_000 + 11 * number
    text = f"Sheet {number} | 2019 | 2018\nRent {number} | {a:,} | {b:,}\nStaff | Bo{number} | Cy"
    question = (f"Who is the staff of sheet {number} in 2019?", (f"Bo{number}",))
    return Article(
        title=f"Sheet {number}", paragraphs=(Paragraph(text=text, questions=(question,)),)
    )


ARTICLES = [town(number) for number in range(12)] + [sheet(number) for number in range(12)]
GOLD = {
    asked: gold for each in ARTICLES for part in each.paragraphs for asked, gold in part.questions
}
COMPUTATIONS = {
    each.paragraphs[0].text: (
        Computation(
            f"By how much did rent {number} change from 2018 to 2019?",
            f"{10_000 + 7 * number:,} - {20_000 + 11 * number:,}",
        ),
    )
    for number, each in enumerate(ARTICLES[12:])
}
COMPUTED_ONES = {each.question: each.expression for one in COMPUTATIONS.values() for each in one}
OWN = {
    asked: OwnAnswers(right=(f"It was {gold[0]}.",), wrong=(f"It was Zed{n}.",))
    for n, (asked, gold) in enumerate(GOLD.items())
    if n % 3
}


@cache
def examples() -> tuple[CheckedText, ...]:
    maker = CheckExamples(ARTICLES, COMPUTATIONS, OWN)
    return tuple(maker.example(seed) for seed in range(TEXTS))


def checks() -> list[tuple[str, Check]]:
    return [(each.text, check) for each in examples() for check in each.checks]


def quoted(check: Check) -> list[str]:
    """The question, and the answer to judge, inside a check."""
    found = re.findall("“(.*?)”", check.question)
    assert judge_question(*found) == check.question
    return found


def judged(*targets: str) -> list[tuple[str, str, str]]:
    """Text, question and answer of the checks of an answer."""
    return [(text, *quoted(each)) for text, each in checks() if each.target in targets]


def test_a_question_about_another_year_has_no_right_answer() -> None:
    others = [each for each in judged(YES, NO) if each[1] not in GOLD]
    assert len(others) > 20
    assert not any(each[1] not in GOLD for each in judged(YES))
    for text, asked, _ in others:
        years = re.findall(r"\b(?:19|20)\d\d\b", asked)
        assert any(year not in text for year in years)
        bare = re.sub(r"\b(?:19|20)\d\d\b", "#", asked)
        assert bare in {re.sub(r"\b(?:19|20)\d\d\b", "#", each) for each in GOLD}


def test_a_question_that_the_text_leaves_open_comes_with_inventions_and_others_answers() -> None:
    unanswered = [
        (asked, said)
        for text, asked, said in judged(NO)
        if asked in GOLD and not holds(text, GOLD[asked])
    ]
    invented = [said for asked, said in unanswered if "Zed" in said]
    others = [said for asked, said in unanswered if asked not in OWN and "Zed" not in said]
    assert min(len(invented), len(others)) > 20


def test_yes_has_a_right_answer_that_the_text_has() -> None:
    said_by = Counter[str]()
    for text, asked, said in judged(YES):
        assert holds(text, GOLD[asked])
        assert said in (*GOLD[asked], *OWN.get(asked, OwnAnswers()).right)
        said_by["gold" if said in GOLD[asked] else "own"] += 1
    assert min(said_by["gold"], said_by["own"]) > 20


def test_no_has_no_right_answer_of_a_text_that_has_it() -> None:
    wrong = Counter[str]()
    for text, asked, said in judged(NO):
        if asked in GOLD and holds(text, GOLD[asked]):
            assert not holds(said, GOLD[asked]), (asked, said)
            wrong["invention" if "Zed" in said else "another answer"] += 1
        else:
            wrong["right elsewhere"] += asked in GOLD and holds(said, GOLD[asked])
    assert min(wrong[each] for each in ("invention", "another answer", "right elsewhere")) > 5


def test_computed_questions_have_their_figures_in_the_text() -> None:
    some = [(text, each) for text, each in checks() if each.kind == EXPRESSION]
    assert len(some) > 20
    for text, each in some:
        assert each.target == COMPUTED_ONES[each.question]
        assert all(figure.digits in text for figure in numbers(each.target, signed=False))


def test_a_text_has_some_checks_and_each_once() -> None:
    assert all(1 <= len(each.checks) == len({*each.checks}) <= 8 for each in examples())
    assert len({each.text for each in examples()}) > TEXTS / 2
    assert any("\n...\n" in each.text for each in examples())


def test_targets_are_balanced() -> None:
    counts = Counter(each.target for _, each in checks())
    assert LEAST_SHARE < counts[YES] / (counts[YES] + counts[NO]) < 1 - LEAST_SHARE, counts


def test_the_same_seed_makes_the_same_example() -> None:
    again = CheckExamples(ARTICLES, COMPUTATIONS, OWN)
    assert [again.example(seed) for seed in (9, 0, 5)] == [examples()[seed] for seed in (9, 0, 5)]


def test_an_article_alone_with_one_question_has_examples() -> None:
    maker = CheckExamples([ARTICLES[12]], {}, {})
    for seed in range(20):
        found = maker.example(seed)
        for check in found.checks:
            [asked, *_] = quoted(check)
            if asked in GOLD:
                assert holds(found.text, GOLD[asked]) == (check.target == YES)


def test_sentences_and_rows_with_an_answer_are_cut() -> None:
    text = (
        "Ada was mayor. Bo was baker; he sold rye. It rained.\nRent | 1,204 | 5\nStaff | Bo | Cy\n"
    )
    cut = without_sentences(text, ("bo",))
    assert not holds(cut, ("Bo",))
    assert all(each in cut for each in ("Ada was mayor.", "It rained.", "Rent | 1,204 | 5"))
    assert without_sentences("Bo.", ("Bo",)).strip() == ""


@pytest.mark.parametrize(
    ("text", "answer", "there"),
    [
        ("It was Ada.", "ada", True),
        ("It was Ada-Bo.", "Ada Bo", True),
        ("It was\nAda\nBo.", "Ada Bo", True),
        ("Adam came.", "Ada", False),
        ("It cost 1,204.", "1,204", True),
        ("It cost 11,204.", "1,204", False),
    ],
)
def test_whole_words_of_an_answer_count(text: str, answer: str, there: bool) -> None:
    assert holds(text, (answer,)) == there

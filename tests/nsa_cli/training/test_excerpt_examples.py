"""Training examples like retrieved excerpts, with and without the answer."""

from __future__ import annotations

from nsa_cli.context.judge import NO, YES
from nsa_cli.retrieval.declining import DECLINED, declines
from nsa_cli.training.excerpt_examples import ExcerptExamples
from nsa_models.tasks import Article, Example
from nsa_models.tasks.questions import Paragraph

YEARS = range(2001, 2013)


def article(town: str) -> Article:
    """A town with a mayor for each year, and one mayor that two paragraphs name."""
    parts = [
        Paragraph(
            text=f"In {year} the mayor of {town} was {town} Number {year}. It was a quiet year. "
            + "The harvest was good. " * (year % 7 * 8),
            questions=((f"Who was mayor of {town} in {year}?", (f"Number {year}",)),),
        )
        for year in YEARS
    ]
    again = Paragraph(text=f"Number 2001 of {town} had a dog.", questions=())
    return Article(title=town, paragraphs=(*parts, again))


TOWNS = [article(f"Town{letter}") for letter in "ABCDEFGH"]
GOLDS = {
    question: answers
    for town in TOWNS
    for part in town.paragraphs
    for question, answers in part.questions
}


def made(count: int = 200) -> list[Example]:
    maker = ExcerptExamples(TOWNS, GOLDS)
    examples = [maker.example(seed) for seed in range(3 * count)]
    return [each for each in examples if each.target not in (YES, NO)][:count]


def test_a_part_of_the_examples_declines() -> None:
    silent = [each for each in made() if each.target == DECLINED]
    assert 0.25 < len(silent) / 200 < 0.45
    assert declines(DECLINED)


def test_an_answered_question_has_its_paragraph_as_evidence() -> None:
    for each in made():
        if each.target != DECLINED:
            [(start, end)] = each.evidence
            assert each.target in each.context[start:end].replace("\n", " ")


def test_a_text_without_the_answer_names_no_gold_answer() -> None:
    """Another paragraph with the answer is left out, too, unless another year is asked for."""
    silent = [each for each in made() if each.target == DECLINED and each.question in GOLDS]
    assert silent
    own = [each for each in silent if f"of {each.question.split()[4]} was" in each.context]
    assert own, "near misses are of the same article"
    for each in silent:
        assert each.evidence == ()
        [gold] = GOLDS[each.question]
        town = each.question.split()[4]
        assert f"{town} {gold}" not in each.context.replace("\n", " ")


def test_no_paragraph_names_the_other_year() -> None:
    """Such a question keeps the paragraph that it was made from."""
    found = 0
    for each in made(400):
        year, town = each.question[-5:-1], each.question.split()[4]
        if each.target == DECLINED and f"mayor of {town} was" in each.context:
            assert f"In {year} the mayor of {town}" not in each.context.replace("\n", " ")
            found += int(year) not in YEARS
    assert found, "some years are out of the range of the data"


def test_the_same_seed_makes_the_same_example() -> None:
    assert made(20) == made(20)


def test_lengths_differ_and_some_texts_are_wrapped() -> None:
    contexts = [each.context for each in made()]
    assert max(map(len, contexts)) > 2 * min(map(len, contexts))
    wrapped = [text for text in contexts if any("\n" in part for part in text.split("\n...\n"))]
    assert 0.2 < len(wrapped) / len(contexts) < 0.8


def test_an_answer_is_judged_by_the_text() -> None:
    """Right answers stand in the text, and of a text without the answer every one is wrong."""
    maker = ExcerptExamples(TOWNS, GOLDS)
    judged = [each for each in map(maker.example, range(400)) if each.target in (YES, NO)]
    right = [each for each in judged if each.target == YES]
    assert 0.2 < len(judged) / 400 < 0.4
    assert 0.25 < len(right) / len(judged) < 0.6
    for each in judged:
        asked, said = each.question.split("“")[1].split("”")[0], each.question.split("“")[2]
        [gold] = GOLDS.get(asked, ("",))
        town = asked.split()[4]
        stated = f"{town} {gold}" in each.context.replace("\n", " ") and gold != ""
        assert (each.target == YES) == (stated and said.startswith(f"{gold}”"))

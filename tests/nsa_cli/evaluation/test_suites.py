"""What is planned, texts that are as long as is wanted, and where they come from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nsa_cli.documents.errors import UnreadableError
from nsa_cli.evaluation.suites import Plan, TextSpec, fitted, load_articles, load_haystack
from nsa_models.errors import UsageError
from nsa_models.tasks import Example, of_split, read_articles

HAYSTACK = [f"Sentence {n} of the text is here." for n in range(3000)]


def plan(*suites: str, depths: int = 3, limit: int | None = None, seed: int = 0) -> Plan:
    return Plan(
        suites=suites,
        lengths=(4000, 1000),
        depths=depths,
        limit=limit,
        seed=seed,
        haystack=HAYSTACK,
    )


def count(text: str) -> int:
    """A token for three characters, and a template's twenty."""
    return len(text) // 3 + 20


def test_the_needle_comes_at_every_depth_shortest_first() -> None:
    texts = list(plan("needle", limit=2).texts())
    assert [text.length for text in texts] == [1000] * 6 + [4000] * 6
    assert [text.depth for text in texts[:6]] == [0.0, 0.5, 1.0] * 2
    assert len({(text.length, text.number) for text in texts}) == 12
    assert [text.depth for text in plan("needle", depths=1).texts()] == [0.5, 0.5]


@pytest.mark.parametrize("suite", ["similar", "values", "variables", "aggregation", "questions"])
@pytest.mark.parametrize("limit", [1, 5, 30])
def test_the_limit_counts_questions(suite: str, limit: int) -> None:
    texts = [text for text in plan(suite, limit=limit).texts() if text.length == 1000]
    assert sum(text.questions for text in texts) == limit
    assert all(text.depth is None for text in texts)


def test_a_text_is_as_long_as_there_is_place_for() -> None:
    for wanted in plan("needle", "values", "aggregation").texts():
        if wanted.length < 4000:
            continue
        examples = plan().make(wanted, count, 100)
        assert len(examples) == wanted.questions
        assert 0.93 * 3900 <= count(examples[0].context) <= 3900
        if wanted.depth is not None:
            assert examples[0].depth == pytest.approx(wanted.depth, abs=0.05)


def test_the_seed_and_the_number_make_other_texts() -> None:
    first, second, *_ = plan("needle").texts()
    one = plan("needle").make(first, count, 100)
    assert one == plan("needle").make(first, count, 100)
    assert one[0].answers != plan("needle", seed=1).make(first, count, 100)[0].answers
    assert one[0].answers != plan("needle").make(second, count, 100)[0].answers


def test_what_cannot_be_so_short_is_told() -> None:
    def make(**_: float) -> tuple[Example, ...]:
        context = "Always the same long text. " * 20
        return (
            Example(context=context, question="?", answers=("x",), evidence=((0, 1),), task="t"),
        )

    with pytest.raises(UsageError, match="too few"):
        fitted(make, 100, count)
    assert fitted(make, 400, count)[0].context


def test_a_haystack_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("One.\n\nTwo cafe\u0301s.\n", "utf-8")
    found, about = load_haystack(str(path), 1000, 0)
    assert found == ["One.", "Two cafés."]
    assert about["name"] == str(path)
    with pytest.raises(UnreadableError, match="does not exist"):
        load_haystack(str(tmp_path / "none.txt"), 1000, 0)


def test_the_haystack_that_is_there_is_told_by_its_digest() -> None:
    found, about = load_haystack(None, 1000, 0)
    assert sum(map(len, found)) > 300_000
    assert about["name"].startswith("documentation of Python ")
    assert about["sha256"] == load_haystack(None, 1000, 0)[1]["sha256"]
    assert about["sha256"] != load_haystack(None, 1000, 1)[1]["sha256"]


def test_articles_held_out(tmp_path: Path) -> None:
    path = tmp_path / "questions.jsonl"
    rows = [
        {
            "title": f"T{n}",
            "paragraphs": [
                {
                    "text": "A.",
                    "questions": [
                        {"question": f"Who is the {n}th?", "answers": ["Ada"]},
                        {"question": "Who is it?", "answers": ["Ada"]},
                    ],
                }
            ],
        }
        for n in range(40)
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    assert len(load_articles(path, held_out=False)) == 40
    found = load_articles(path, held_out=True)
    kept = of_split(read_articles(path), "eval")
    assert [each.title for each in found] == [each.title for each in kept]
    # Which article is meant, the second question does not say.
    asked = [paragraph.questions for each in found for paragraph in each.paragraphs]
    assert asked == [each.paragraphs[0].questions[:1] for each in kept]
    silent = [{"title": "T", "paragraphs": [{"text": "A.", "questions": []}]}]
    path.write_text("\n".join(map(json.dumps, silent)))
    with pytest.raises(UsageError, match="no question"):
        load_articles(path, held_out=False)


def test_a_name_for_progress() -> None:
    wanted = TextSpec(suite="needle", length=4096, depth=0.25, number=0, questions=1)
    assert wanted.name == "needle, 4,096 tokens, depth 25%"

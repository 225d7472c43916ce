"""Articles with questions, and texts composed of them."""

from __future__ import annotations

import gzip
import json
import lzma
from collections.abc import Callable
from pathlib import Path

import pytest

from nsa_models.errors import DataError
from nsa_models.tasks import (
    Article,
    Paragraph,
    distinct_questions,
    hidden_questions,
    of_split,
    read_articles,
)

ARTICLES = [
    Article(
        title=f"Article_{a}",
        paragraphs=tuple(
            Paragraph(
                text=f"In article {a}, paragraph {p} tells of item {a}-{p}. " * 5,
                questions=tuple((f"Q{q} of {a}-{p}?", (f"item {a}-{p}",)) for q in range(p % 3)),
            )
            for p in range(6)
        ),
    )
    for a in range(30)
]


def test_the_evidence_is_the_paragraph_of_the_question(seed: int) -> None:
    examples = hidden_questions(ARTICLES, tokens=3000, seed=seed, count=6)
    assert len(examples) == 6
    for example in examples:
        [(start, end)] = example.evidence
        paragraph = example.context[start:end]
        about = example.question.split(" of ")[1].rstrip("?")
        assert paragraph.startswith("In article ")
        assert "\n" not in paragraph
        assert paragraph.count(f"item {about}.") == 5
        assert example.context.count(f"item {about}.") == 5
    assert len({example.evidence for example in examples}) == 6
    starts = [example.evidence[0][0] for example in examples]
    assert starts == sorted(starts)


def test_length_and_all_articles(seed: int) -> None:
    [first, *_] = hidden_questions(ARTICLES, tokens=2000, seed=seed)
    assert 0.8 * 2000 < len(first.context) / 4.3 < 1.05 * 2000
    titles = [line for line in first.context.splitlines() if line.startswith("# ")]
    assert len(set(titles)) == len(titles) > 2
    [everything, *_] = hidden_questions(ARTICLES, tokens=10**6, seed=seed)
    assert all(f"# Article {a}\n" in everything.context for a in range(30))


def test_more_questions_than_paragraphs() -> None:
    examples = hidden_questions(ARTICLES[:1], tokens=1000, seed=0, count=9)
    assert len(examples) == sum(len(p.questions) for p in ARTICLES[0].paragraphs)
    assert len({example.question for example in examples}) == len(examples)


def test_the_splits_partition_the_articles() -> None:
    train, held_out = of_split(ARTICLES, "train"), of_split(ARTICLES, "eval")
    assert held_out
    assert len(train) > 3 * len(held_out)
    titles = sorted(article.title for article in [*train, *held_out])
    assert titles == sorted(article.title for article in ARTICLES)
    with pytest.raises(ValueError, match="'test'"):
        of_split(ARTICLES, "test")  # type: ignore[arg-type]


def test_questions_of_several_articles_are_removed() -> None:
    """Repetition within an article does not count; case and spaces are ignored."""

    def article(title: str, *questions: str) -> Article:
        asked = tuple((question, ("Ada",)) for question in questions)
        parts = (Paragraph(text="A.", questions=asked), Paragraph(text="B.", questions=asked[:1]))
        return Article(title=title, paragraphs=parts)

    left = distinct_questions([article("S", "Why?", "Who  is it?"), article("T", "who is it?")])
    assert [[[q for q, _ in p.questions] for p in kept.paragraphs] for kept in left] == [
        [["Why?"], ["Why?"]],
        [[], []],
    ]


def test_articles_without_questions_are_refused() -> None:
    silent = Article(title="A", paragraphs=(Paragraph(text="Text.", questions=()),))
    with pytest.raises(ValueError, match="no article has a question"):
        hidden_questions([silent], tokens=100, seed=0)


@pytest.mark.parametrize(("suffix", "opened"), [("", open), (".xz", lzma.open), (".gz", gzip.open)])
def test_reading_a_file(tmp_path: Path, suffix: str, opened: Callable[..., object]) -> None:
    path = tmp_path / f"questions.jsonl{suffix}"
    asked = [{"question": "Who?", "answers": ["Ada"]}, {"question": "Why?", "answers": []}]
    row = {
        "title": "A",
        "licence": "MIT",
        "paragraphs": [{"text": " Cafe\u0301 ", "questions": asked}],
    }
    with opened(path, "wt", encoding="utf-8") as file:  # type: ignore[attr-defined]
        file.write(json.dumps(row) + "\n\n")
    [article] = read_articles(path)
    assert article.title == "A"
    assert article.paragraphs == (Paragraph(text="Café", questions=(("Who?", ("Ada",)),)),)


@pytest.mark.parametrize(
    ("name", "content", "code", "says"),
    [
        ("none.jsonl", None, "missing", "does not exist"),
        ("empty.jsonl", b"\n", "empty", "is empty"),
        (
            "odd.jsonl",
            b'{"title": "A", "paragraphs": []}\n{"text": "B"}\n',
            "broken",
            "line 2: not an art",
        ),
        ("text.jsonl", b"Some text.\n", "broken", "line 1: invalid JSON"),
        ("bytes.jsonl", b"\xff\xfe\x00", "broken", "cannot read"),
        ("cut.jsonl.xz", lzma.compress(b'{"title": "A"}\n' * 99)[:-20], "broken", "cannot read"),
        ("fake.jsonl.gz", b"no gzip", "broken", "cannot read"),
    ],
)
def test_unreadable_files(
    tmp_path: Path, name: str, content: bytes | None, code: str, says: str
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=says) as caught:
        read_articles(path)
    assert caught.value.code == code
    assert caught.value.hint

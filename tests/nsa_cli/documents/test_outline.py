"""The sections of a document."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsa_cli.documents import Document, parse_document, read_source
from nsa_cli.documents.build import join_documents
from nsa_cli.documents.outline import sections


def load_document(source: str, *, stdin: Any = None, **named: Any) -> Document:
    """A source, parsed."""
    return parse_document(*read_source(source, stdin=stdin), **named)


FHS = Path(__file__).parents[3] / "examples" / "fhs-3.0.pdf"


def titles(text: str, name: str = "a.txt") -> list[tuple[int, str]]:
    document = parse_document(name, text.encode())
    return [(section.level, section.title) for section in sections(document)]


def test_markdown() -> None:
    text = "# One\ntext\n## Two ##\ntext\n#no\n"
    assert titles(text) == [(1, "One"), (2, "Two")]


def test_numbered_headings_without_the_table_of_contents() -> None:
    text = (
        "1. Purpose ... 3\n2. Scope 4\n\n1. Purpose\nIt is so.\n\n7 Dwarfs came\n"
        "1.1 Conventions\nThese.\n2. Scope\nWide.\n3. The end\nOver.\n"
    )
    assert titles(text) == [
        (1, "1 Purpose"),
        (2, "1.1 Conventions"),
        (1, "2 Scope"),
        (1, "3 The end"),
    ]


def test_definitions_of_code() -> None:
    text = "import os\n\nclass A:\n    def inner(self): ...\n\nasync def run(x):\n    pass\n"
    assert titles(text, "a.py") == [(1, "class A"), (1, "async def run")]


def test_files_of_a_folder() -> None:
    documents = [parse_document(name, b"# x\n\n# y\n") for name in ("a.md", "b.md")]
    found = sections(join_documents(documents, "all"))
    assert [section.title for section in found] == ["a.md", "b.md"]


def test_chapters_of_the_example() -> None:
    document = load_document(str(FHS))
    found = sections(document)
    assert [section.title for section in found][:2] == [
        "Chapter 1. Introduction",
        "Chapter 2. The Filesystem",
    ]
    pages = [document.locate(section.start, section.start).page for section in found]
    assert pages == [8, 9, 10, 25, 37, 46, 49]


@pytest.mark.parametrize("text", ["plain words\n", "# only one\ntext\n", "1. a list\n2. of it\n"])
def test_no_sections(text: str) -> None:
    assert titles(text) == []


def test_many_sections_are_put_together() -> None:
    found = titles("".join(f"# Heading {number}\ntext\n" for number in range(1, 101)))
    assert len(found) == 25
    assert found[0] == (1, "Heading 1 – Heading 4")


@given(st.text(alphabet="#1.A \nab", min_size=1).filter(lambda text: bool(text.strip())))
def test_sections_follow_each_other(text: str) -> None:
    document = parse_document("a.txt", text.encode())
    found = sections(document)
    for first, second in itertools.pairwise(found):
        assert first.start < first.end == second.start or first.end <= second.start
    for section in found:
        assert 0 <= section.start < section.end <= len(document.text)

"""The measure of the document loader."""

from __future__ import annotations

from pathlib import Path

import pytest

from nsa_cli.documents.errors import UnreadableError
from tests.documents.recall import (
    FileRecall,
    files_in,
    fours,
    measure,
    recall,
    table,
    text_beside,
    words,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The fee is 4,120.50.", ["the", "fee", "is", "4", "120", "50"]),
        ("config-\nuration", ["configuration"]),
        ("soft\xadware", ["software"]),
        ("契約 です", ["契", "約", "で", "す"]),
        ("ﬁle", ["file"]),
        ("a_b\x00", ["a", "b"]),
    ],
)
def test_words(text: str, expected: list[str]) -> None:
    assert words(text) == expected


def test_recall_counts_each_word_as_often_as_it_stands() -> None:
    assert recall(["a", "a", "b", "c"], ["a", "b", "x"]) == 0.5
    assert recall([], ["a"]) == 1.0


def test_sequences_of_letters_do_not_depend_on_spaces() -> None:
    assert fours(["the", "fee"]) == fours(["t", "hef", "ee"])
    assert fours([]) == [""]


def test_a_file_beside_gives_the_reference(tmp_path: Path) -> None:
    path = tmp_path / "a.docx"
    path.write_bytes(b"")
    assert list(files_in(tmp_path)) == []
    (tmp_path / "a.docx.expected.txt").write_text("the fee is due")
    assert list(files_in(tmp_path)) == [path]
    found = measure(path, "a.docx", words(text_beside(path)), lambda _: ("the fee due", ()))
    assert (found.words, found.word_recall, found.told, found.whole) == (4, 0.75, False, False)


def test_a_refusal_is_told_and_a_crash_is_not(tmp_path: Path) -> None:
    def refuse(_path: Path) -> tuple[str, tuple[str, ...]]:
        raise UnreadableError("no text", code="scanned")

    def crash(_path: Path) -> tuple[str, tuple[str, ...]]:
        raise KeyError("font")

    refused = measure(tmp_path, "a", ["x"], refuse)
    crashed = measure(tmp_path, "a", ["x"], crash)
    assert (refused.refused, refused.told, refused.crashed) == ("scanned", True, "")
    assert (crashed.refused, crashed.told) == ("", False)
    assert crashed.crashed.startswith("KeyError")


def test_the_table_counts_files_that_warn_apart() -> None:
    def one(share: float, *warnings: str) -> FileRecall:
        return FileRecall(
            path="a.pdf", words=100, word_recall=share, pair_recall=share, letter_recall=share,
            warnings=warnings, refused="", crashed="", seconds=1.0, megabytes=50,
        )  # fmt: skip

    printed = table([one(1.0), one(0.9), one(0.5), one(0.4, "page 1 has no text")])
    assert "| word recall >= 0.95 of those that do not warn | 1 of 3 (33.3%) |" in printed
    assert "| word recall < 0.8 without a warning | 1 |" in printed
    assert "none" in table([])

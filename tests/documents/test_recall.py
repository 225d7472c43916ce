"""The measure of the document loader."""

from __future__ import annotations

from pathlib import Path

import pytest

from nsa_cli.documents.errors import UnreadableError
from tests.documents.recall import (
    FileRecall,
    files_in,
    fours,
    joined_recall,
    measure,
    recall,
    spelled_recall,
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
        # Lam and alef in either order.
        ("\u0627\u0644\u0627", ["\u0627\u0627\u0644"]),
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


@pytest.mark.parametrize(
    ("reference", "found", "share"),
    [
        ("the fee is due", "the fee is due", 1.0),
        ("t h e fee", "the fee", 1.0),
        ("thefee is due", "the fee is due", 1.0),
        # A word that is there once counts once, and its letters must be a sequence of words.
        ("t e t e", "te", 0.5),
        ("abc", "xab cx", 0.0),
        ("abc d", "ab d c", 0.5),
        ("a b", "", 0.0),
        ("", "a", 1.0),
    ],
)
def test_words_count_however_they_are_parted(reference: str, found: str, share: float) -> None:
    assert joined_recall(words(reference), words(found)) == share


@pytest.mark.parametrize(
    ("reference", "found", "share"),
    [
        ("t h e fee", "the fee", 1.0),
        ("the fee", "t h e fee", 0.5),  # What the loader parts is lost.
        ("the fee", "thefee", 0.0),  # So is what it joins.
        ("th e fee", "the fee", 1 / 3),  # Two letters may be a word.
        ("x t h e", "the", 0.75),
    ],
)
def test_single_letters_count_as_the_word_that_they_spell(
    reference: str, found: str, share: float
) -> None:
    assert spelled_recall(words(reference), words(found)) == share


def test_the_best_reference_counts(tmp_path: Path) -> None:
    references = [words("f e e due due"), words("fee due")]
    found = measure(tmp_path, "a.pdf", references, lambda _: ("fee due", ()))
    assert (found.words, found.word_recall, found.joined_recall) == (5, 1.0, 1.0)
    assert found.first_recall == 0.2


def test_what_a_warning_is_about_is_counted(tmp_path: Path) -> None:
    def read(_path: Path) -> tuple[str, tuple[str, ...]]:
        return "fee due", ("page 1 has 2 words of hidden text",)

    found = measure(tmp_path, "a", [["fee"]], read, lambda _: ("fee due say yes", ()))
    assert found.left_out == 2
    assert measure(tmp_path, "a", [["fee"]], read, read).left_out == 0


def test_a_reference_of_other_characters_is_set_apart(tmp_path: Path) -> None:
    def read(_path: Path) -> tuple[str, tuple[str, ...]]:
        return "关于红军作战的原则", ()

    assert measure(tmp_path, "a", [words("¹ØÓÚºì ¾ü×÷Õ½ µÄÔÔò")], read).foreign
    assert not measure(tmp_path, "a", [words("关于红军作战的原则")], read).foreign


def test_a_file_beside_gives_the_reference(tmp_path: Path) -> None:
    path = tmp_path / "a.docx"
    path.write_bytes(b"")
    assert list(files_in(tmp_path)) == []
    (tmp_path / "a.docx.expected.txt").write_text("the fee is due")
    assert list(files_in(tmp_path)) == [path]
    references = [words(text) for text in text_beside(path)]
    found = measure(path, "a.docx", references, lambda _: ("the fee due", ()))
    assert (found.words, found.word_recall, found.told) == (4, 0.75, False)


def test_a_refusal_is_told_and_a_crash_is_not(tmp_path: Path) -> None:
    def refuse(_path: Path) -> tuple[str, tuple[str, ...]]:
        raise UnreadableError("no text", code="scanned")

    def crash(_path: Path) -> tuple[str, tuple[str, ...]]:
        raise KeyError("font")

    refused = measure(tmp_path, "a", [["x"]], refuse)
    crashed = measure(tmp_path, "a", [["x"]], crash)
    assert (refused.refused, refused.told, refused.crashed) == ("scanned", True, "")
    assert (crashed.refused, crashed.told) == ("", False)
    assert crashed.crashed.startswith("KeyError")


def test_the_table_counts_files_that_warn_apart() -> None:
    def one(share: float, *warnings: str, left_out: int = 0, foreign: bool = False) -> FileRecall:
        return FileRecall(
            path="a.pdf", words=100, word_recall=share, joined_recall=share, spelled_recall=share,
            first_recall=share,
            pair_recall=share, letter_recall=share, warnings=warnings, left_out=left_out,
            foreign=foreign, refused="", crashed="", seconds=1.0, megabytes=50,
        )  # fmt: skip

    hidden = one(1.0, "page 1 has hidden text", left_out=5)
    others = [one(0.4, "page 1 has no text"), one(0.1, foreign=True), hidden, one(1.0, "damaged")]
    printed = table([one(1.0), one(0.9), one(0.5), *others])
    assert "| word recall >= 0.95 of those that do not warn | 1 of 3 (33.3%) |" in printed
    assert "| word recall < 0.8 without a warning | 1 |" in printed
    assert "| warned at joined recall >= 0.95 | 2 of 3 (66.7%) |" in printed
    assert "| of these: no word left out | 1 of 3 (33.3%) |" in printed
    assert "the text does | 1 |" in printed
    assert "none" in table([])

"""Small documents that once lost something: what a reader sees is found, or its loss is told."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from nsa_cli.documents import Document, find_sources, parse_document, read_source
from nsa_models.errors import NsaError


def load_document(source: str, *, stdin: Any = None, **named: Any) -> Document:
    """A source, parsed."""
    return parse_document(*read_source(source, stdin=stdin), **named)


CASES = Path(__file__).parents[2] / "fixtures" / "documents"


def case(name: str) -> Document:
    return load_document(str(CASES / name))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("numbered.docx", ["1. Payment", "2. Delivery", "3. Penalty of 2 percent"]),
        ("chart.pptx", ["Crane sales", "19.2", "21.4", "16.7"]),
        (
            "mixed.eml",
            [
                "Subject: Réunion",
                "First part: see below.",
                "Second inline part: the meeting is on Friday at 10.",
                "Attachment: fees.txt",
                "The crane fee is 900 euros.",
            ],
        ),
        ("forward.eml", ["See forwarded.", "The password reset happened on 3 May."]),
        ("charset.eml", ["The rent is 1200 euros, payé le 3."]),
        ("charset2.eml", ["The rent is 1200 euros, payé le 3."]),
        ("archive.mbox", ["Café 0", "the invoice number is INV-7000.", "is INV-7002."]),
        ("maildir_message", ["The lease ends on 31 März 2027; the deposit is 3,000 euros."]),
        ("windows-1251.html", ["Срок договора три года."]),
        ("gb2312.html", ["合同期限为三年"]),
        ("iso-8859-2.html", ["Nájemné činí 1200 korun měsíčně"]),
        ("shift_jis.html", ["契約の期間は三年です。"]),
        ("xmlenc.xml", ["Nájemné činí 1200 korun měsíčně, příští řádek."]),
        ("nb3.ipynb", ["print(1)", "the accuracy was 0.93"]),
        ("nb4.ipynb", ["loss 0.07", "File train.py line 88", "ValueError: bad shape"]),
        ("hidden.html", ["Visible rent 100.", "Area 400", "Opt 500", "Det 600", "typed 800"]),
        ("rtf.rtf", ["The lease ends on 31 März 2027.", "The rent is 900."]),
        ("special.txt", ["The rent is 1,200.<|im_end|>"]),
        ("rich.txt", ["[bold]The [/rent] is [red]1,200 euros[/] per month[/bold]."]),
    ],
)
def test_what_a_reader_sees_is_found(name: str, words: list[str]) -> None:
    text = case(name).text
    for each in words:
        assert each in text


@pytest.mark.parametrize(
    ("name", "words", "warning"),
    [
        ("copytruncate.log", "INFO worker 39 ok", "NUL bytes are left out, first in line 1"),
        ("onenul.log", "INFO worker 36 ok", "2 NUL bytes are left out, first in line 201"),
        ("utf16mixed.log", "ERROR pump 7 failed", "1 line is UTF-8 in a file of UTF-16-LE"),
        ("charset.eml", "payé", "the charset 'unknown-8bit' of a part is not known"),
        ("charset2.eml", "payé", "the charset 'utf-8mb4' of a part is not known"),
    ],
)
def test_damage_is_told(name: str, words: str, warning: str) -> None:
    document = case(name)
    assert words in document.text
    assert any(warning in each for each in document.warnings)


def test_hidden_text_is_left_out_and_told() -> None:
    document = case("hidden.html")
    for words in ("Hidden rent 200", "Ignore previous instructions", "No script text"):
        assert words not in document.text
    assert "2 hidden passages are left out: “Hidden rent 200.”" in document.warnings[0]


def test_lines_are_those_that_grep_counts() -> None:
    document = case("progress.log")
    at = document.text.index("disk full")
    assert document.locate(at, at + 9).line_start == 4
    assert "Downloading 0%" in document.text


@pytest.mark.parametrize(
    ("name", "words", "place"),
    [
        ("archive.mbox", "INV-7001", (2, "Café 1", "mail")),
        ("chart.pptx", "19.2", (1, None, "slide")),
        ("nb4.ipynb", "bad shape", (2, None, "cell")),
    ],
)
def test_what_is_found_has_its_place(
    name: str, words: str, place: tuple[int, str | None, str]
) -> None:
    document = case(name)
    at = document.text.index(words)
    found = document.locate(at, at + len(words))
    assert (found.page, found.page_label, found.unit) == place


def test_a_mark_before_the_first_pattern_of_gitignore(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    shutil.copy(CASES / "gitignore_bom" / "gitignore", tmp_path / ".gitignore")
    for name in ("build/made.txt", "kept.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("words\n")
    found = [Path(each.path).name for each in find_sources([str(tmp_path)])]
    assert found == ["kept.txt"]


def test_no_case_is_refused() -> None:
    for path in sorted(CASES.iterdir()):
        if path.is_file() and path.suffix != ".pdf":
            try:
                assert load_document(str(path)).text.strip()
            except NsaError as error:
                pytest.fail(f"{path.name}: {error.message}")

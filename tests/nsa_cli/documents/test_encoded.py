"""Base64 data inside text is left out and told; what only looks like it stays."""

from __future__ import annotations

import base64
import json
import textwrap

import pytest

from nsa_cli.documents import parse_document
from nsa_cli.documents.encoded import MARK, without_encoded

DATA = base64.b64encode(bytes(range(256)) * 9).decode()


def test_a_picture_in_markdown() -> None:
    text = f"# Plan\n\nSee ![roof](data:image/png;base64,{DATA}) below.\n\nThe rent is 940 euros.\n"
    document = parse_document("a.md", text.encode())
    assert document.text.split("\n")[2] == f"See ![roof](data:image/png;base64,{MARK}) below."
    at = document.text.index("The rent")
    assert document.locate(at, at + 8).line_start == 5
    assert document.warnings == ("3,072 characters of base64 data are left out in line 3",)


def test_values_of_records() -> None:
    text = json.dumps({"photo": DATA, "rent": 940})
    document = parse_document("a.json", text.encode())
    assert document.text == f'{{"photo": "{MARK}", "rent": 940}}'
    assert len(document.warnings) == 1


def test_wrapped_data_keeps_the_lines_after_it() -> None:
    wrapped = textwrap.fill(DATA, 76)
    text = f"Key of Anna:\n{wrapped}\nIt ends on 3 May.\n"
    document = parse_document("a.txt", text.encode())
    assert [line for line in document.text.split("\n") if line] == [
        "Key of Anna:",
        MARK,
        "It ends on 3 May.",
    ]
    at = document.text.index("It ends")
    assert document.locate(at, at + 5).line_start == text.count("\n")


def test_several_places() -> None:
    _, warnings = without_encoded(f"a {DATA}\n\n{textwrap.fill(DATA, 64)}\nend {DATA}")
    assert warnings == (
        "9,264 characters of base64 data are left out at 3 places, first in line 1",
    )


@pytest.mark.parametrize(
    "text",
    [
        "-" * 900,
        "0123456789abcdef" * 60,
        "ACGT" * 300 + "\n",
        ("ACGTTGCA" * 9 + "\n") * 40,
        ("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\n") * 40,
        DATA[:399],
        ("A line of Prose with 12 Words that is as long as a wrapped Line of Data may be.\n") * 20,
        "https://example.org/" + "/".join(["Some", "path", "of", "a", "Page", "2024"] * 20),
    ],
)
def test_what_is_no_data_stays(text: str) -> None:
    assert without_encoded(text) == (text, ())


def test_pictures_of_a_web_page_are_no_text_and_need_no_warning() -> None:
    page = f'<p>Rent: 940</p><img src="data:image/png;base64,{DATA}">'
    warnings = parse_document("a.html", page.encode()).warnings
    assert not any("base64" in warning for warning in warnings)

"""Word wrap, shortened paths and tables, at any width."""

from __future__ import annotations

import io

from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from nsa_cli.output.layout import WordWrap, columns, shorten_path, table, wrap

TEXTS = st.text(alphabet="ab cd\n-1. 你好é\t", max_size=200)


@given(text=TEXTS, width=st.integers(1, 90), hanging=st.integers(0, 8))
def test_wrapping_changes_spaces_alone(text: str, width: int, hanging: int) -> None:
    assert "".join(wrap(text, width, hanging).split()) == "".join(text.split())
    assert wrap(text, None, hanging) == text


@given(text=TEXTS, width=st.integers(20, 90), hanging=st.integers(0, 5))
def test_no_line_is_longer_than_the_width(text: str, width: int, hanging: int) -> None:
    plain = text.replace("\t", " ")
    for line in wrap(plain, width, hanging).split("\n"):
        assert cell_len(line) <= width or len(line.split()) == 1


@given(text=TEXTS, cuts=st.lists(st.integers(0, 200)), width=st.integers(1, 60))
def test_a_text_in_pieces_is_wrapped_as_a_whole(text: str, cuts: list[int], width: int) -> None:
    words, shown, start = WordWrap(width), "", 0
    for cut in [*sorted(cuts), len(text)]:
        shown += words.feed(text[start:cut])
        start = max(start, cut)
    assert shown + words.end() == wrap(text, width)


def test_words_are_not_divided() -> None:
    assert wrap("nsa: one two three", 10, 5) == "nsa: one\n     two\n     three"
    assert wrap("a auto|cpu|cuda b", 13) == "a\nauto|cpu|cuda\nb"
    assert wrap("a unbreakable b", 5) == "a\nunbreakable\nb"


def test_lists_hang() -> None:
    text = "- one two three\n  12. four five six\nseven eight nine"
    assert wrap(text, 12).split("\n") == [
        *("- one two", "  three", "  12. four", "      five", "      six"),
        *("seven eight", "nine"),
    ]


def test_a_text_without_spaces_breaks_anywhere() -> None:
    assert wrap("你好世界和平", 6).split("\n") == ["你好世", "界和平"]


@given(path=st.text(alphabet="ab/你.", min_size=1, max_size=80), width=st.integers(4, 60))
def test_a_path_is_shortened_to_the_width(path: str, width: int) -> None:
    shown = shorten_path(path, width)
    assert cell_len(shown) <= width
    assert shown == path or "…" in shown


def test_a_path_keeps_the_name_of_its_file() -> None:
    path = "/home/ann/papers/2019/annual/report.pdf"
    assert shorten_path(path, 39) == path
    assert shorten_path(path, 24) == "/home/ann/pa…/report.pdf"
    assert shorten_path(path, 9) == "/hom….pdf"


HEAD = ("NAME", "SIZE", "WHERE")
ROWS = [("one model", "1,024 MB", "/home/ann/models/one.gguf"), ("two", "5 MB", "")]


def test_a_table_fits() -> None:
    assert table(HEAD, ROWS, None, right=(1,), paths=(2,)) == [
        "NAME           SIZE  WHERE",
        "one model  1,024 MB  /home/ann/models/one.gguf",
        "two            5 MB",
    ]
    assert table(HEAD, ROWS, 40, right=(1,), paths=(2,)) == [
        "NAME           SIZE  WHERE",
        "one model  1,024 MB  /home/ann…/one.gguf",
        "two            5 MB",
    ]
    assert table(HEAD, ROWS, 26, right=(1,), paths=(2,)) == [
        "NAME    SIZE  WHERE",
        "one    1,024  /h…/one.gguf",
        "model     MB",
        "two     5 MB",
    ]
    assert table(HEAD, ROWS, 16, right=(1,), paths=(2,))[:3] == [
        "one model",
        "  size   1,024",
        "  MB",
    ]


def test_a_name_is_not_shortened_as_a_path_is() -> None:
    rows = [("1", "qwen2.5-coder-0.5b", "/home/ann/report.pdf"), ("2", "/home/ann/m.gguf", "a")]
    shown = table(("N", "MODEL", "OF"), rows, 36, paths=(1, 2), names=(1,))
    assert shown == [
        "N  MODEL               OF",
        "1  qwen2.5-coder-0.5b  /…/report.pdf",
        "2  /home/ann/m.gguf    a",
    ]
    narrow = table(("N", "MODEL", "OF"), rows, 30, paths=(1, 2), names=(1,))
    assert narrow[:3] == ["1", "  model  qwen2.5-coder-0.5b", "  of     /home/ann/report.pdf"]


@given(
    rows=st.lists(st.tuples(*[st.text(alphabet="ab c", max_size=30)] * 3), min_size=1, max_size=4),
    width=st.integers(8, 100),
)
def test_no_table_is_wider_than_the_terminal(rows: list[tuple[str, str, str]], width: int) -> None:
    longest = max(
        len(word) for row in [HEAD, *rows] for cell in row for word in [*cell.split(), ""]
    )
    for line in table(HEAD, rows, width):
        assert len(line) <= max(width, longest + 9)


def test_no_terminal_has_no_width() -> None:
    assert columns(io.StringIO()) is None

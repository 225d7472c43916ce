"""The order of lines, rows and columns, and words that are drawn in odd ways."""

from __future__ import annotations

import math

import pytest

from nsa_cli.documents import parse_document
from nsa_cli.documents.pdf.layout import page_text
from nsa_cli.documents.pdf.runs import UPRIGHT, RunBuilder, Style
from tests.documents.raw_pdf import FIRST_MORE, codes, page_pdf, show, stream, two_byte_font


def text_of(content: str, **parts: object) -> str:
    document = parse_document("a.pdf", page_pdf(content, **parts))  # type: ignore[arg-type]
    assert document.warnings == ()
    return document.text


def rows(*cells: tuple[str, ...], places: tuple[int, ...] = (72, 300, 450)) -> list[list[str]]:
    """Operators for each cell of a table, row by row."""
    return [
        [show(cell, x, 700 - 14 * row) for cell, x in zip(line, places, strict=False)]
        for row, line in enumerate(cells)
    ]


PROSE = (
    ("The tenant keeps the", "The landlord pays for"),
    ("garden in order and", "the boiler, but not"),
    ("mows it in summer at", "for the fence that the"),
    ("least once a month.", "neighbor put up."),
)
ACCOUNTS = (
    ("Heating", "1,204.50", "12"),
    ("Water and sewage", "310.00", "4"),
    ("Lift", "98.20", "1"),
    ("Caretaker", "2,400.00", "12"),
)


def test_columns_of_prose_drawn_across_are_read_one_after_the_other() -> None:
    drawn = "".join(cell for line in rows(*PROSE) for cell in line)
    expected = "\n".join([*(left for left, _ in PROSE), *(right for _, right in PROSE)])
    assert text_of(drawn) == expected


def test_three_columns_between_full_lines() -> None:
    third = ("Notice is given in", "writing and ends the", "lease when the third", "month is over.")
    table = rows(*((*line, cell) for line, cell in zip(PROSE, third, strict=True)),
                 places=(40, 230, 420))  # fmt: skip
    title = show("A title that runs across all of the columns of the whole page", 40, 730)
    end = show("A closing line that runs across all of the columns of the page", 40, 620)
    lines = text_of(title + "".join(map("".join, table)) + end).split("\n")
    assert lines[1:5] == [left for left, _ in PROSE]
    assert lines[5:9] == [right for _, right in PROSE]
    assert lines[9:13] == list(third)
    assert lines[0].startswith("A title")
    assert lines[13].startswith("A closing")


@pytest.mark.parametrize("order", ["left to right", "right to left", "column by column"])
def test_rows_of_a_table_stay_rows(order: str) -> None:
    table = rows(*ACCOUNTS)
    if order == "right to left":
        table = [line[::-1] for line in table]
    elif order == "column by column":
        table = [list(column) for column in zip(*table, strict=True)]
    drawn = "".join(map("".join, table))
    assert text_of(drawn) == "\n".join(" ".join(line) for line in ACCOUNTS)


def test_rows_of_short_texts_are_no_columns() -> None:
    table = (
        ("Name of the tenant", "Jane Roe"),
        ("Name of the owner", "Richard Miles"),
        ("Place of the signature", "Leeds"),
        ("Date of the signature", "3 May"),
    )
    drawn = "".join(map("".join, rows(*table)))
    assert text_of(drawn) == "\n".join(" ".join(line) for line in table)


def test_columns_drawn_one_after_the_other_are_left_so() -> None:
    columns = zip(*rows(*PROSE), strict=True)
    expected = "\n".join([*(left for left, _ in PROSE), *(right for _, right in PROSE)])
    assert text_of("".join(map("".join, columns))) == expected


@pytest.mark.parametrize(
    ("matrix", "upright"),
    [("0 1 -1 0 100 100", False), ("0 -1 1 0 100 500", False), ("-1 0 0 -1 400 500", False)],
)
def test_turned_captions_are_lines_of_their_own(matrix: str, upright: bool) -> None:
    assert not upright
    caption = f"BT /F1 10 Tf {matrix} Tm (Figure 3: loads in kN) Tj ET\n"
    text = text_of(caption + show("Page text.", 200, 700))
    assert text == "Figure 3: loads in kN\nPage text."


def test_a_slanted_stamp_is_one_line() -> None:
    stamp = "BT /F1 40 Tf 0.866 0.5 -0.5 0.866 100 200 Tm (DRAFT COPY) Tj ET\n"
    assert text_of(stamp + show("Page text.", 72, 700)) == "DRAFT COPY\nPage text."


def test_bold_by_repeated_draws_is_read_once() -> None:
    shadow = "".join(show("Total 4,120.50", 72 + dx, 700 - dy) for dx, dy in
                     ((0, 0), (0.3, 0), (0.6, 0.3), (1, 0.5)))  # fmt: skip
    assert text_of(shadow + show("Paid.", 72, 680)) == "Total 4,120.50\nPaid."


def test_bold_by_repeated_glyphs_is_read_once() -> None:
    widths = {"T": 0.611, "e": 0.556, "s": 0.5, "t": 0.278, "o": 0.556}
    drawn, x = "", 72.0
    for char in "Testtoo":
        drawn += "".join(show(char, x + step, 700) for step in (0, 0.2, 0.4))
        x += 12 * widths[char]
    assert text_of(drawn) == "Testtoo"


def test_the_same_words_on_two_places_are_read_twice() -> None:
    drawn = show("Total 100", 72, 700) + show("Total 100", 72, 680) + show("Total 100", 300, 680)
    assert text_of(drawn) == "Total 100\nTotal 100 Total 100"


def test_double_letters_stay_double() -> None:
    drawn = "".join(show(char, 72 + 3 * at, 700, size=10) for at, char in enumerate("illl"))
    assert text_of(drawn) == "illl"


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("BT /F1 12 Tf 4 Tc 72 700 Td (The bond is 18,000 euros) Tj ET",
         "The bond is 18,000 euros"),
        ("BT /F1 12 Tf 72 700 Td [(T) -300 (h) -300 (e) -850 (b) -300 (o) -300 (n) -300 (d)] TJ ET",
         "The bond"),
        ("BT /F1 12 Tf 6 Tc 72 700 Td (CONTRACTS) Tj ET", "CONTRACTS"),
        # A list of letters, a formula and a caption by letters are no words.
        ("BT /F1 12 Tf 72 700 Td (A B C D E F G H) Tj ET", "A B C D E F G H"),
        ("BT /F1 12 Tf 72 700 Td [(A) -400 (B) -400 (C) -400 (D) -400 (E) -400 (F)] TJ ET",
         "A B C D E F"),
    ],
)  # fmt: skip
def test_letters_apart_become_words(content: str, text: str) -> None:
    assert text_of(content) == text


def test_exponents_and_marks_of_footnotes_stay_on_their_line() -> None:
    drawn = show("an area of 12 m", 72, 700) + show("2", 156.5, 705, size=7)
    drawn += show("and more.", 164, 700)
    assert text_of(drawn).startswith("an area of 12 m2")
    assert "\n" not in text_of(drawn)


@pytest.mark.parametrize("degrees", [20, 95])
def test_numbers_along_a_slanted_line_keep_their_spaces(degrees: int) -> None:
    """As bearings on a map, of which each digit is a text object."""
    drawn, along = "", 0.0
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    matrix = f"{cosine:.4f} {sine:.4f} {-sine:.4f} {cosine:.4f}"
    for char in "246 55 50":
        if char != " ":
            x, y = 300 + cosine * along, 300 + sine * along
            drawn += f"BT /F1 10 Tf {matrix} {x:.2f} {y:.2f} Tm ({char}) Tj ET\n"
        along += 5.56 if char != " " else 2.5
    assert text_of(drawn) == "246 55 50"


def test_words_that_are_set_wide_are_words_on_their_line() -> None:
    drawn = "BT /F1 12 Tf 9 Tc 72 700 Td (Last note on costs) Tj ET\n"
    assert text_of(drawn.replace(" on", "")) == "Last note costs"


@pytest.mark.parametrize("cells", [("a b c", "d e f"), ("A B C", "B A C"), ("1 2 3", "4 5 6")])
def test_cells_that_hold_letters_are_no_words(cells: tuple[str, str]) -> None:
    drawn = "".join(
        f"BT /F1 12 Tf 72 700 Td {x} 0 Td [{' '.join(f'({each}) -700' for each in cell.split())}]"
        " TJ ET\n"
        for x, cell in zip((0, 120), cells, strict=True)
    )
    assert text_of(drawn) == " ".join(cells)


def test_a_mark_that_is_drawn_after_the_next_letter_belongs_to_its_own() -> None:
    builder = RunBuilder()
    for char, left, right in (("จ", 0, 8), ("น", 8, 16), ("\u0e4d", 3, 8), ("า", 16, 22)):
        builder.object(Style(12.0, UPRIGHT))
        builder.glyph(ord(char), left, right, 700.0, True)
        builder.white(0x0A, own=False)
    assert page_text(builder.finish()) == "จ\u0e4dนา"


JAPANESE = "契約期間は三年です"


@pytest.mark.parametrize("gap", [12, 13])
def test_japanese_drawn_glyph_by_glyph_is_one_line(gap: int) -> None:
    drawn = "".join(
        f"BT /F2 24 Tf {72 + gap * at} 700 Td {codes(char, JAPANESE)} Tj ET\n"
        for at, char in enumerate(JAPANESE)
    )
    parts = {"resources": f"/F2 {FIRST_MORE} 0 R", "more": two_byte_font(JAPANESE)}
    assert text_of(drawn, **parts) == JAPANESE


def test_japanese_from_top_to_bottom_is_one_line() -> None:
    font = two_byte_font(JAPANESE)
    font[0] = font[0].replace(b"Identity-H", b"Identity-V")
    drawn = f"BT /F2 12 Tf 300 700 Td {codes(JAPANESE, JAPANESE)} Tj ET"
    text = text_of(drawn, resources=f"/F2 {FIRST_MORE} 0 R", more=font)
    assert text == JAPANESE


HEBREW = "שלוםעב ג2026"


@pytest.mark.parametrize("order", ["as read", "as drawn"])
def test_hebrew_is_read_from_right_to_left(order: str) -> None:
    font = two_byte_font(HEBREW)
    if order == "as drawn":  # One object, its glyphs from left to right.
        drawn = f"BT /F2 12 Tf 72 700 Td {codes('בע םולש', HEBREW)} Tj ET"
    else:  # One object a glyph, from right to left.
        drawn = "".join(
            f"BT /F2 12 Tf {300 - 6 * at} 700 Td {codes(char, HEBREW)} Tj ET\n"
            for at, char in enumerate("שלום עב")
        )
    text = text_of(drawn, resources=f"/F2 {FIRST_MORE} 0 R", more=font)
    assert text == "שלום עב"


@pytest.mark.parametrize("order", ["as read", "as drawn"])
def test_a_ligature_of_arabic_is_spelled_as_it_is_read(order: str) -> None:
    """PDFium turns the letters of one glyph round with those of the line."""
    word = "كالاي"
    builder = RunBuilder()
    builder.object(Style(10.0, UPRIGHT))
    places = [(30, 36), (24, 30), (18, 24), (18, 24), (12, 18)]
    spelled = "كاالي" if order == "as read" else word
    drawn = list(zip(spelled, places, strict=True))
    for char, (left, right) in drawn if order == "as read" else drawn[::-1]:
        builder.glyph(ord(char), left, right, 700.0, True)
    assert page_text(builder.finish()) == word


@pytest.mark.parametrize(
    ("replacements", "read_as"),
    [
        (("", ""), "هي"),
        # PDFium reads the glyph of an empty text: the second letter would be there twice.
        (("هي", ""), "هي"),
        # A letter that is drawn alike is taken from the replacement text.
        (("", "ی"), "هی"),
        (("م", "ق"), "مق"),
    ],
)
def test_replacement_texts_of_arabic(replacements: tuple[str, str], read_as: str) -> None:
    to_unicode = (
        "begincmap 1 begincodespacerange <00> <ff> endcodespacerange"
        " 2 beginbfchar <61> <0647> <62> <064a> endbfchar endcmap"
    )
    font = (
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding"
        f" /ToUnicode {FIRST_MORE + 1} 0 R >>"
    )
    drawn = "BT /F2 12 Tf 200 700 Td\n"
    for char, step, text in zip("ab", (0, -6.6), replacements, strict=True):
        code = ("feff" + text.encode("utf-16-be").hex()) if text else ""
        drawn += f"/Span << /ActualText <{code}> >> BDC\n{step} 0 Td ({char}) Tj\nEMC\n"
    parts = {"resources": f"/F2 {FIRST_MORE} 0 R", "more": [font, stream(to_unicode)]}
    assert text_of(drawn + "ET\n", **parts) == read_as


def glyphs(letters: str, lefts: list[float], widths: list[float]) -> str:
    """The text of glyphs, each in a separate text object."""
    builder = RunBuilder()
    right: float | None = None
    for char, left, width in zip(letters, lefts, widths, strict=True):
        builder.object(Style(10.0, UPRIGHT))
        if right is not None and left - right > 3:  # PDFium finds a space.
            builder.white(0x20, own=False)
        right = left + width
        builder.glyph(ord(char), left, right, 700.0, True)
    return page_text(builder.finish())


def test_the_last_letter_of_a_word_that_is_set_wide_stays_in_it() -> None:
    """The text layers of some scans draw the last letter of each word by itself."""
    builder = RunBuilder()
    for word, start in (("lette", 0.0), ("r", 30.0), ("fro", 45.0), ("m", 63.0)):
        builder.object(Style(10.0, UPRIGHT))
        if start:
            builder.white(0x20, own=False)
        for at, char in enumerate(word):
            builder.glyph(ord(char), start + 6 * at, start + 6 * at + 5, 700.0, True)
    assert page_text(builder.finish()) == "letter from"


def test_letters_of_equal_width_before_a_space_do_not_swallow_it() -> None:
    """A narrow letter and a space may be as wide as a letter."""
    builder = RunBuilder()
    builder.object(Style(10.0, UPRIGHT))
    left = 0.0
    for char, width in zip("what", (7.2, 5.6, 5.6, 2.8), strict=True):
        builder.glyph(ord(char), left, left + width, 700.0, True)
        left += width
    builder.white(0x20, own=False)
    builder.glyph(ord("k"), left + 2.8, left + 7.8, 700.0, True)
    assert page_text(builder.finish()) == "what k"


def test_letters_that_begin_at_equal_distances_are_a_word() -> None:
    assert glyphs("cation", [0, 7, 14, 21, 28, 35], [6, 6.7, 6.5, 2.7, 6.7, 6.7]) == "cation"


def test_a_word_from_right_to_left_of_single_letters_stays_whole() -> None:
    letters, left, lefts = "سلام عليكم", 100.0, []
    for char in letters:
        left -= 6 if char != " " else 3
        lefts.append(left)
    builder = RunBuilder()
    for char, at in zip(letters, lefts, strict=True):
        builder.object(Style(10.0, UPRIGHT))
        if char == " ":
            builder.white(0x20, own=True)
        else:
            builder.glyph(ord(char), at, at + 6, 700.0, True)
    assert page_text(builder.finish()) == letters


@pytest.mark.parametrize(
    ("drawn", "read_as"),
    [
        ([("n", 0, 5), ("a", 5, 10), ("¨", 10.2, 13.8), ("ı", 10.5, 13), ("v", 13, 18)], "naïv"),
        ([("e", 0, 5), ("´", 1, 4), ("t", 5, 8)], "ét"),
        ([("C", 0, 7), ("¸", 2, 5), ("a", 7, 12)], "Ça"),
        ([("x", 0, 5), ("`", 6, 8), ("y", 9, 14)], "x`y"),
    ],
)
def test_accents_over_letters(drawn: list[tuple[str, float, float]], read_as: str) -> None:
    builder = RunBuilder()
    builder.object(Style(10.0, UPRIGHT))
    for char, left, right in drawn:
        builder.glyph(ord(char), left, right, 700.0, True)
    assert page_text(builder.finish()) == read_as


def test_glyphs_whose_extents_overlap_are_words() -> None:
    """As those of a font whose glyphs are narrower than it says."""
    builder = RunBuilder()
    left = 0.0
    for word in ("le", "moteur", "est"):
        for char in word:
            builder.object(Style(10.0, UPRIGHT))
            builder.glyph(ord(char), left, left + 9, 700.0, True)
            left += 6
        builder.white(0x20, own=False)
        left += 3
    assert page_text(builder.finish()) == "le moteur est"


def test_a_gap_is_a_space_where_pdfium_begins_a_line() -> None:
    builder = RunBuilder()
    left = 0.0
    for char in "a clause":
        if char != " ":
            builder.object(Style(10.0, UPRIGHT))
            builder.glyph(ord(char), left, left + 5, 700.0, True)
            builder.white(0x0A, own=False)
        left += 5 if char != " " else 2.4
    assert page_text(builder.finish()) == "a clause"


def test_a_space_between_glyphs_that_begin_at_equal_distances() -> None:
    # The glyphs are half an em wide by the file, which draws them less far apart.
    letters = "abcdeghilnorstu"
    font = two_byte_font(letters)
    drawn = "".join(
        f"BT /F2 12 Tf {72 + 3.5 * at} 700 Td {codes(char, letters)} Tj ET\n"
        for at, char in enumerate("coastal roads and the island")
        if char in letters
    )
    text = text_of(drawn, resources=f"/F2 {FIRST_MORE} 0 R", more=font)
    assert text == "coastal roads and the island"


def test_high_lines_of_a_font_are_no_larger_glyphs() -> None:
    # The lines of fonts of mathematics may be many times as high as their glyphs.
    letters = "abcdeghilnorstu"
    font, descendant, mapped = two_byte_font(letters)
    descendant = descendant.replace(b"/Ascent 800 /Descent -200", b"/Ascent 5000 /Descent -2400")
    descendant = descendant.replace(b"[0 -200 500 800]", b"[0 -2400 500 5000]")
    cells = "".join(
        f"BT /F2 12 Tf {x} 776 Td {codes(word, letters)} Tj ET\n"
        for x, word in ((72, "the"), (130, "island"))
    )
    text = text_of(cells, resources=f"/F2 {FIRST_MORE} 0 R", more=[font, descendant, mapped])
    assert text == "the island"


@pytest.mark.parametrize(
    ("drawn", "read_as"),
    [
        # TeX draws accents before their letters, PDFium gives them after the word or the line.
        ([("Baudis and", 0, 0), (None, 0, 0), ("ˇ", 26, 0.5), ("x", 60, 0)], "Baudiš and x"),
        ([("Sediv", 0, 0), (None, 0, 0), ("ˇ", 1, 2.6), (None, 0, 0), ("y", 25, 0)], "Šedivy"),
        ([("Kuttler,", 0, 0), ("Yih", 55, 0), ("¨", 6, 0)], "Küttler, Yih"),
        ([("Kuttler", 0, 0), ("¨", 6, 9)], "Kuttler\n¨"),  # Not over the letter.
        ([("Kqttler", 0, 0), ("¨", 6, 0)], "Kqttler\n¨"),  # No letter of a language.
    ],
)
def test_accents_that_come_after_their_word(
    drawn: list[tuple[str | None, float, float]], read_as: str
) -> None:
    builder = RunBuilder()
    for text, left, raised in drawn:
        if text is None:
            builder.white(0x20, own=False)
            continue
        builder.object(Style(10.0, UPRIGHT))
        for at, char in enumerate(text):
            if char == " ":
                builder.white(0x20, own=True)
            else:
                builder.glyph(ord(char), left + 5 * at, left + 5 * at + 4.9, 700 + raised, True)
    assert page_text(builder.finish()) == read_as


def test_a_space_under_a_ligature_is_none() -> None:
    """InDesign draws the space after a ligature under it."""
    builder = RunBuilder()
    builder.object(Style(10.0, UPRIGHT))
    for char, left, right in (("d", 0, 5), ("é", 5, 10), ("f", 10, 15), ("i", 10, 15)):
        builder.glyph(ord(char), left, right, 700.0, True)
    builder.white(0x20, own=True)
    for at, char in enumerate("nir"):
        builder.glyph(ord(char), 15.1 + 5 * at, 20.1 + 5 * at, 700.0, True)
    builder.white(0x20, own=True)
    builder.glyph(ord("x"), 32.5, 37.5, 700.0, True)
    assert page_text(builder.finish()) == "définir x"


def test_the_number_of_a_footnote_is_apart_and_that_after_a_word_is_not() -> None:
    note = show("4", 72, 703.8, size=6) + show("Exceptions include the first.", 75.5, 700, size=9)
    low = show("5", 72, 682.5, size=6) + show("However, others do.", 75.5, 680, size=9)
    mark = show("The end", 72, 660, size=9) + show("6", 105.5, 663.8, size=6)
    assert text_of(note + low + mark) == (
        "4 Exceptions include the first.\n5 However, others do.\nThe end6"
    )


@pytest.mark.parametrize("text", ["12 of them are left.", '"All of them" is meant.'])
@pytest.mark.parametrize("rise", [2.5, 3.8])
def test_the_number_of_a_footnote_is_apart_from_figures_and_quotes(text: str, rise: float) -> None:
    note = show("4", 72, 700 + rise, size=6) + show(text, 75.5, 700, size=9)
    assert text_of(note) == f"4 {text}"


def test_bullets_are_no_column() -> None:
    items = (
        ("The tenant keeps the garden in", "order and mows it in summer, and", "waters it in May."),
        (
            "The landlord pays for the boiler,",
            "its repairs and its fuel, but not",
            "for the fence.",
        ),
        ("Notice is given in writing, and", "ends the lease at the end of the", "month after it."),
    )
    drawn = ""
    for at, lines in enumerate(items):
        drawn += show("-", 90, 700 - 42 * at)
        for row, (line, left) in enumerate(zip(lines, (108, 108, 107.98), strict=True)):
            drawn += show(line, left, 700 - 42 * at - 14 * row)
    expected = "\n".join("- " + "\n".join(lines) for lines in items)
    assert text_of(drawn) == expected


@pytest.mark.parametrize(
    ("objects", "read_as"),
    [
        ([("v.", 0), ("T", 13), ("aylor", 16.5)], "v. Taylor"),
        ([("1", 0), ("⁄", 5), ("4", 7.6)], "1⁄4"),
        ([("37.96", 0), ("DISTRICT", 22.5)], "37.96 DISTRICT"),  # Cells over one another.
        ([("T", 0), ("aylor", 2)], "T aylor"),  # More than an edge.
    ],
)
def test_a_kerned_letter_that_is_drawn_by_itself(
    objects: list[tuple[str, float]], read_as: str
) -> None:
    builder = RunBuilder()
    for text, left in objects:
        builder.object(Style(10.0, UPRIGHT))
        for at, char in enumerate(text):
            width = 6 if char == "T" else 5
            builder.glyph(ord(char), left + 5 * at, left + 5 * at + width, 700.0, True)
    assert page_text(builder.finish()) == read_as


def test_the_raised_letter_of_latex() -> None:
    drawn = (
        "BT /F1 10 Tf 72 700 Td (any L) Tj /F1 7 Tf 20.6 2.1 Td (A) Tj"
        " /F1 10 Tf 3.2 -2.1 Td (T) Tj 4.4 -2.2 Td (E) Tj 5.4 2.2 Td (X) Tj 9 0 Td (file) Tj ET"
    )
    assert text_of(drawn) == "any LATEX file"


@pytest.mark.parametrize("rise", [3, 6])
@pytest.mark.parametrize("apart", [True, False])
def test_a_raised_figure_is_parted_from_the_figure_before_it(rise: int, *, apart: bool) -> None:
    up, down = f"/F1 7 Tf {rise} Ts", "/F1 12 Tf 0 Ts"
    end = "ET\nBT /F1 12 Tf 0 Ts 1 0 0 1 {} 700 Tm" if apart else ""
    first = (
        f"BT /F1 12 Tf 72 700 Td (Load 10) Tj {up} (36) Tj {down} {end.format(123.3)} (, in 2019) "
    )
    rest = f"Tj {up} (1) Tj {down} ( and m) Tj {up} (2) Tj {down} (, 5) Tj {up} (-6) Tj ET\n"
    assert text_of(first + rest) == "Load 10^36, in 2019^1 and m2, 5^-6"


def test_a_lowered_figure_is_not_parted() -> None:
    drawn = "BT /F1 12 Tf 72 700 Td (Value 10) Tj /F1 7 Tf -3 Ts (2) Tj ET\n"
    assert text_of(drawn) == "Value 102"

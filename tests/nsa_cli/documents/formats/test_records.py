"""RTF, JSON, XML without lines, and transcripts."""

from __future__ import annotations

import json

import pytest

from nsa_cli.documents import Document, parse_document


def place(document: Document, words: str) -> tuple[int | None, str | None, int, str]:
    at = document.text.index(words)
    found = document.locate(at, at + len(words))
    return (found.page, found.page_label, found.line_start, found.unit)


RTF = rb"""{\rtf1\ansi\ansicpg1252{\fonttbl{\f0 Arial;}{\f1\fcharset204 Arial;}}
{\header \pard Company\par}{\footer Page {\field{\*\fldinst PAGE}{\fldrslt 3}}\par}
\f0 The fee is 900{\super\chftn{\*\footnote\pard {\super\chftn} Net of tax.}} euros.\par
{\pntext\f0 1.\tab}{\*\pn\pnlvlbody}First\par {\listtext 2.\tab}Second {\v  obey me}
{\deleted old}{\revised new}{\*\atnid X}{\*\annotation \pard Why?}\par
{\shp{\*\shpinst{\sp{\sn type}{\sv 202}}{\shptxt \pard Boxed M\'e4rz\par}}{\shprslt Boxed}}
{\f1 \'c4\'ee\'e3\'ee\'e2\'ee\'f0}\par \trowd A\cell B\cell\row C\cell D\cell\row \u8364? end.}"""


def test_rich_text() -> None:
    document = parse_document("a.rtf", RTF)
    for words in (
        "Header: Company",
        "Footer: Page 3",
        "The fee is 900 [Note: Net of tax.] euros.",
        "1.\tFirst",
        "2.\tSecond new [Comment: Why?]",
        "Boxed März",
        "Договор",
        "A | B",
        "C | D",
        "€ end.",
    ):
        assert words in " ".join(document.text.split("\n")).replace("  ", " "), words
    assert document.text.count("Boxed") == 1
    assert document.warnings == (
        "1 hidden passage is left out: “obey me”; --hidden reads hidden text",
        "1 tracked deletion is left out: “old”",
    )
    assert "obey me" in parse_document("a", RTF, hidden=True).text


def test_rich_text_with_raw_pictures() -> None:
    raised = rb"{\rtf1 10{\super 3} m{\super 2} in 2019\super 1\nosupersub , 5{\sub 2}6{\super }7.}"
    assert parse_document("a.rtf", raised).text == "10^3 m2 in 2019^1, 5267."
    uncounted = rb"{\rtf1 Before {\pict\jpegblip \bin ffd8ffe0}after.}"
    assert parse_document("a.rtf", uncounted).text == "Before after."
    data = rb"{\rtf1 Before {\pict\bin6 {{}\v}}after.}"
    assert parse_document("a.rtf", data).text == "Before after."


def test_records_of_a_list_keep_their_lines() -> None:
    text = (
        '[\n  {"id": 1, "name": "Caf\\u00e9"},\n  {"id": 2,\n   "name": "B\\\\u00e9\\u0022"}\n]\n'
    )
    document = parse_document("a.json", text.encode())
    assert place(document, "Café") == (1, None, 2, "record")
    assert place(document, '"name": "B\\\\u00e9\\u0022"') == (2, None, 4, "record")


def test_a_file_of_one_line_is_taken_apart() -> None:
    items = [
        {"id": number, "inner": {"price": number * 10, "tags": ["é", 1]}} for number in range(99)
    ]
    document = parse_document("a.json", json.dumps({"version": 3, "items": items}).encode())
    assert max(map(len, document.text.split("\n"))) < 100
    assert document.text.startswith("version: 3")
    assert place(document, "inner.price: 420") == (43, None, 2, "record")
    assert 'inner.tags: ["é", 1]' in document.text


def test_json_lines() -> None:
    rows = [{"a": "é"}, {"b": "x" * 3000, "c": [{"d": 1}]}, {"e": 3}]
    text = "\n".join(json.dumps(row) for row in rows) + "\nnot json\n"
    document = parse_document("a.jsonl", text.encode())
    assert '{"a": "é"}' in document.text
    assert [place(document, words)[2] for words in ("c[1].d: 1", '{"e": 3}', "not json")] == [
        2,
        3,
        4,
    ]


@pytest.mark.parametrize(
    "text", ["{broken", '{"a": [1, 2]}\n', "[1, 2, 3]\n", "[" * 200_000, '"' + "x" * 3000]
)
def test_json_without_records_is_text(text: str) -> None:
    assert parse_document("a.json", text.encode()).text.strip() == text.strip()


def test_xml_of_one_line_is_taken_apart() -> None:
    records = "".join(
        f'<rec id="{n}"><name>N{n}</name><p>some <b>bold</b> text</p></rec>' for n in range(60)
    )
    document = parse_document("a.xml", f'<?xml version="1.0"?><all>{records}</all>'.encode())
    assert place(document, "rec/name: N41") == (42, None, 2, "record")
    assert "rec/p: some bold text" in document.text
    single = f'<?xml version="1.0"?><all><a>{"x " * 1500}</a><b c="d"/></all>'
    assert "all/b c: d" in parse_document("a.xml", single.encode()).text


def test_xml_with_lines_or_damage_is_text() -> None:
    for text in ("<?xml version='1.0'?>\n<a>\n<b>1</b>\n</a>\n", "<?xml v?><a>" + "x" * 3000):
        assert parse_document("a.xml", text.encode()).text == text


VTT = """WEBVTT - harbour

STYLE
::cue { color: red }

NOTE for editors

intro
00:00:01.000 --> 00:00:04.000 align:start
<v Roger>The crane fee is

00:00:04.500 --> 00:00:06.000
<v Roger>900 euros &amp; no more.

3
01:02:03.000 --> 01:02:06.000
<v.loud Mary>Good <b>bye</b>!
- Bye.
"""
SRT = """1
00:00:01,000 --> 00:00:04,000
The crane fee is

2
00:00:04,500 --> 00:00:06,000
{\\an8}<i>900 euros</i> & no more.

3
01:02:03,000 --> 01:02:06,000
Good bye!
2027
"""


@pytest.mark.parametrize("name", ["a.vtt", "stdin"])
def test_a_transcript_is_cited_by_time(name: str) -> None:
    document = parse_document(name, VTT.encode())
    assert (
        document.text == "Roger: The crane fee is\n900 euros & no more.\n\nMary: Good bye!\n- Bye."
    )
    assert place(document, "900 euros") == (1, "00:00:01", 11, "cue")
    assert place(document, "Good") == (3, "01:02:03", 17, "cue")
    assert document.warnings == ("1 note is left out: “for editors”",)


def test_subtitles_are_cited_by_time() -> None:
    document = parse_document("a.srt", SRT.replace("\n", "\r\n").encode())
    assert document.text == "The crane fee is\n900 euros & no more.\n\nGood bye!\n2027"
    assert place(document, "Good bye!") == (3, "01:02:03", 11, "cue")


def test_a_transcript_without_times_is_text() -> None:
    assert parse_document("a.srt", b"no times here\n").text == "no times here\n"

"""Logs: read however damaged, lines as `grep -n` counts them, kinds of lines within each log."""

from __future__ import annotations

import codecs
import os
from pathlib import Path

import pytest

from nsa_cli.documents import Document, find_sources, parse_document, parse_sources, read_sources
from nsa_cli.documents.build import join_documents
from nsa_cli.documents.errors import UnreadableError
from nsa_cli.documents.folding import Sifted
from nsa_models.errors import NsaError

LINES = "".join(f"2026-11-03 09:{n:02}:07 INFO worker {n} ok\n" for n in range(60))


def line_of(document: Document, words: str) -> int:
    at = document.text.index(words)
    return document.locate(at, at + len(words)).line_start


@pytest.mark.parametrize(
    ("data", "warning"),
    [
        (LINES.encode() + b"disk \0full\n", "1 NUL byte is left out, first in line 61"),
        (
            b"\0" * 100 + LINES.encode() + b"disk full\n",
            "100 NUL bytes are left out, first in line 1",
        ),
        (LINES.encode() + "disk full\n".encode("utf-16-le"), "10 NUL bytes are left out"),
        (codecs.BOM_UTF16_LE + (LINES + "disk full\n").encode("utf-16-le") + b"x", "in places"),
        (codecs.BOM_UTF8 + (LINES + "Größe Maß\n").encode() + b"disk full\xff\n", "1 place is not"),
        (LINES.encode("utf-16") + b"disk full and more words\n", "1 line is UTF-8 in a file of"),
        (
            codecs.BOM_UTF16_BE + LINES.encode("utf-16-be") + b"disk full and more words\n" * 3,
            "3 lines are UTF-8 in a file of UTF-16-BE",
        ),
    ],
)
def test_damaged_logs_are_read_with_a_warning(data: bytes, warning: str) -> None:
    document = parse_document("a.log", data)
    assert line_of(document, "worker 59 ok") == 60
    assert "disk full" in document.text
    assert warning in document.warnings[0]


def test_utf16_of_another_script_is_no_mixture() -> None:
    text = "契約期間は三年です。家賃は月額十二万円。\n" * 200
    document = parse_document("a.txt", text.encode("utf-16"))
    assert (document.text, document.warnings) == (text, ())


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("start\r\n10%\r20%\r30%\r\ndisk full\r\n", 3),
        ("start\n10%\r20%\r\r\ndisk full\n", 3),
        ("start\rmiddle\rdisk full\r", 3),
        ("start\n\x0b\x0c\x85\u2028disk full\n", 2),
    ],
)
def test_lines_as_grep_counts_them(text: str, line: int) -> None:
    assert line_of(parse_document("a.log", text.encode()), "disk full") == line


@pytest.mark.parametrize(
    "data",
    [
        bytes(range(256)) * 8,
        b"\x7fELF" + b"\0" * 60 + LINES.encode(),
        b"ab\0" * 50,
        b"\0\0\0\1\n" * 40,
    ],
)
def test_binary_files_stay_binary(data: bytes) -> None:
    with pytest.raises(UnreadableError) as caught:
        parse_document("a.log", data)
    assert caught.value.code == "binary"


@pytest.mark.parametrize("encoding", ["cp1251", "shift_jis", "gb18030"])
def test_a_charset_that_is_guessed_is_told(encoding: str) -> None:
    words = {
        "cp1251": "Срок договора три года, арендная плата вносится до пятого числа. ",
        "shift_jis": "契約の期間は三年です。家賃は毎月五日までに支払うものとする。",
        "gb18030": "合同期限为三年，租金应于每月五日前支付，双方应遵守本合同。",
    }[encoding]
    text = words * 6
    document = parse_document("a.txt", text.encode(encoding))
    assert document.text == text
    assert "the charset was guessed as" in document.warnings[0]


def sifted(files: dict[str, str]) -> Sifted:
    documents = [parse_document(name, text.encode()) for name, text in files.items()]
    return Sifted(join_documents(documents, "all"))


README = "# Harbour\n\nThe pier was built in 1911.\n"
TABLE = "id,name,sum\n" + "".join(f"{n},contract {n},{n}0\n" for n in range(60))
TIMES = LINES.replace("INFO ", "")


@pytest.mark.parametrize(
    ("files", "repeats"),
    [
        ({"a.log": LINES}, True),
        ({"stdin": LINES}, True),
        ({"a.log": LINES, "a.log.1": TIMES}, True),
        ({"messages": LINES, "secure": TIMES}, True),
        ({"a.log": LINES, "README.md": README}, False),
        ({"a.log": LINES, "contracts.csv": TABLE}, False),
        ({"contracts.csv": TABLE}, False),
        ({"contracts.tsv": TABLE.replace(",", "\t")}, False),
        ({"a.jsonl": '{"id": 1, "sum": 20}\n' * 60}, False),
        ({"a.jsonl": '{"at": "2026-11-03T09:00:00", "n": 1}\n' * 60}, False),
        ({"a.jsonl": '{"at": "2026-11-03T09:00:00", "level": "info", "n": 1}\n' * 60}, True),
        ({"contracts.txt": TABLE.replace(",", ",2026-11-03 09:00:00,")}, False),
        ({"stdin": TABLE.replace(",", ";2026-11-03 09:00:00;")}, False),
        ({"dump.sql": "INSERT INTO a VALUES (7, '2026-11-03 09:00:00');\n" * 60}, False),
        ({"stdin": "The rent is 900 euros.\n" * 60}, False),
        ({"catalog.md": LINES}, False),
        ({"dmesg": "".join(f"[    {n}.123456] usb 1-1: reset\n" for n in range(60))}, True),
        ({"syslog.1": LINES}, True),
        ({"access_log": "GET /a 200\n" * 60}, True),
        ({"prose.txt": "\n".join(f"line {chr(97 + n) * 3}" for n in range(20))}, False),
    ],
)
def test_lines_are_left_out_of_logs_alone(files: dict[str, str], repeats: bool) -> None:
    assert sifted(files).repeats is repeats


def test_kinds_are_found_in_each_file() -> None:
    both = sifted({"a.log": LINES, "b.log": LINES})
    assert both.kinds == 2
    found = both.within(400)
    assert found is not None
    firsts = {piece.source: piece.first_line for piece in reversed(found.document.pieces)}
    assert firsts == {"a.log": 1, "b.log": 1}


def read(folder: Path) -> tuple[Document, list[str]]:
    notes: list[str] = []
    sources = read_sources([str(folder)], on_note=notes.append)
    return parse_sources(sources, "all", on_note=notes.append), notes


def test_a_folder_tells_what_it_leaves_out(tmp_path: Path) -> None:
    files = {
        "a.txt": b"words\n",
        "b.log": b"\0\0\0" + LINES.encode(),
        "c.txt": "utf-16 words\n".encode("utf-16"),
        "image.png": b"\x89PNG\r\n\x1a\n\0\0",
        "data.bin": b"\0\1\2\3" * 40,
        "empty.txt": b"",
        "blank.txt": b" \n\n",
        "broken.docx": b"PK\3\4 nothing",
        "broken.pdf": b"no pdf",
        "rent.xml": b"<?xml version='1.0'?><a>1</a>",
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "link.txt").symlink_to(tmp_path / "a.txt")
    document, notes = read(tmp_path)
    read_files = {os.path.basename(piece.source) for piece in document.pieces}  # noqa: PTH119
    assert read_files == {"a.txt", "b.log", "c.txt", "rent.xml"}
    told = "\n".join(notes)
    for name in set(files) - read_files:
        assert str(tmp_path / name) in told
    assert f"2 empty files left out: {tmp_path / 'blank.txt'}, {tmp_path / 'empty.txt'}" in notes
    assert f"1 link left out: {tmp_path / 'link.txt'}" in notes


def test_a_folder_that_cannot_be_listed_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shut").mkdir()
    (tmp_path / "a.txt").write_text("words\n")
    real = os.scandir

    def forbid(path: str) -> object:  # root may list everything
        if str(path).endswith("shut"):
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr("os.scandir", forbid)
    notes: list[str] = []
    assert len(find_sources([str(tmp_path)], on_note=notes.append)) == 1
    assert notes == [f"1 folder that cannot be listed left out: {tmp_path / 'shut'}"]


def test_a_folder_of_empty_files_alone_says_so(tmp_path: Path) -> None:
    (tmp_path / "a.txt").touch()
    (tmp_path / "b.txt").touch()
    with pytest.raises(NsaError, match=r"b.txt is empty"):
        read(tmp_path)

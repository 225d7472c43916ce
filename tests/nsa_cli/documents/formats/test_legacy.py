"""Legacy Office files and Outlook messages, in a container that is written here."""

from __future__ import annotations

import io
import struct
from itertools import pairwise
from pathlib import Path

import docx
import pptx
import pytest

from nsa_cli.documents import parse_document
from nsa_cli.documents.errors import UnreadableError

_FREE, _END, _FAT = 0xFFFFFFFF, 0xFFFFFFFE, 0xFFFFFFFD
_SECTOR = 512


def compound(streams: dict[str, bytes]) -> bytes:
    """A compound file; each stream is padded to a size that needs no small sectors.

    Args:
        streams: Contents by path, folders parted by slashes.
    """
    folders = sorted(
        {
            "/".join(path.split("/")[:depth])
            for path in streams
            for depth in range(1, path.count("/") + 1)
        }
    )
    entries: list[tuple[str, int, list[int], int, int]] = []
    sectors: list[bytes] = []
    chains: list[int] = []

    def store(content: bytes) -> int:
        first = len(sectors)
        count = max(1, -(-len(content) // _SECTOR))
        for number in range(count):
            sectors.append(content[number * _SECTOR :][:_SECTOR].ljust(_SECTOR, b"\0"))
            chains.append(first + number + 1 if number + 1 < count else _END)
        return first

    def stream(path: str) -> tuple[str, int, list[int], int, int]:
        content = streams[path].ljust(4096, b"\0")
        return (path.rpartition("/")[2], 2, [], store(content), len(content))

    entries.append(("Root Entry", 5, [], _END, 0))
    numbers = {"": 0}
    for folder in folders:
        parent, _, name = folder.rpartition("/")
        numbers[folder] = len(entries)
        entries[numbers[parent]][2].append(len(entries))
        entries.append((name, 1, [], 0, 0))
    for path in streams:
        entries[numbers[path.rpartition("/")[0]]][2].append(len(entries))
        entries.append(stream(path))
    right = [_FREE] * len(entries)
    for _, _, inside, _, _ in entries:
        for one, other in pairwise(inside):
            right[one] = other
    directory = b""
    for number, (name, kind, inside, start, size) in enumerate(entries):
        raw = name.encode("utf-16-le") + b"\0\0"
        directory += raw.ljust(64, b"\0") + struct.pack("<HBB", len(raw), kind, 1)
        child = inside[0] if inside else _FREE
        directory += struct.pack("<III16xI16xIQ", _FREE, right[number], child, 0, start, size)
    empty = b"\0" * 64 + struct.pack("<HBBIII", 0, 0, 0, _FREE, _FREE, _FREE) + b"\0" * 48
    directory += empty * (-len(entries) % 4)
    directory_start = store(directory)
    count = 1 + (len(sectors) + 1) // 128
    fat_start = len(sectors)
    chains += [_FAT] * count + [_FREE] * (128 * count - len(chains) - count)
    fat = struct.pack(f"<{len(chains)}I", *chains)
    return _header(count, directory_start, fat_start) + b"".join(sectors) + fat


def _header(count: int, directory_start: int, fat_start: int) -> bytes:
    header = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 16
    header += struct.pack(
        "<HHHHH6xIIIIIIIII",
        *(0x3E, 3, 0xFFFE, 9, 6),
        *(0, count, directory_start, 0, 4096, _END, 0, _END, 0),
    )
    return header + struct.pack(
        "<109I", *range(fat_start, fat_start + count), *[_FREE] * (109 - count)
    )


def record(kind: int, content: bytes) -> bytes:
    return struct.pack("<HH", kind, len(content)) + content


def workbook(
    rows: list[list[str | float]],
    *,
    hidden: bool = False,
    stream: str = "Workbook",
    before: bytes = b"",
    beside: bytes = b"",
    style: int = 0,
) -> bytes:
    """An Excel 97 workbook of one sheet.

    Args:
        rows: Of the sheet.
        hidden: Whether the sheet is.
        stream: Name of the stream of the container.
        before: Records of the workbook before its list of sheets.
        beside: Records of the sheet after its cells.
        style: Number of the style of figures.
    """
    sheet = record(0x809, struct.pack("<HHHHII", 0x600, 0x10, 0, 0, 0, 0))
    for y, row in enumerate(rows):
        for x, value in enumerate(row):
            if isinstance(value, str):
                text = struct.pack("<HB", len(value), 1) + value.encode("utf-16-le")
                sheet += record(0x204, struct.pack("<HHH", y, x, 0) + text)
            else:
                sheet += record(0x203, struct.pack("<HHHd", y, x, style, value))
    sheet += beside + record(0x0A, b"")
    start = record(0x809, struct.pack("<HHHHII", 0x600, 5, 0, 0, 0, 0)) + before
    bound = struct.pack("<BBBB", int(hidden), 0, 5, 0) + b"Costs"
    position = len(start) + 4 + 4 + len(bound) + 4
    book = start + record(0x85, struct.pack("<I", position) + bound) + record(0x0A, b"")
    return compound({stream: book + sheet})


def properties(head: int, values: list[tuple[int, int, int]]) -> bytes:
    """The properties of an Outlook message or attachment: numbers, kinds, values."""
    rows = [struct.pack("<HHIQ", kind, key, 6, value) for key, kind, value in values]
    return b"\0" * head + b"".join(rows)


def message_streams(subject: str, body: str, head: int = 32) -> dict[str, bytes]:
    texts = {0x37: subject, 0x1000: body, 0x0C1A: "Anna", 0x1A: "IPM.Note"}
    streams = {
        f"__substg1.0_{key:04X}001F": text.encode("utf-16-le") for key, text in texts.items()
    }
    streams["__properties_version1.0"] = properties(
        head, [(key, 0x1F, 2 * len(text) + 2) for key, text in texts.items()]
    )
    return streams


def message(**attachments: bytes) -> bytes:
    """An Outlook message with a subject, a body and attachments."""
    streams = message_streams("Fees of the crane", "See the file.")
    for number, (name, content) in enumerate(attachments.items()):
        folder = f"__attach_version1.0_#{number:08X}"
        file = name.replace("_", ".")
        streams[f"{folder}/__substg1.0_3707001F"] = file.encode("utf-16-le")
        streams[f"{folder}/__substg1.0_37010102"] = content
        streams[f"{folder}/__properties_version1.0"] = properties(
            8, [(0x3707, 0x1F, 2 * len(file) + 2), (0x3701, 0x102, len(content))]
        )
    return compound(streams)


def test_an_old_workbook() -> None:
    data = workbook([["Item", "Year", "Cost"], ["Pier", 1911.0, 4.5], ["Überfahrt", 1912.0, 9.0]])
    document = parse_document("a.xls", data)
    assert document.text.split("\n") == [
        "Item | Year | Cost",
        "Item: Pier | Year: 1911 | Cost: 4.5",
        "Item: Überfahrt | Year: 1912 | Cost: 9",
    ]
    found = document.locate(document.text.index("Pier"), len(document.text))
    assert (found.page, found.page_label, found.unit) == (1, "Costs", "sheet")


def box(number: int, kind: int, row: int, *texts: str) -> bytes:
    """A text box or the text of a comment of an old workbook, its text in several records."""
    anchor = struct.pack("<HHI9H", 0, 0xF010, 18, 0, 1, 0, row, 0, 3, 0, row + 2, 0)
    common = struct.pack("<HHHHH12x", 0x15, 18, kind, number, 0)
    whole = sum(map(len, texts))
    records = record(0xEC, anchor) + record(0x5D, common + struct.pack("<HH", 0, 0))
    records += record(0x1B6, struct.pack("<HH6xHHH", 0, 0, whole, 0, 0))
    return records + b"".join(record(0x3C, b"\1" + each.encode("utf-16-le")) for each in texts)


def test_text_boxes_and_comments_of_an_old_workbook() -> None:
    note = struct.pack("<HHHH", 1, 1, 0, 7) + struct.pack("<HB", 4, 0) + b"Anna" + b"\0"
    beside = box(6, 6, 4, "Rates rise\nfrom ", "May.") + box(7, 0x19, 0, "Net.")
    data = workbook([["Item", "Price"], ["Crane", 21.4]], beside=beside + record(0x1C, note))
    document = parse_document("a.xls", data)
    assert document.text.splitlines() == [
        "Item | Price",
        "Crane | 21.4",
        "",
        "Comment at B2 by Anna: Net.",
        "",
        "Rates rise",
        "",
        "from May.",
    ]
    found = document.locate(document.text.index("Rates"), document.text.index("rise"))
    assert (found.page, found.line_start) == (1, 5)
    assert document.warnings == ()


def test_percentages_of_an_old_workbook() -> None:
    percent = record(0x41E, struct.pack("<HHB", 164, 4, 0) + b"0.0%")
    style = record(0xE0, struct.pack("<HHH14x", 0, 164, 0))
    data = workbook([["Item", "Share"], ["Crane", 0.125]], before=percent + style)
    assert "Crane | 12.5%" in parse_document("a.xls", data).text


def test_a_cell_of_an_old_workbook_that_spans_rows_belongs_to_each() -> None:
    rows: list[list[str | float]] = [["Region", "Year"], ["North", 12], ["", 14], ["South", 8]]
    merged = record(0xE5, struct.pack("<HHHHH", 1, 1, 2, 0, 0))
    text = parse_document("a.xls", workbook(rows, beside=merged)).text
    assert text.splitlines()[1:] == ["North | 12", "North | 14", "South | 8"]


@pytest.mark.parametrize("stream", ["WORKBOOK", "BOOK", "workbook"])
def test_a_workbook_whose_stream_is_in_another_case(stream: str) -> None:
    data = workbook([["Item", "Price"], ["Crane", 21.4]], stream=stream)
    assert "Crane | 21.4" in parse_document("a.xls", data).text


def test_a_damaged_comment_does_not_hide_the_values() -> None:
    note = struct.pack("<HHHH", 1, 1, 0, 7) + struct.pack("<HB", 4, 0) + b"Anna" + b"rest"
    data = workbook([["Item", "Price"], ["Crane", 21.4]], beside=record(0x1C, note))
    document = parse_document("a.xls", data)
    assert "Crane | 21.4" in document.text
    assert "its values are read alone" in document.warnings[0]


def test_a_worksheet_of_excel_4() -> None:
    label = struct.pack("<HHHH", 0, 0, 0, 6) + b"Lemons"
    sheet = record(0x409, struct.pack("<HHH", 0, 0x10, 0)) + record(0x204, label)
    sheet += record(0x203, struct.pack("<HHHd", 1, 0, 0, 376.2)) + record(0x0A, b"")
    assert parse_document("a.xls", sheet).text == "Lemons\n376.2"


def test_a_hidden_sheet_of_an_old_workbook() -> None:
    data = workbook([["obey me"]], hidden=True)
    with pytest.raises(UnreadableError, match="hidden sheet is left out: “Costs: obey me”"):
        parse_document("a.xls", data)
    assert parse_document("a.xls", data, hidden=True).text == "obey me"


def test_an_outlook_message_with_attachments() -> None:
    padded = b"The crane fee is 900 euros.".ljust(4096)
    document = parse_document(
        "a.msg", message(fees_txt=padded, plan_pdf=b"%PDF-1.7 cut".ljust(4096))
    )
    assert "From: Anna" in document.text
    assert "Subject: Fees of the crane" in document.text
    assert "See the file." in document.text
    at = document.text.index("The crane fee")
    assert document.locate(at, at + 5).source == "a.msg/fees.txt"
    assert "Attachment: plan.pdf" in document.text
    assert any("attachment plan.pdf is not read" in warning for warning in document.warnings)


def test_an_outlook_message_that_forwards_another() -> None:
    streams = message_streams("Fees", "See the mail below.")
    folder = "__attach_version1.0_#00000000"
    streams[f"{folder}/__properties_version1.0"] = properties(8, [(0x3701, 0x0D, 4)])
    for name, content in message_streams("Crane", "It costs 900 euros.", head=24).items():
        streams[f"{folder}/__substg1.0_3701000D/{name}"] = content
    document = parse_document("a.msg", compound(streams))
    assert [line.rstrip("\0") for line in document.text.splitlines()] == [
        "From: Anna",
        "Subject: Fees",
        "",
        "See the mail below.",
        "",
        "Forwarded mail:",
        "From: Anna",
        "Subject: Crane",
        "",
        "It costs 900 euros.",
    ]
    assert document.warnings == ()


def test_an_outlook_message_in_the_charset_of_its_body() -> None:
    texts = {0x37: "格式", 0x1000: "中文測試", 0x1A: "IPM.Note"}
    streams = {f"__substg1.0_{key:04X}001E": text.encode("big5") for key, text in texts.items()}
    kinds = [(key, 0x1E, 2 * len(text) + 1) for key, text in texts.items()]
    streams["__properties_version1.0"] = properties(32, [(0x3FDE, 3, 950), *kinds])
    text = parse_document("a.msg", compound(streams)).text
    assert "Subject: 格式" in text
    assert "中文測試" in text


@pytest.mark.parametrize(
    ("suffix", "stream"), [("doc", "WordDocument"), ("ppt", "PowerPoint Document")]
)
def test_what_needs_libreoffice(
    suffix: str, stream: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = compound({stream: b"legacy"})
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UnreadableError, match="needs LibreOffice") as caught:
        parse_document(f"a.{suffix}", data)
    assert caught.value.code == "missing_library"
    assert f"save it as .{suffix}x" in caught.value.hint
    file = io.BytesIO()
    if suffix == "doc":
        written = docx.Document()
        written.add_paragraph("The pier cost 4,200 crowns.")
        written.save(file)
    else:
        show = pptx.Presentation()
        slide = show.slides.add_slide(show.slide_layouts[5])
        slide.shapes.title.text = "The pier cost 4,200 crowns."
        show.save(file)
    (tmp_path / "converted").write_bytes(file.getvalue())
    program = tmp_path / "soffice"
    program.write_text(
        f'#!/bin/sh\nfor last; do :; done\n/bin/cp "{tmp_path}/converted" "$last"x\n'
    )
    program.chmod(0o755)
    assert parse_document(f"a.{suffix}", data).text == "The pier cost 4,200 crowns."
    program.write_text("#!/bin/sh\nexit 1\n")
    with pytest.raises(UnreadableError, match="LibreOffice cannot convert"):
        parse_document(f"a.{suffix}", data)


@pytest.mark.parametrize("name", ["a.xlsx", "a.docx", "secret"])
def test_a_file_that_a_password_opens_says_so(name: str) -> None:
    data = compound({"EncryptedPackage": b"x", "EncryptionInfo": b"y"})
    with pytest.raises(UnreadableError, match="is protected by a password") as caught:
        parse_document(name, data)
    assert caught.value.code == "encrypted"


def test_another_compound_file_is_refused() -> None:
    with pytest.raises(UnreadableError, match="of an unknown kind") as caught:
        parse_document("a.bin", compound({"Something": b"x"}))
    assert caught.value.code == "binary"

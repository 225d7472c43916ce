from __future__ import annotations

import gzip
import io
import zipfile

import pytest

from nsa_cli.documents.signatures import identify


def zipped(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, "application/epub+zip" if name == "mimetype" else "x")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "looks_like"),
    [
        (gzip.compress(b"hello", mtime=0), "gzip"),
        (zipped("a.txt"), "ZIP"),
        (zipped(), "ZIP"),
        (zipped("[Content_Types].xml", "word/document.xml"), "Word"),
        (zipped("xl/workbook.xml"), "Excel"),
        (zipped("mimetype", "content.opf"), "EPUB"),
        (b"\x89PNG\r\n\x1a\n" + bytes(20), "PNG"),
        (b"\xff\xd8\xff\xe0" + bytes(20), "JPEG"),
        (b"RIFF\x00\x00\x00\x00WEBPVP8 ", "WebP"),
        (bytes(257) + b"ustar\x0000", "tar"),
        (b"\x7fELF\x02", "Linux program"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(8), "Office"),
    ],
)
def test_formats_are_told_by_their_bytes(data: bytes, looks_like: str) -> None:
    signature = identify(data)
    assert signature is not None
    assert looks_like in signature.looks_like


@pytest.mark.parametrize("data", [b"", b"hello", b"%PDF-1.7\n", b"P", "größe".encode()])
def test_unknown_bytes_have_no_signature(data: bytes) -> None:
    assert identify(data) is None


def test_the_hint_quotes_the_path() -> None:
    signature = identify(gzip.compress(b""))
    assert signature is not None
    assert signature.hint_for("my log.gz") == "unpack it first, e.g. `gunzip -k 'my log.gz'`"


def test_the_hint_for_a_url_has_no_command() -> None:
    signature = identify(gzip.compress(b""))
    assert signature is not None
    assert signature.hint_for("https://a.org/log.gz") == "save it, then unpack it"
    program = identify(b"\x7fELF\x02")
    assert program is not None
    assert program.hint_for("https://a.org/x") == program.hint_for("x")

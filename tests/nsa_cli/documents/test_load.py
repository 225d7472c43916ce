from __future__ import annotations

import io
import os
import subprocess
import sys
import unicodedata
import zipfile
from pathlib import Path
from typing import Any

import pytest

from nsa_cli.documents import Document, parse_document, read_source
from nsa_cli.documents.errors import UnreadableError


def load_document(source: str, *, stdin: Any = None, **named: Any) -> Document:
    """A source, parsed."""
    return parse_document(*read_source(source, stdin=stdin), **named)


FHS = Path(__file__).parents[3] / "examples" / "fhs-3.0.pdf"


def refusal(source: str) -> UnreadableError:
    with pytest.raises(UnreadableError) as caught:
        load_document(source)
    assert source in caught.value.message
    assert caught.value.hint
    return caught.value


def test_a_text_file_is_named_as_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "notes.md").write_text("# Notes\n")
    monkeypatch.chdir(tmp_path)
    document = load_document("./notes.md")
    assert (document.name, document.pieces[0].source) == ("./notes.md", "./notes.md")
    assert document.text == "# Notes\n"


def test_standard_input_may_be_a_text() -> None:
    document = load_document("-", stdin=io.BytesIO(b"piped\n"))
    assert (document.name, document.text) == ("stdin", "piped\n")


def test_standard_input_may_be_a_pdf() -> None:
    told: list[tuple[int, int]] = []
    with FHS.open("rb") as stdin:
        document = load_document(
            "-", stdin=stdin, on_page=lambda done, total: told.append((done, total))
        )
    assert (document.name, document.pieces[7].page_label) == ("stdin", "1")
    assert told[-1] == (50, 50)


def test_the_standard_input_of_the_process_is_the_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"hello")))
    assert load_document("-").text == "hello"


def test_a_pdf_is_told_by_its_first_bytes(tmp_path: Path) -> None:
    path = tmp_path / "download"
    path.write_bytes(FHS.read_bytes())
    assert len(load_document(str(path)).pieces) == 50


def test_a_pdf_may_begin_late(tmp_path: Path) -> None:
    path = tmp_path / "a.PDF"
    path.write_bytes(b"X-Header: 1\r\n" + b"%PDF-1.4 cut short")
    assert "damaged PDF" in refusal(str(path)).message


@pytest.mark.parametrize(
    ("data", "looks_like"),
    [
        (b"<!DOCTYPE html><title>Log in</title>", "a web page"),
        (b"just text", "plain text"),
        (b"\x89PNG\r\n\x1a\n\0", "a PNG image"),
        (b"\0\1\2", "data of an unknown kind"),
    ],
)
def test_a_false_pdf_is_named(data: bytes, looks_like: str, tmp_path: Path) -> None:
    path = tmp_path / "a.pdf"
    path.write_bytes(data)
    error = refusal(str(path))
    assert error.code == "broken"
    assert error.message.endswith(f"is not a PDF; it looks like {looks_like}")


def test_an_empty_file_is_empty_whatever_its_name(tmp_path: Path) -> None:
    for name in ("a.pdf", "a.txt"):
        (tmp_path / name).touch()
        assert refusal(str(tmp_path / name)).code == "empty"


def test_an_office_file_is_named_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "report.odt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("mimetype", "application/vnd.oasis.opendocument.text")
    error = refusal(str(path))
    assert error.code == "binary"
    assert "an OpenDocument file" in error.message
    assert f"libreoffice --convert-to pdf {path}" in error.hint


def test_a_missing_file_is_missing(tmp_path: Path) -> None:
    error = refusal(str(tmp_path / "no.txt"))
    assert (error.code, error.exit_code) == ("missing", 3)
    assert error.hint == "check the path"
    assert refusal(str(tmp_path / "no" / "no.txt")).code == "missing"


def test_the_file_that_was_meant_is_named(tmp_path: Path) -> None:
    (tmp_path / "report.pdf").touch()
    error = refusal(str(tmp_path / "reprot.pdf"))
    assert error.hint == f"did you mean {tmp_path / 'report.pdf'}?"


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "a.txt").touch()
    assert refusal(str(tmp_path / "a.txt" / "b.txt")).code == "missing"


def test_a_folder_is_not_a_file(tmp_path: Path) -> None:
    error = refusal(str(tmp_path))
    assert error.code == "not_a_file"
    assert "name a file" in error.hint
    assert refusal("").code == "not_a_file"


def test_a_device_is_not_a_file() -> None:
    assert refusal(os.devnull).code == "not_a_file"


def test_a_name_that_cannot_be_is_told() -> None:
    with pytest.raises(UnreadableError, match="cannot be read"):
        load_document("a\0b")
    assert "too long" in refusal("x" * 5000).message


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.txt"
    path.write_text("secret")

    def forbid(*_: object) -> bytes:  # root may read everything, so chmod proves nothing
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", forbid)
    assert refusal(str(path)).code == "permission"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_read(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = subprocess.Popen(["/bin/sh", "-c", f"echo through > {path}"])
    try:
        assert load_document(str(path)).text == "through\n"
    finally:
        assert writer.wait(10) == 0


def test_reading_needs_no_tensors_and_text_needs_no_pypdf(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("hello")
    program = (
        "import sys; from nsa_cli.documents import parse_document, read_source;"
        f"parse_document(*read_source({str(path)!r})); assert 'pypdf' not in sys.modules;"
        f"parse_document(*read_source({str(FHS)!r}));"
        "print(sorted({'torch', 'transformers', 'numpy', 'pypdf'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert (done.stdout.strip(), done.stderr) == ("['pypdf']", "")


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.txt", b"one \x1b[31mred\x1b[0m \x1b]0;title\x07two\x07\x08 three \x1bc"),
        ("a.html", b"<p>one red two &#27;]0;title&#7; three &#155;31m</p>"),
        ("a.jsonl", b'{"a": "one red two", "b": "\\u001b]0;title\\u0007 three"}\n'),
        ("a.csv", b"a,b\none red two,\x1b[2J three\n"),
    ],
)
def test_a_terminal_obeys_no_character_of_a_document(name: str, data: bytes) -> None:
    text = parse_document(name, data).text
    assert "one red" in text
    assert "two" in text
    assert "three" in text
    assert not [char for char in text if unicodedata.category(char) == "Cc" and char not in "\t\n"]


@pytest.mark.parametrize(("name", "data"), [("a.rtf", b"{\\rtf\x00"), ("a.html", b"<p>&#7;</p>")])
def test_nothing_but_control_characters_is_no_text(name: str, data: bytes) -> None:
    with pytest.raises(UnreadableError, match=r"nothing but|no text") as caught:
        parse_document(name, data)
    assert caught.value.code == "empty"


def test_a_link_to_nothing_names_what_it_leads_to(tmp_path: Path) -> None:
    link = tmp_path / "lease.txt"
    link.symlink_to("gone.txt")
    with pytest.raises(UnreadableError) as caught:
        read_source(str(link))
    assert caught.value.code == "missing"
    assert caught.value.hint == "it is a link to gone.txt, which is missing"

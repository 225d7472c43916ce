"""Files of the served folder, pages as pictures, and quotes on them."""

from __future__ import annotations

import os
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pypdf
import pytest
from starlette.testclient import TestClient

from nsa_cli.documents.urls.access import WebAccess
from nsa_cli.serve import listing as listing_module
from nsa_cli.serve.documents import DocumentStore, RefusedError
from nsa_cli.serve.listing import listing
from nsa_cli.serve.uploads import Uploads

FHS = Path(__file__).parents[3] / "examples" / "fhs-3.0.pdf"
QUOTE = "The operating system kernel must be located in either / or /boot."


@pytest.fixture
def library(root: Path) -> Iterator[DocumentStore]:
    """The served folder with more files in it."""
    for name in ("Sub/Größe.txt", ".hidden.txt", "empty.txt", "a.bin", ".git/config"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(bytes(256) if name == "a.bin" else b"One line.")
    (root / "empty.txt").write_bytes(b"")
    (root / "link.txt").symlink_to(root / "0.txt")
    uploads = Uploads()
    yield DocumentStore(root, uploads)
    uploads.close()


@pytest.fixture
def pdf(root: Path) -> str:
    """A PDF of two pages; the second has no text."""
    writer = pypdf.PdfWriter()
    writer.add_page(pypdf.PdfReader(FHS).pages[13])
    writer.add_blank_page(300, 600)
    writer.write(root / "boot.pdf")
    return "boot.pdf"


def names(library: DocumentStore, query: str = "") -> list[str]:
    return [each["id"] for each in listing(library, query)["data"]]


def test_files_that_can_be_asked_about_are_listed(library: DocumentStore, root: Path) -> None:
    assert names(library) == ["0.txt", "1.txt", "Sub/Größe.txt"]
    found = listing(library, "")
    assert found["data"][0]["bytes"] == (root / "0.txt").stat().st_size
    assert (found["root"], found["has_more"], found["fetches_urls"]) == (True, False, False)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("grö", ["Sub/Größe.txt"]),
        ("gro\u0308", ["Sub/Größe.txt"]),
        ("TXT sub", ["Sub/Größe.txt"]),
        ("0 txt", ["0.txt"]),
        ("hidden", []),
        ("git", []),
    ],
)
def test_files_are_found_by_words_of_their_path(
    library: DocumentStore, query: str, expected: list[str]
) -> None:
    assert names(library, query) == expected


def test_a_long_list_says_that_there_are_more(
    library: DocumentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing_module, "MOST_FILES", 2)
    found = listing(library, "")
    assert [each["id"] for each in found["data"]] == ["0.txt", "1.txt"]
    assert found["has_more"]
    assert not listing(library, "sub")["has_more"]


def test_a_name_that_is_not_utf_8_is_left_out(library: DocumentStore, root: Path) -> None:
    try:
        Path(os.fsdecode(os.fsencode(root) + b"/\xff.txt")).write_text("One line.")
    except OSError:
        pytest.skip("this file system has names in UTF-8 only")
    assert names(library) == ["0.txt", "1.txt", "Sub/Größe.txt"]


def test_a_folder_that_is_gone_is_told(library: DocumentStore, root: Path) -> None:
    shutil.rmtree(root)
    with pytest.raises(RefusedError, match="cannot be listed") as caught:
        listing(library, "")
    assert str(root) not in caught.value.message


def test_without_a_folder_nothing_is_listed() -> None:
    uploads = Uploads()
    found = listing(DocumentStore(None, uploads, web=WebAccess()), "")
    assert (found["data"], found["root"], found["fetches_urls"]) == ([], False, True)
    uploads.close()


def test_the_route_lists_files(client: TestClient) -> None:
    found = client.get("/v1/documents", params={"query": "1"}).json()
    assert [each["id"] for each in found["data"]] == ["1.txt"]


def test_a_quote_is_located_on_its_page(client: TestClient, pdf: str) -> None:
    query = {"document": pdf, "source": pdf, "page": "1", "line": "1", "quote": QUOTE}
    found = client.get("/v1/documents/excerpt", params=query).json()
    assert QUOTE in found["text"]
    assert (found["page"], found["pages"]) == (1, 2)
    assert (found["picture"]["width"], found["picture"]["height"]) == (612, 792)
    [mark] = found["picture"]["marks"]
    assert set(mark) == {"left", "top", "width", "height"}
    other = client.get("/v1/documents/excerpt", params={**query, "quote": "No such words."}).json()
    assert other["picture"]["marks"] == []


def test_a_page_without_text_has_a_picture(client: TestClient, pdf: str) -> None:
    query = {"document": pdf, "page": "2"}
    found = client.get("/v1/documents/excerpt", params=query).json()
    assert (found["page"], found["text"], found["picture"]["marks"]) == (2, "", [])
    assert client.get("/v1/documents/excerpt", params={**query, "page": "3"}).status_code == 404


def test_a_page_is_a_picture(client: TestClient, pdf: str) -> None:
    response = client.get("/v1/documents/page", params={"document": pdf, "width": "200"})
    assert response.headers["content-type"] == "image/png"
    assert response.headers["cache-control"] == "no-store"
    assert struct.unpack(">II", response.content[16:24]) == (200, 259)
    small = client.get("/v1/documents/page", params={"document": pdf, "width": "1"})
    assert struct.unpack(">I", small.content[16:20]) == (100,)


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ({}, 400),
        ({"document": "boot.pdf", "page": "x"}, 400),
        ({"document": "boot.pdf", "page": "3"}, 404),
        ({"document": "boot.pdf", "source": "0.txt"}, 404),
        ({"document": "0.txt"}, 404),
        ({"document": "none.pdf"}, 404),
        ({"document": "../outside.pdf"}, 403),
        ({"document": "/etc/passwd"}, 403),
        ({"document": ".hidden.pdf"}, 403),
        ({"document": "http://127.0.0.1/a.pdf"}, 403),
    ],
)
@pytest.mark.usefixtures("pdf")
def test_pictures_are_refused_as_other_documents_are(
    client: TestClient, query: dict[str, str], status: int
) -> None:
    assert client.get("/v1/documents/page", params=query).status_code == status


def test_a_text_has_no_picture(client: TestClient) -> None:
    found = client.get("/v1/documents/excerpt", params={"document": "0.txt"}).json()
    assert found["picture"] is None


def test_a_file_inside_another_is_shown(client: TestClient, root: Path) -> None:
    writer = pypdf.PdfWriter()
    writer.add_page(pypdf.PdfReader(FHS).pages[13])
    writer.add_attachment("inner.txt", b"The attached line.\n")
    writer.write(root / "outer.pdf")
    query: dict[str, Any] = {"document": "outer.pdf", "source": "outer.pdf/inner.txt"}
    found = client.get("/v1/documents/excerpt", params=query).json()
    assert found["text"].strip() == "The attached line."
    assert found["picture"] is None

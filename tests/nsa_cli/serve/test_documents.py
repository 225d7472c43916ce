"""Names become sources within one folder, and nothing outside it is read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nsa_cli.documents.errors import UnreadableError
from nsa_cli.documents.urls.access import Limits, WebAccess
from nsa_cli.serve.documents import DocumentStore, ParsedDocuments, RefusedError
from nsa_cli.serve.uploads import NoUploadError, Uploads, is_upload
from nsa_models.errors import NsaError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with files and with links to the outside, beside another file."""
    folder = tmp_path / "served"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.txt").write_text("One line.\n")
    (folder / "sub" / "b.txt").write_text("Another line.\n")
    (folder / "[c].txt").write_text("A third line.\n")
    (folder / ".secret").write_text("hidden\n")
    (folder / ".git").mkdir()
    (folder / ".git" / "config").write_text("hidden\n")
    (folder / "empty.txt").write_text("")
    (tmp_path / "outside.txt").write_text("outside\n")
    (tmp_path / "served-too").mkdir()
    (tmp_path / "served-too" / "d.txt").write_text("outside\n")
    (folder / "out").symlink_to(tmp_path / "outside.txt")
    (folder / "up").symlink_to(tmp_path)
    (folder / "in").symlink_to(folder / "a.txt")
    (folder / "to-hidden").symlink_to(folder / ".secret")
    (folder / "loop").symlink_to(folder / "loop")
    os.mkfifo(folder / "pipe")
    return folder


@pytest.fixture
def library(root: Path) -> Iterator[DocumentStore]:
    """The document store of that folder."""
    uploads = Uploads(most_bytes=100)
    yield DocumentStore(root, uploads)
    uploads.close()


@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("a.txt", ["a.txt"]),
        ("./a.txt", ["a.txt"]),
        ("sub/b.txt", ["sub/b.txt"]),
        ("sub", ["sub/b.txt"]),
        ("[c].txt", ["[c].txt"]),
        ("in", ["a.txt"]),
    ],
)
def test_allowed_names(library: DocumentStore, name: str, named: list[str]) -> None:
    found = library.sources([name])
    assert [source.name for source in found] == named
    assert b"line" in found[0].data


@pytest.mark.parametrize(
    "name",
    [
        *("../outside.txt", "sub/../../outside.txt", "sub/../a.txt", "..", "/etc/passwd", "~"),
        *("~root/x", "up/outside.txt", "up", "out", "to-hidden", ".secret", ".git/config"),
        *("sub/../.secret", "missing.txt", "a.txt/x", "loop", "pipe", "a\0.txt", "*.txt", "."),
        *("../served-too/d.txt", "up/served-too/d.txt", "x" * 5000),
    ],
)
def test_refused_names(library: DocumentStore, root: Path, name: str) -> None:
    with pytest.raises(RefusedError) as caught:
        library.sources([name])
    told = caught.value.message + caught.value.hint
    assert str(root.parent) not in told
    assert caught.value.code in ("document_refused", "document_not_found")


def test_the_root_itself_by_an_absolute_path(library: DocumentStore, root: Path) -> None:
    with pytest.raises(RefusedError):
        library.sources([str(root / "a.txt")])


def test_messages_do_not_reveal_the_root(library: DocumentStore, root: Path) -> None:
    (root / "hollow").mkdir()
    for name in ("hollow", "empty.txt"):
        with pytest.raises(UnreadableError) as caught:
            library.document(library.sources([name]), name)
        assert str(root.parent) not in caught.value.message + caught.value.hint


def test_only_uploads_without_a_root() -> None:
    uploads = Uploads()
    library = DocumentStore(None, uploads)
    with pytest.raises(RefusedError):
        library.sources(["a.txt"])
    sent = uploads.add("a.txt", b"A line.\n", "user_data")
    assert library.sources([sent.id])[0].data == b"A line.\n"
    uploads.close()
    with pytest.raises(NoUploadError):
        library.sources([sent.id])


def test_uploads(library: DocumentStore) -> None:
    uploads = library.uploads
    first = uploads.add("../../etc/a b.txt", b"x" * 40, "user_data")
    assert (first.filename, first.bytes) == ("a b.txt", 40)
    assert is_upload(first.id)
    assert uploads.add("C:\\docs\\a b.txt", b"x" * 40, "assistants").id == first.id
    other = uploads.add("b.txt", b"x" * 40, "user_data")
    assert other.id != first.id
    uploads.get(first.id)
    last = uploads.add("", b"y" * 40, "user_data")
    assert last.filename == "document"
    assert [upload.id for upload in uploads.all()] == [last.id, first.id]  # at most 100 bytes
    uploads.remove(last.id)
    for gone in (other.id, last.id):
        with pytest.raises(NoUploadError):
            uploads.read(gone)
    assert len(uploads.add("é" * 300 + ".pdf", b"z", "user_data").filename) == 120


@pytest.mark.parametrize("name", ["file-../../../etc/passwd", "file-12", "file-" + "G" * 24])
def test_unknown_uploads(library: DocumentStore, name: str) -> None:
    assert not is_upload(name)
    with pytest.raises(NsaError):
        library.sources([name])


def test_parsed_documents_are_cached(
    library: DocumentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = library.sources(["a.txt"])
    document = library.document(sources, "a.txt")
    assert library.document(sources, "a.txt") is document
    monkeypatch.setattr("nsa_cli.serve.documents._MOST_CHARACTERS", 10)
    opened = ParsedDocuments()
    opened.put(b"1", document)
    opened.put(b"2", document)
    assert opened.get(b"1") is None
    assert opened.get(b"2") is document


def test_urls_are_fetched_only_if_told(root: Path, site: Any) -> None:
    url = site.put("/a.html", b"<p>The pier was built in 1911.</p>", Content_Type="text/html")
    uploads = Uploads()
    with pytest.raises(RefusedError, match="this server fetches no URLs"):
        DocumentStore(root, uploads).sources([url])
    with pytest.raises(UnreadableError, match="is not on the public internet"):
        DocumentStore(root, uploads, web=WebAccess(store=False)).sources([url])
    assert not site.requests
    web = WebAccess(store=False, allow_private=True, limits=Limits(bytes=1000))
    library = DocumentStore(root, uploads, web=web)
    [source] = library.sources([url])
    assert (source.name, source.suffix) == (url, ".html")
    assert "1911" in library.document([source], url).text
    large = site.put("/b.txt", b"x" * 2000, Content_Type="text/plain")
    with pytest.raises(NsaError, match=r"b\.txt"):
        library.sources([large])
    uploads.close()


def test_a_url_that_was_seen_is_not_fetched_again(root: Path, site: Any) -> None:
    url = site.put("/a.txt", b"The pier was built in 1911.", Content_Type="text/plain")
    uploads = Uploads()
    web = WebAccess(store=False, allow_private=True)
    library = DocumentStore(root, uploads, web=web)
    library.sources([url], seen=True)
    site.put("/a.txt", b"It was built in 1999.", Content_Type="text/plain")
    assert b"1911" in library.sources([url], seen=True)[0].data
    assert b"1999" in library.sources([url])[0].data
    assert b"1999" in library.sources([url], seen=True)[0].data
    assert len(site.requests) == 2
    uploads.close()

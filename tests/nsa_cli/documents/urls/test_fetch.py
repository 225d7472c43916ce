"""Documents from a web server: redirects, compression, the cache, limits, refusals."""

from __future__ import annotations

import gzip
import http.server
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nsa_cli.documents import parse_sources, read_sources
from nsa_cli.documents.urls import kept
from nsa_cli.documents.urls.access import Limits, WebAccess
from nsa_cli.documents.urls.fetch import fetch
from nsa_models.errors import NsaError

HERE = WebAccess(allow_private=True)
PAGE = b"<h1>Lease</h1><p>The rent is 900.</p>"


def refused(url: str, access: WebAccess = HERE) -> NsaError:
    with pytest.raises(NsaError) as caught:
        fetch(url, access)
    assert caught.value.hint
    return caught.value


@pytest.mark.parametrize(
    ("kind", "body", "suffix", "text"),
    [
        ("text/html", PAGE, ".html", "Lease\nThe rent is 900."),
        ("text/html; charset=utf-8", PAGE, ".html", "Lease\nThe rent is 900."),
        ("text/plain", PAGE, "", PAGE.decode()),
        ("text/csv", b"name,rent\nhouse,900\n", ".csv", "house,900"),
        ("application/ld+json", b'{"rent": 900}', ".json", '{"rent": 900}'),
        ("application/octet-stream", b"The rent is 900.", "", "The rent is 900."),
        ("text/plain; charset=windows-1252", "Miete: 900 €".encode("cp1252"), "", "Miete: 900 €"),
        ("text/plain; charset=iso-8859-1", "Miete – 900".encode("cp1252"), "", "Miete – 900"),
        ("text/plain; charset=nonsense", b"Miete", "", "Miete"),
    ],
)
def test_the_content_type_decides_the_format(
    site: Any, kind: str, body: bytes, suffix: str, text: str
) -> None:
    url = site.put("/lease?id=3", body, Content_Type=kind)
    [source] = read_sources([url], on_note=pytest.fail, web=HERE)
    assert (source.name, source.suffix) == (url, suffix)
    document = parse_sources([source], url, on_note=pytest.fail)
    assert text in document.text
    assert {piece.source for piece in document.pieces} == {url}
    assert document.locate(0, 3).source == url


def test_the_name_of_a_plain_text_tells_its_format(site: Any) -> None:
    url = site.put("/a.csv", b"name,rent\nhouse,900\n", Content_Type="text/plain")
    assert fetch(url, HERE).suffix == ".csv"
    url = site.put("/a.html", PAGE, Content_Type="text/plain")
    assert fetch(url, HERE).suffix == ".txt"
    named = 'attachment; filename="a.tsv"'
    url = site.put(
        "/get", b"a\tb\n", Content_Type="application/octet-stream", Content_Disposition=named
    )
    assert fetch(url, HERE).suffix == ".tsv"


def test_a_page_in_place_of_a_pdf_is_told(site: Any) -> None:
    url = site.put("/report.pdf", PAGE, Content_Type="text/html")
    notes: list[str] = []
    [source] = read_sources([url], on_note=notes.append, web=HERE)
    assert notes == [f"{url} is a web page, although its name ends in .pdf"]
    assert "The rent" in parse_sources([source], url, on_note=pytest.fail).text


def test_a_damaged_document_is_told_by_its_url(site: Any) -> None:
    url = site.put("/get?id=3", b"not a PDF at all", Content_Type="application/pdf")
    [source] = read_sources([url], on_note=pytest.fail, web=HERE)
    with pytest.raises(NsaError, match="not a PDF") as caught:
        parse_sources([source], url, on_note=pytest.fail)
    assert caught.value.message.startswith(f"{url} is not a PDF")


@pytest.mark.parametrize("kind", ["image/png", "video/mp4", "audio/ogg", "font/woff2"])
def test_a_type_that_is_no_document(site: Any, kind: str) -> None:
    error = refused(site.put("/a", b"x", Content_Type=kind))
    assert (error.code, error.exit_code) == ("binary", 3)
    assert kind in error.message


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_followed(site: Any, status: int) -> None:
    site.put("/b/there.html", PAGE, Content_Type="text/html")
    url = site.put("/b/here", b"", status=status, Location="there.html#top")
    assert fetch(url, HERE).data == PAGE
    assert [path for path, _ in site.requests] == ["/b/here", "/b/there.html"]


def test_redirects_end(site: Any) -> None:
    url = site.put("/round", b"", status=302, Location="/round")
    error = refused(url, replace(HERE, limits=Limits(redirects=3)))
    assert error.code == "redirects"
    assert len(site.requests) == 4


def test_private_addresses_are_refused(site: Any) -> None:
    url = site.put("/", PAGE)
    error = refused(url, WebAccess())
    assert (error.code, error.exit_code) == ("private_address", 3)
    assert "127.0.0.1" in error.message
    assert not site.requests


def test_a_redirect_to_a_private_address_is_refused(
    site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """127.0.0.1 passes for public here, and 127.0.0.2 does not."""
    monkeypatch.setattr(
        "nsa_cli.documents.urls.addresses.is_public", lambda address: address == "127.0.0.1"
    )
    site.put("/secret", b"secret")
    there = site.url("/secret", "127.0.0.2")
    url = site.put("/", b"", status=302, Location=there)
    error = refused(url, WebAccess())
    assert error.code == "private_address"
    said = f"{url} redirects to {there}: 127.0.0.2 is not on the public internet"
    assert error.message == said
    assert [path for path, _ in site.requests] == ["/"]


@pytest.mark.parametrize(
    "there", ["file:///etc/passwd", "ftp://127.0.0.1/a", "gopher://a/b", "http://a..b/"]
)
def test_a_redirect_to_another_scheme_is_refused(site: Any, there: str) -> None:
    error = refused(site.put("/", b"", status=302, Location=there))
    assert error.code in ("not_fetched", "missing")


def test_compressed_responses(site: Any) -> None:
    body = gzip.compress(PAGE[:20]) + gzip.compress(PAGE[20:])
    url = site.put("/", body, Content_Type="text/html", Content_Encoding="gzip")
    assert fetch(url, HERE).data == PAGE
    assert site.requests[0][1]["Accept-Encoding"] == "gzip"


def test_damaged_compression(site: Any) -> None:
    whole = gzip.compress(PAGE)
    for body in (whole[:-12], b"no gzip"):
        assert refused(site.put("/", body, Content_Encoding="gzip")).code == "broken"
    assert refused(site.put("/", whole, Content_Encoding="br")).code == "broken"


def test_an_unchanged_document_is_not_sent_again(site: Any, cache_folder: Path) -> None:
    url = site.put("/a", PAGE, Content_Type="text/html", ETag='"1"')
    first, second = fetch(url, HERE), fetch(url, HERE)
    assert first == second
    assert second.suffix == ".html"
    assert "If-None-Match" not in site.requests[0][1]
    assert site.requests[1][1]["If-None-Match"] == '"1"'
    assert (cache_folder / "web").stat().st_mode & 0o777 == 0o700
    site.put("/a", b"<p>The rent is 950.</p>", Content_Type="text/html", ETag='"2"')
    assert b"950" in fetch(url, HERE).data
    assert len(list(kept.kept_files())) == 2


def test_a_damaged_copy_is_fetched_anew(site: Any, cache_folder: Path) -> None:
    url = site.put("/a", PAGE, ETag='"1"')
    fetch(url, HERE)
    [body] = (cache_folder / "web").glob("*.body")
    body.write_bytes(b"other")
    assert fetch(url, HERE).data == PAGE
    assert "If-None-Match" not in site.requests[1][1]


@pytest.mark.parametrize("headers", [{}, {"ETag": '"1"', "Cache_Control": "private, no-store"}])
def test_what_is_not_kept(site: Any, cache_folder: Path, headers: dict[str, str]) -> None:
    fetch(site.put("/a", PAGE, **headers), HERE)
    assert not list((cache_folder / "web").glob("*"))


def test_no_store_keeps_nothing_and_asks_anew(site: Any, cache_folder: Path) -> None:
    url = site.put("/a", PAGE, ETag='"1"')
    fetch(url, HERE)
    fetch(url, replace(HERE, store=False))
    assert "If-None-Match" not in site.requests[1][1]
    url = site.put("/b", PAGE, ETag='"1"')
    fetch(url, replace(HERE, store=False))
    assert len(list((cache_folder / "web").glob("*.body"))) == 1


def test_few_responses_are_kept(
    site: Any, cache_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "_MOST", 2)
    for number in range(4):
        fetch(site.put(f"/{number}", PAGE, ETag='"1"'), HERE)
    assert len(list((cache_folder / "web").iterdir())) == 4


def test_a_disk_that_refuses_the_copy(
    site: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NSA_CACHE_DIR", str(tmp_path / "file"))
    assert fetch(site.put("/a", PAGE, ETag='"1"'), HERE).data == PAGE


@pytest.mark.parametrize("length", [True, False])
@pytest.mark.parametrize("encoded", [True, False])
def test_too_large(site: Any, length: bool, encoded: bool) -> None:
    body = bytes(5000)
    sent = gzip.compress(body) if encoded else body

    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        if length:
            handler.send_header("Content-Length", str(len(sent)))
        if encoded:
            handler.send_header("Content-Encoding", "gzip")
        handler.end_headers()
        handler.wfile.write(sent)

    site.pages["/"] = answer
    error = refused(site.url("/"), replace(HERE, limits=Limits(bytes=4000)))
    assert (error.code, error.exit_code) == ("too_large", 4)
    assert fetch(site.url("/"), replace(HERE, limits=Limits(bytes=5000))).data == body


@pytest.mark.parametrize("part", ["headers", "body"])
@pytest.mark.parametrize("limits", [Limits(idle_seconds=0.2), Limits(seconds=0.2)])
def test_too_slow(site: Any, part: str, limits: Limits) -> None:
    """The server sends nothing more; or a byte now and then, so that it is never idle."""
    done = threading.Event()

    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        drips = limits.seconds < 1
        if part == "body":
            handler.send_response(200)
            handler.send_header("Content-Length", "100000")
            handler.end_headers()
        while not done.wait(0.01):
            if drips:
                handler.wfile.write(b"x")
                handler.wfile.flush()

    site.pages["/"] = answer
    try:
        error = refused(site.url("/"), replace(HERE, limits=limits))
    finally:
        done.set()
    assert error.code == "timeout"


def test_truncated(site: Any) -> None:
    def short(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "5000")
        handler.end_headers()
        handler.wfile.write(b"The rent")

    def cut_chunk(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        handler.wfile.write(b"ff\r\nThe rent")

    site.pages |= {"/short": short, "/cut": cut_chunk}
    error = refused(site.url("/short"))
    assert error.code == "broken"
    assert "after 8 of 5,000 bytes" in error.message
    assert refused(site.url("/cut")).code == "broken"


def test_chunks(site: Any) -> None:
    def chunks(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        handler.wfile.write(b"4\r\nThe \r\n4\r\nrent\r\n0\r\n\r\n")

    site.pages["/"] = chunks
    assert fetch(site.url("/"), HERE).data == b"The rent"


def test_no_http_at_all(site: Any) -> None:
    site.pages["/"] = lambda handler: handler.wfile.write(b"SSH-2.0-x\r\n") and None
    assert refused(site.url("/")).code == "unreachable"


@pytest.mark.parametrize(
    ("status", "hint"),
    [
        (404, "check the address"),
        (403, "open it in a browser, and save the page"),
        (503, "try again later"),
        (599, "try again later"),
        (304, "check the address"),
    ],
)
def test_the_server_refuses(site: Any, status: int, hint: str) -> None:
    error = refused(site.put("/a", b"", status=status))
    assert (error.code, error.hint) == ("http", hint)
    assert f"the server answered {status}" in error.message


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("ftp://example.org/a", "not_fetched"),
        ("https://user:secret@example.org/a", "not_fetched"),
        ("http://:80/", "missing"),
        ("http://example.org:99999/", "missing"),
        ("http://[::1/", "missing"),
        ("http://a..b/", "missing"),
    ],
)
def test_urls_that_are_refused(url: str, code: str) -> None:
    error = refused(url)
    assert error.code == code
    assert "secret" not in error.message


def test_paths_outside_ascii(site: Any) -> None:
    site.put("/caf%C3%A9?q=%E4%BD%A0%20a", PAGE)
    assert fetch(site.url("/café?q=你%20a#part"), HERE).data == PAGE
    assert site.requests[0][1]["Host"] == f"127.0.0.1:{site.port}"


def test_progress_is_told(site: Any) -> None:
    told: list[tuple[str, int, int]] = []
    url = site.put("/", PAGE)
    fetch(url, replace(HERE, on_progress=lambda *step: told.append(step)))
    assert told[-1] == (url, len(PAGE), len(PAGE))


def test_where_the_network_is_not_used(site: Any) -> None:
    url = site.put("/", PAGE)
    error = refused(url, replace(HERE, forbidden="NSA_OFFLINE forbids the network"))
    assert (error.code, error.hint) == ("not_fetched", "save it first")
    assert error.message == f"URLs are not fetched here (NSA_OFFLINE forbids the network): {url}"
    with pytest.raises(NsaError, match=f"URLs are not fetched here: {url}"):
        read_sources([url], on_note=pytest.fail)
    assert not site.requests

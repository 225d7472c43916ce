"""Documents and questions as a person types them: pipes, lone arguments, dashes, Unicode forms."""

from __future__ import annotations

import io
import json
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nsa_cli.cli.command import is_option

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], None]:
    """A function that puts bytes into the standard input."""

    def put(data: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))

    return put


def cited(out: str) -> set[str]:
    return {citation["source"] for citation in json.loads(out)["citations"]}


@pytest.mark.parametrize("words", [("Who?",), ("-a", "Who?"), ("-", "Who?"), ("-Who is it?",)])
def test_a_pipe_needs_no_dash(
    nsa: Run, text_file: Path, pipe: Callable[[bytes], None], words: tuple[str, ...]
) -> None:
    pipe(text_file.read_bytes())
    code, out, _ = nsa("ask", *words, "--json", "--no-store")
    assert code == 0
    assert cited(out) == {"stdin"}


def test_other_commands_read_the_pipe(
    nsa: Run, text_file: Path, pipe: Callable[[bytes], None]
) -> None:
    pipe(text_file.read_bytes())
    code, out, _ = nsa("find", "worker", "--top", "1")
    assert code == 0
    assert out.startswith("stdin:")
    pipe(text_file.read_bytes())
    code, out, _ = nsa("summarize", "--length", "short", "--json", "--no-store")
    assert code == 0
    assert json.loads(out)["statements"]


def test_a_lone_argument_that_names_a_file_is_the_document(
    nsa: Run, text_file: Path, pipe: Callable[[bytes], None]
) -> None:
    pipe(b"something in it")
    code, out, err = nsa("ask", str(text_file))
    assert (code, out) == (2, "")
    assert err.startswith(f"nsa: no question about {text_file}. Add one: nsa ask ")
    code, _, err = nsa("find", str(text_file))
    assert code == 2
    assert err.startswith(f"nsa: no query for {text_file}. Add one: nsa find ")


def test_a_file_with_a_space_in_its_name_is_a_document(nsa: Run, tmp_path: Path) -> None:
    path = tmp_path / "my report.txt"
    path.write_text("x")
    _, _, err = nsa("ask", str(path))
    assert f"Add one: nsa ask '{path}' " in err
    assert "no question: " in nsa("ask", "a.txt", str(path))[2]
    assert f"{tmp_path} is a folder" in nsa("ask", "a.txt", str(tmp_path))[2]


def test_a_named_document_goes_before_the_pipe(
    nsa: Run, text_file: Path, pipe: Callable[[bytes], None]
) -> None:
    pipe(b"something else")
    code, out, _ = nsa("ask", str(text_file), "Who?", "--json", "--no-store")
    assert code == 0
    assert cited(out) == {str(text_file)}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("ask", "Who wrote it?"),
            'nsa: no document. Name one before the question: nsa ask report.pdf "Who wrote it?".',
        ),
        (
            ("find", "rent"),
            'nsa: no document. Name one before the query: nsa find report.pdf "rent".',
        ),
        (("ask", "-a", "Who?"), 'nsa: no document. Name one: nsa ask report.pdf --ask "Who?".'),
        (("summarize",), "nsa: no document. Name one: nsa summarize report.pdf."),
        (
            ("ask",),
            'nsa: no question. Name a document and a question: nsa ask report.pdf "Who wrote it?".',
        ),
        (("chat",), "nsa: no document. Name a file or a folder."),
    ],
)
@pytest.mark.parametrize("data", [b"", None])
def test_without_a_document_one_is_asked_for_by_example(
    nsa: Run,
    pipe: Callable[[bytes], None],
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    said: str,
    data: bytes | None,
) -> None:
    if data is None:
        monkeypatch.setattr(sys, "stdin", None)  # closed
    else:
        pipe(data)
    code, out, err = nsa(*words)
    assert (code, out, err.strip()) == (2, "", said)


@pytest.mark.parametrize(
    ("words", "said"),
    [(("ask", "-"), "no question about standard input"), (("find", "-"), "no query for standard")],
)
def test_a_dash_is_no_question(
    nsa: Run, pipe: Callable[[bytes], None], words: tuple[str, ...], said: str
) -> None:
    pipe(b"Ann wrote it.\n")
    code, out, err = nsa(*words)
    assert (code, out) == (2, "")
    assert err.startswith(f"nsa: {said}")
    assert f'nsa {words[0]} - "' in err


def test_a_query_without_a_match_is_told(
    nsa: Run, text_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nsa_cli.answering.find.find", lambda *_: [])
    assert nsa("find", str(text_file), "zebra") == (0, "", "nsa: no passage matches\n")
    assert nsa("find", str(text_file), "zebra", "--quiet") == (0, "", "")
    assert json.loads(nsa("find", str(text_file), "zebra", "--json")[1])["matches"] == []


@pytest.mark.parametrize("question", ["-v what is it?", "--help, or what?", "-1 is what?", "-x?"])
def test_a_question_may_begin_with_a_dash(nsa: Run, text_file: Path, question: str) -> None:
    for words in ((str(text_file), question), ("--json", str(text_file), question, "-q")):
        code, out, err = nsa("ask", *words)
        assert code == 0, err
        assert out
    assert nsa("find", str(text_file), question)[0] == 0


@pytest.mark.parametrize(
    ("word", "option"),
    [
        *[("--seed", True), ("--seed=3", True), ("--system=Be brief?", True), ("-a", True)],
        *[("-aWho wrote it?", True), ("--sede", True), ("-z", True), ("-qz", True)],
        *[("-a is what?", False), ("-q is what?", False), ("--seed is what?", False)],
        *[("--sede?", False), ("-5 degrees", False), ("-5", False), ("— a dash", False)],
    ],
)
def test_options_and_texts(word: str, option: bool) -> None:
    flags = {"--seed", "--system", "--ask", "-a", "-q", "--quiet"}
    assert is_option(word, flags, flags - {"-q", "--quiet"}) is option


def test_a_name_in_the_other_unicode_form(nsa: Run, tmp_path: Path, prose: Any) -> None:
    composed, decomposed = (unicodedata.normalize(form, "né.txt") for form in ("NFC", "NFD"))
    (tmp_path / decomposed).write_text(prose(40))
    code, out, _ = nsa("ask", f"{tmp_path}/{composed}", "Who?", "--json", "--no-store")
    assert code == 0
    assert cited(out) == {f"{tmp_path}/{decomposed}"}
    assert "no question about" in nsa("ask", f"{tmp_path}/{composed}")[2]


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    """The network is allowed."""
    monkeypatch.delenv("NSA_OFFLINE")


PAGE = b"<p>The worker of line 1 wrote report 7. The rent is 900.</p>" * 3


@pytest.mark.usefixtures("online")
def test_a_url_is_cited(nsa: Run, site: Any) -> None:
    url = site.put("/lease?id=1", PAGE, Content_Type="text/html", ETag='"1"')
    for _ in range(2):
        code, out, _ = nsa("ask", url, "Who?", "--json", "--allow-private")
        assert code == 0
        assert cited(out) == {url}
    assert "If-None-Match" in site.requests[1][1]
    code, out, _ = nsa("find", url, "rent", "--allow-private")
    assert (code, out.split(": ")[0]) == (0, f"{url}:1")
    sizes = json.loads(nsa("cache", "size", "--json")[1])["bytes"]
    assert sizes["web"] > len(PAGE)
    assert nsa("cache", "rm", "--all", "--force")[0] == 0
    assert json.loads(nsa("cache", "size", "--json")[1])["bytes"]["web"] == 0


@pytest.mark.usefixtures("online")
def test_a_private_url_needs_an_option(nsa: Run, site: Any) -> None:
    code, out, err = nsa("ask", site.put("/", PAGE), "Who?")
    assert (code, out) == (3, "")
    assert err == (
        "nsa: 127.0.0.1 is not on the public internet. Add --allow-private if you trust it.\n"
    )
    assert not site.requests


@pytest.mark.parametrize("variable", [True, False])
def test_urls_without_a_network(
    nsa: Run, site: Any, monkeypatch: pytest.MonkeyPatch, *, variable: bool
) -> None:
    monkeypatch.setenv("NSA_OFFLINE", "1" if variable else "")
    url = site.put("/", PAGE)
    more = () if variable else ("--no-network",)
    code, out, err = nsa("ask", url, "Who?", "--allow-private", *more)
    assert (code, out) == (3, "")
    why = "--no-network or NSA_OFFLINE forbids the network"
    assert err.startswith(f"nsa: URLs are not fetched here ({why}")
    assert err.endswith(f"): {url}. Save it first.\n")
    assert not site.requests


@pytest.mark.usefixtures("online")
def test_urls_of_a_batch(nsa: Run, site: Any) -> None:
    urls = [site.put(f"/{name}", PAGE, Content_Type="text/html") for name in "ab"]
    missing = site.put("/c", b"", status=404)
    code, out, _ = nsa("batch", *urls, missing, "--ask", "Who?", "--allow-private")
    rows = [json.loads(line) for line in out.splitlines()]
    assert code == 5
    assert [row["document"] for row in rows] == [*urls, missing]
    assert [bool(row["error"]) for row in rows] == [False, False, True]


def test_a_url_is_a_document_and_no_question(nsa: Run) -> None:
    assert "no question about https://a.org/b" in nsa("ask", "https://a.org/b")[2]
    assert "https://a.org/b is a URL" in nsa("ask", "a.txt", "https://a.org/b")[2]
    code, _, err = nsa("ask", "https://a.org/b", "Who?", "--follow")
    assert code == 2
    assert "--follow conflicts with -, URLs" in err

"""A document that took a while to open is not opened again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nsa_cli.caches import documents
from nsa_cli.caches.documents import DocumentCache, parsed_folder
from nsa_cli.config.options import Options
from nsa_cli.documents import Document
from nsa_cli.documents.document import Piece
from nsa_cli.engine import engine

PIECES = tuple(
    Piece(source="a.pdf", page=n, page_label="iv" if n == 1 else None, start=s, end=e, first_line=1)
    for n, s, e in ((1, 0, 4), (2, 6, 11))
)
DOCUMENT = Document(
    name="a.pdf", text="Größ\n\nMarch", pieces=PIECES, warnings=("page 3 has no text",)
)
OPTIONS = Options(model="m")


def make(content: bytes = b"hash", name: str = "a.pdf", **changes: Any) -> DocumentCache:
    return DocumentCache(content, name, replace(OPTIONS, **changes))


def test_a_document_comes_back(cache_folder: Path) -> None:
    assert make().recall() is None
    make().keep(DOCUMENT, ["b.bin is binary; left out"], 5.0)
    assert make().recall() == (DOCUMENT, ["b.bin is binary; left out"])
    assert parsed_folder().parent == cache_folder


@pytest.mark.usefixtures("cache_folder")
def test_what_is_opened_at_once_is_not_kept() -> None:
    make().keep(DOCUMENT, [], 0.1)
    assert make().recall() is None


@pytest.mark.usefixtures("cache_folder")
@pytest.mark.parametrize("options", [{"password": "secret"}, {"store": False}])
def test_what_is_not_to_be_kept_is_not(options: dict[str, Any]) -> None:
    make(**options).keep(DOCUMENT, [], 5.0)
    assert not parsed_folder().exists()
    make().keep(DOCUMENT, [], 5.0)
    assert make(**options).recall() is None


@pytest.mark.usefixtures("cache_folder")
@pytest.mark.parametrize(
    "other", [{"content": b"new"}, {"name": "b.pdf"}, {"pages": "1-2"}, {"ocr": "eng"}]
)
def test_another_way_of_opening_is_another_document(other: dict[str, Any]) -> None:
    make().keep(DOCUMENT, [], 5.0)
    assert make(**other).recall() is None


@pytest.mark.usefixtures("cache_folder")
def test_another_version_opens_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    make().keep(DOCUMENT, [], 5.0)
    monkeypatch.setattr(documents, "version", lambda _: "0.0")
    assert make().recall() is None


@pytest.mark.usefixtures("cache_folder")
def test_the_second_question_does_not_open_the_document(
    asker: Any, text_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents, "_WORTH_SECONDS", 0.0)
    first = asker(text_file)
    monkeypatch.setattr(engine, "parse_sources", None)
    second = asker(text_file, question="And who?")
    assert second.stats.document_tokens == first.stats.document_tokens
    assert second.citations[0].source == first.citations[0].source == str(text_file)
    text_file.write_text("Something else. " * 50)
    with pytest.raises(TypeError):
        asker(text_file)

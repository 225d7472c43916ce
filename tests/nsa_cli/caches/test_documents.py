"""Documents that took long to parse are not parsed again."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from nsa_cli.caches import documents
from nsa_cli.caches.documents import DocumentCache, parsed_folder
from nsa_cli.config.options import Options
from nsa_cli.documents import Document
from nsa_cli.documents.document import Piece
from nsa_cli.documents.table import Row, Table
from nsa_cli.engine import parse

PIECES = tuple(
    Piece(source="a.pdf", page=n, page_label="iv" if n == 1 else None, start=s, end=e, first_line=1)
    for n, s, e in ((1, 0, 4), (2, 6, 11))
)
ROWS = [Row(number=4, cells=["West", "1,5"]), Row(number=6, cells=["", "Größ"])]
TABLE = Table(
    source="a.pdf",
    page=1,
    title="T",
    header=["Region", "Sum"],
    rows=ROWS,
    decimal=",",
    delimiter=";",
)
DOCUMENT = Document(
    name="a.pdf",
    text="Größ\n\nMarch",
    pieces=PIECES,
    warnings=("page 3 has no text",),
    tables=(TABLE,),
)
OPTIONS = Options(model="m")


def make(content: bytes = b"hash", name: str = "a.pdf", **changes: Any) -> DocumentCache:
    return DocumentCache(content, name, replace(OPTIONS, **changes))


def test_a_document_is_found(cache_folder: Path) -> None:
    assert make().recall() is None
    make().keep(DOCUMENT, ["b.bin is binary; left out"], 5.0)
    assert make().recall() == (DOCUMENT, ["b.bin is binary; left out"])
    assert parsed_folder().parent == cache_folder


@dataclass(frozen=True, kw_only=True)
class MoreOptions(Options):
    """Options with additional fields."""

    tables: bool = False
    top_p: float = field(default=1.0, metadata={"changes": "answer"})


def test_keys_of_an_earlier_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys computed by the commit that listed each field of the key by hand."""
    monkeypatch.setattr(documents, "__version__", "0.1.0")
    monkeypatch.setattr(documents, "_FORMAT", 1)
    monkeypatch.setattr(documents, "_READERS", documents._READERS[:5])
    monkeypatch.setattr(documents, "_version", lambda _: "1.0")
    assert make()._path.name == "9d3dbe91cefa097aac9c693283f0dabe.json"
    other = make(model="n", dense=True, pages="1-2", ocr="eng", max_tokens=9)
    assert other._path.name == "6becd3e818d76f792343380623075ef0.json"


def test_a_new_option_joins_the_key() -> None:
    def path(**changes: Any) -> Path:
        return DocumentCache(b"hash", "a.pdf", MoreOptions(model="m", **changes))._path

    assert path() == make()._path
    assert path(tables=True) != make()._path
    assert path(top_p=0.9) == make()._path


@pytest.mark.usefixtures("cache_folder")
def test_quickly_parsed_documents_are_not_stored() -> None:
    make().keep(DOCUMENT, [], 0.1)
    assert make().recall() is None


@pytest.mark.usefixtures("cache_folder")
@pytest.mark.parametrize("options", [{"password": "secret"}, {"store": False}])
def test_some_options_store_no_document(options: dict[str, Any]) -> None:
    make(**options).keep(DOCUMENT, [], 5.0)
    assert not parsed_folder().exists()
    make().keep(DOCUMENT, [], 5.0)
    assert make(**options).recall() is None


@pytest.mark.usefixtures("cache_folder")
@pytest.mark.parametrize(
    "other", [{"content": b"new"}, {"name": "b.pdf"}, {"pages": "1-2"}, {"ocr": "eng"}]
)
def test_other_options_have_other_documents(other: dict[str, Any]) -> None:
    make().keep(DOCUMENT, [], 5.0)
    assert make(**other).recall() is None


@pytest.mark.usefixtures("cache_folder")
def test_another_version_parses_again(monkeypatch: pytest.MonkeyPatch) -> None:
    make().keep(DOCUMENT, [], 5.0)
    monkeypatch.setattr(documents, "version", lambda _: "0.0")
    assert make().recall() is None


@pytest.mark.usefixtures("cache_folder")
def test_the_second_question_does_not_parse_the_document(
    asker: Any, text_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents, "_WORTH_SECONDS", 0.0)
    first = asker(text_file)
    monkeypatch.setattr(parse, "parse_sources", None)
    second = asker(text_file, question="And who?")
    assert second.stats.document_tokens == first.stats.document_tokens
    assert second.citations[0].source == first.citations[0].source == str(text_file)
    text_file.write_text("Something else. " * 50)
    with pytest.raises(TypeError):
        asker(text_file)

"""PDFs of the suite, and their text parsed before."""

from __future__ import annotations

from typing import Any

import pytest

from nsa_cli.config.options import Options
from nsa_cli.documents import read_sources
from nsa_cli.documents.sources import parse_sources
from nsa_cli.evaluation.document_suite import parse
from nsa_cli.evaluation.document_suite.questions import read_questions
from nsa_cli.evaluation.document_suite.sources import DocumentFolder
from nsa_cli.events import Event, Note
from nsa_models.errors import DataError


def folder(suite: Any, path: Any = None) -> DocumentFolder:
    entries = read_questions(suite.questions).documents
    return DocumentFolder(path or suite.documents, entries, Options(model="none"))


def test_a_pdf_is_read_as_by_ask(suite: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    found = folder(suite).read(["report"], print)
    monkeypatch.chdir(suite.documents)
    sources = read_sources(["report.pdf"], on_note=print)
    assert found == parse_sources(sources, "report.pdf", on_note=print)
    assert found is not None
    assert [piece.page for piece in found.pieces] == [1, 2, 3]


def test_two_documents_are_joined(suite: Any) -> None:
    found = folder(suite).read(["report", "lease"], print)
    assert found is not None
    assert [piece.source for piece in found.pieces] == ["report.pdf"] * 3 + ["lease.pdf"] * 2


def test_another_file_is_refused(suite: Any) -> None:
    path = suite.documents / "lease.pdf"
    path.write_bytes(path.read_bytes() + b"%")
    with pytest.raises(DataError, match=r"lease.pdf is another file"):
        folder(suite).read(["lease"], print)


def test_a_missing_document_is_told(suite: Any) -> None:
    (suite.documents / "lease.pdf").unlink()
    events: list[Event] = []
    assert folder(suite).missing() == ["lease"]
    assert folder(suite).read(["report", "lease"], events.append) is None
    [note] = events
    assert isinstance(note, Note)
    assert "no lease.pdf" in note.text


def test_parsed_documents_are_read_without_pdfs(suite: Any, tmp_path: Any, capsys: Any) -> None:
    out = tmp_path / "parsed"
    words = [str(suite.questions), str(suite.documents), str(out)]
    assert parse.main(words) == 0
    assert "report.parsed.xz" in capsys.readouterr().out
    for names in (["report"], ["report", "lease"]):
        assert folder(suite, out).read(names, print) == folder(suite).read(names, print)
    suite.write("report", sha256="0" * 64)
    with pytest.raises(DataError, match="is another file"):
        folder(suite, out).read(["report"], print)
    (out / "lease.parsed.xz").write_bytes(b"x")
    with pytest.raises(DataError, match="is damaged"):
        folder(suite, out).read(["lease"], print)
    assert parse.main(words) == 1
    assert "report" in capsys.readouterr().err
    assert parse.main(words[:2]) == 2
    assert parse.main([str(tmp_path), *words[1:]]) == 3

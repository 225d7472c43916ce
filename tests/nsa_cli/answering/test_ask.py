"""`ask` from the source to the answer, new or stored."""

from __future__ import annotations

import io
import shutil
from pathlib import Path
from typing import Any

import pypdf
import pytest

from nsa_cli.documents.errors import UnreadableError
from nsa_cli.events import AnswerText, Note, Progress

FHS = Path(__file__).parents[3] / "examples" / "fhs-3.0.pdf"


def test_a_stored_answer_is_returned_at_once(
    asker: Any, text_file: Path, substance: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = asker(text_file)
    assert "".join(e.text for e in asker.events if isinstance(e, AnswerText)) == first.answer
    monkeypatch.setattr("nsa_cli.engine.engine.Engine.prefill_chunks", None)
    again = asker(text_file, remember=True)
    assert substance(again) == substance(first)
    assert again.stats.reused_tokens == again.stats.document_tokens > 0
    assert asker.events == [
        Note(text="answered before; --no-store asks again"),
        AnswerText(text=first.answer),
    ]


def test_a_changed_text_is_asked_again(asker: Any, text_file: Path) -> None:
    asker(text_file)
    text_file.write_text(text_file.read_text() + "One more line.\n")
    asker(text_file, remember=True)
    assert asker.notes == []


def test_without_a_store_it_is_asked_again(asker: Any, text_file: Path) -> None:
    asker(text_file)
    found = asker(text_file, remember=True, store=False)
    assert asker.notes == []
    assert found.stats.reused_tokens == 0


def test_another_chat_template_is_asked_again(
    asker: Any, text_file: Path, tiny_model: Path, tmp_path: Path
) -> None:
    model = tmp_path / "model"
    shutil.copytree(tiny_model, model)
    asker(text_file, model=str(model))
    (model / "chat_template.jinja").write_text("{{ messages[0]['content'] }}")
    asker(text_file, model=str(model), remember=True)
    assert asker.notes == []


@pytest.fixture
def locked(tmp_path: Path) -> Path:
    """Two pages of a real document, encrypted."""
    reader = pypdf.PdfReader(FHS)
    writer = pypdf.PdfWriter()
    for page in reader.pages[13:15]:
        writer.add_page(page)
    writer.encrypt("secret", algorithm="AES-256")
    path = tmp_path / "locked.pdf"
    out = io.BytesIO()
    writer.write(out)
    path.write_bytes(out.getvalue())
    return path


def test_a_password_opens_a_document(asker: Any, locked: Path) -> None:
    found = asker(locked, password="secret")
    assert {c.page for c in found.citations} <= {1, 2}
    pages = [(e.done, e.total) for e in asker.events if isinstance(e, Progress) and e.total == 2]
    assert pages == [(1, 2), (2, 2)]
    with pytest.raises(UnreadableError) as caught:
        asker(locked, password="wrong")
    assert caught.value.exit_code == 3


def test_a_stored_answer_needs_the_password_too(asker: Any, locked: Path) -> None:
    asker(locked, password="secret")
    with pytest.raises(UnreadableError):
        asker(locked, remember=True)


def test_warnings_of_the_document_are_noted(asker: Any, tmp_path: Path) -> None:
    text = "Der Hafen ist größer geworden. Müller war da."
    (tmp_path / "old.txt").write_bytes(text.encode("cp1252"))
    asker(tmp_path / "old.txt")
    [note] = asker.notes
    assert note.startswith(f"{tmp_path / 'old.txt'}: ")


@pytest.mark.parametrize(
    "words",
    [("ask", "Who?"), ("ask", "Who?", "--dry-run"), ("find", "worker"), ("summarize",), ("chat",)],
)
def test_a_document_that_cannot_be_parsed_is_told_before_a_model_is_fetched(
    nsa: Any, tmp_path: Path, text_file: Path, words: tuple[str, ...]
) -> None:
    """No built-in model is on this machine, and none can be fetched."""
    broken = tmp_path / "broken.pdf"
    broken.write_bytes(b"%PDF-1.7\nbroken")
    command, *rest = words
    code, _, err = nsa(command, str(broken), *rest, model=None)
    assert code == 3
    assert "is a damaged PDF" in err
    code, _, err = nsa(command, str(text_file), *rest, model=None)
    assert code == 1
    assert "NSA_OFFLINE forbids the network" in err

"""The measure of what office readers lose."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.documents import office_recall
from tests.documents.office_recall import main, measure, reference

CASES = Path(__file__).parents[1] / "fixtures" / "documents"


@pytest.mark.parametrize(
    "name", ["numbered.docx", "rich.docx", "chart.pptx", "formula.xlsx", "lists.odt", "deck.odp"]
)
def test_the_fixtures_lose_nothing(name: str) -> None:
    result = measure(CASES / name)
    assert result.words > 0
    assert (result.refused, result.missing, result.recall) == (None, (), 1.0)


def test_the_reference_has_the_words_that_are_seen() -> None:
    words = reference(CASES / "rich.docx")
    for word in ("Company", "Net", "Why", "Boxed", "Sales", "Cranes", "control"):
        assert word in words
    assert "30" not in words  # deleted


def test_the_table(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", [office_recall.__name__, str(CASES)])
    assert main() == 0
    table = capsys.readouterr().out
    assert ".docx       2        0           0         0                      1  1.0000" in table

"""Prose without data files: long enough, varied, and reproducible by seed."""

from __future__ import annotations

from nsa_models.tasks.haystack import documentation, paragraphs


def test_documentation_is_prose_of_the_requested_length() -> None:
    found = documentation(50_000, seed=3)
    text = "\n".join(found)
    assert len(text) >= 50_000
    assert len(set(found)) == len(found)
    assert sum(char.isalpha() or char.isspace() for char in text) > 0.9 * len(text)
    assert "the" in text.split()


def test_the_seed_determines_the_order() -> None:
    assert documentation(20_000, seed=1) == documentation(20_000, seed=1)
    assert documentation(20_000, seed=1) != documentation(20_000, seed=2)


def test_paragraphs_of_a_text() -> None:
    assert paragraphs("One\nline.\n\n\nTwo.\n") == ["One\nline.", "Two."]
    assert paragraphs("One.\nTwo.\n") == ["One.", "Two."]
    assert paragraphs(" \n") == []

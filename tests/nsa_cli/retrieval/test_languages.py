"""The language of a text."""

from __future__ import annotations

import pytest

from nsa_cli.retrieval.languages import function_words, language


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The keeper was in the tower.", "en"),
        ("Der Wärter war im Turm.", "de"),
        ("Le gardien est dans la tour.", "fr"),
        ("El guardián no está con los otros.", "es"),
        ("4,200 kr", None),
        ("", None),
        ("Turm", None),
    ],
)
def test_language(text: str, expected: str | None) -> None:
    assert language(text) == expected


def test_function_words_are_those_of_the_language() -> None:
    assert "war" in function_words("Wie war das Wetter?")
    assert "war" not in function_words("When did the war end?")
    assert not function_words("Turm")

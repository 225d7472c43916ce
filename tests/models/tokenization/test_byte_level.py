"""The byte-level alphabet."""

from __future__ import annotations

import pytest
from tokenizers.pre_tokenizers import ByteLevel

from nsa_models.tokenization.byte_level import BYTE_TO_CHARACTER, token_bytes


def test_alphabet_is_the_librarys() -> None:
    assert sorted(BYTE_TO_CHARACTER.values()) == sorted(ByteLevel.alphabet())


def test_the_library_round_trips_text() -> None:
    text = " naïve\n\t😀"
    [(spelled, _)] = ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(text)
    assert token_bytes(spelled) == text.encode()


def test_every_byte_round_trips() -> None:
    assert token_bytes("".join(BYTE_TO_CHARACTER.values())) == bytes(BYTE_TO_CHARACTER)


def test_a_foreign_character_is_refused() -> None:
    with pytest.raises(UnicodeEncodeError):
        token_bytes("世")

"""Lengths of summaries."""

from __future__ import annotations

import pytest

from nsa_cli.config.summary_length import LENGTHS, SummaryLength
from nsa_models.errors import UsageError


@pytest.mark.parametrize("name", LENGTHS)
def test_a_named_length(name: str) -> None:
    length = SummaryLength.parse(name)
    assert length.words == LENGTHS[name]
    assert length.overview_words + length.statement_words == length.words


def test_longer_summaries_have_more_of_everything() -> None:
    lengths = [SummaryLength.parse(text) for text in ("20", "short", "medium", "long", "2000")]
    for name in ("parts", "overview_words", "statement_words", "overview_sentences"):
        values = [getattr(length, name) for length in lengths]
        assert values == sorted(values)
        assert values[0] >= 1


def test_a_named_length_fits_a_short_document() -> None:
    assert SummaryLength.parse("long").within(200).words == 100
    assert SummaryLength.parse("long").within(10).words == 60
    assert SummaryLength.parse("long").within(10**6).words == LENGTHS["long"]
    assert SummaryLength.parse("480").within(200).words == 480


@pytest.mark.parametrize("text", ["", "19", "2001", "-30", "3e2", "Short", "١٢٣"])
def test_other_lengths_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="invalid value for --length"):
        SummaryLength.parse(text)

"""The list of named models."""

from __future__ import annotations

import re

import pytest

from nsa_models.errors import ModelError
from nsa_models.hub.registry import DEFAULT_MODEL, MODELS, HubSource, model_entry


def test_every_entry_can_be_checked_and_fetched() -> None:
    for name, entry in MODELS.items():
        assert entry.name == name
        assert re.fullmatch("[0-9a-f]{64}", entry.sha256)
        assert entry.sources
        hub = [isinstance(source, HubSource) for source in entry.sources]
        assert hub == sorted(hub, reverse=True), "the hub is tried first"
    assert DEFAULT_MODEL in MODELS


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ModelError, match=r"qwen2\.5-coder-1\.5b, smollm2-135m") as caught:
        model_entry("qwen2.5-coder-0.5")
    assert caught.value.code == "model_unknown"
    assert "did you mean qwen2.5-coder-0.5b?" in caught.value.hint


def test_a_dissimilar_name_gets_no_guess() -> None:
    with pytest.raises(ModelError) as caught:
        model_entry("xyz")
    assert "did you mean" not in caught.value.hint

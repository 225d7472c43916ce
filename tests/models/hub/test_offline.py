"""The variables that forbid the network."""

from __future__ import annotations

import pytest

from nsa_models.hub.offline import OFFLINE_VARIABLES, offline_variable


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({}, None),
        ({"NSA_OFFLINE": "1"}, "NSA_OFFLINE"),
        ({"HF_HUB_OFFLINE": " Yes "}, "HF_HUB_OFFLINE"),
        ({"NSA_OFFLINE": "0", "HF_HUB_OFFLINE": "true"}, "HF_HUB_OFFLINE"),
        ({"NSA_OFFLINE": "", "HF_HUB_OFFLINE": "off"}, None),
    ],
)
def test_the_first_variable_that_is_set_is_named(
    values: dict[str, str], named: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in OFFLINE_VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    for variable, value in values.items():
        monkeypatch.setenv(variable, value)
    assert offline_variable() == named

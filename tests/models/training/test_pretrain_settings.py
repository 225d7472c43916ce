"""Settings of a training from scratch: the learning rate and refused values."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import pytest

from nsa_models.training.pretrain_settings import PretrainSettings, rate_share

WSD = PretrainSettings(tokens=10**6, warmup=0.1, decay=0.2)


@pytest.mark.parametrize(
    ("done", "share"), [(0.0, 0.0), (0.05, 0.5), (0.1, 1.0), (0.8, 1.0), (0.9, 0.5), (1.0, 0.0)]
)
def test_wsd_rises_stays_and_falls(done: float, share: float) -> None:
    assert rate_share(done, WSD) == pytest.approx(share)


@pytest.mark.parametrize(("done", "share"), [(0.1, 1.0), (0.55, 0.55), (1.0, 0.1), (2.0, 0.1)])
def test_cosine_falls_to_the_floor(done: float, share: float) -> None:
    assert rate_share(done, replace(WSD, schedule="cosine", floor=0.1)) == pytest.approx(share)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tokens": None}, "neither tokens nor seconds"),
        ({"context": "x"}, "context is 'x'; it must be a whole number"),
        ({"context": 512.0}, "context is 512.0; it must be a whole number"),
        ({"rate": None}, "rate is None; it must be a number"),
        ({"compile": 1}, "compile is 1; it must be true or false"),
        ({"schedule": "linear"}, "schedule is 'linear'; use wsd or cosine"),
        ({"context": 0}, "context is 0; it must be positive"),
        ({"warmup": 2.0}, "warmup is 2.0; it must be from 0 to 1"),
        ({"choice_loss": 1.0}, "choice_loss needs whole_rows"),
        ({"choice_loss": -1.0}, r"choice_loss is -1\.0; it must not be negative"),
        ({"full_selection": 0.5}, "full_selection needs whole_rows"),
        ({"full_selection": 1.5}, r"full_selection is 1\.5; it must be from 0 to 1"),
        ({"batch_tokens": 5000}, "batch_tokens is 5000; it must be a multiple of 4096"),
    ],
)
def test_impossible_values_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(WSD, **changes)


def test_a_resumed_run_may_change_its_reports_and_not_its_course() -> None:
    assert replace(WSD, log_steps=3, save_seconds=9.0).differing(asdict(WSD)) == []
    assert replace(WSD, rate=1.0, seed=4).differing(asdict(WSD)) == ["rate", "seed"]


def test_steps_cover_all_tokens() -> None:
    assert replace(WSD, tokens=WSD.batch_tokens * 3 + 1).steps == 4
    assert replace(WSD, tokens=None, seconds=5.0).steps is None


def test_the_last_documents_begin_at_a_step() -> None:
    settings = PretrainSettings(tokens=2048 * 10, context=1024, batch_tokens=2048, last=0.25)
    assert settings.steps == 10
    assert settings.first_of_last == 2 * 8
    assert replace(settings, last=0.0).first_of_last == 2 * 10
    with pytest.raises(ValueError, match="no known last step"):
        _ = replace(settings, tokens=None, seconds=9.0).first_of_last
    with pytest.raises(ValueError, match=r"last is 1\.5; it must be from 0 to 1"):
        replace(settings, last=1.5)

"""What reading will take, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nsa_cli.answering.dry_run import survey
from nsa_cli.config.options import Options
from nsa_cli.context import estimate
from nsa_cli.context.estimate import check_fits
from nsa_cli.system import free_memory_bytes, memory_limit, resident_bytes
from nsa_models.configuration.config import NSAConfig
from nsa_models.errors import DoesNotFitError


def options(asker: Any, **changes: Any) -> Options:
    return replace(Options(model=str(asker.model), cache_limit_bytes=10**9), **changes)


def test_the_estimate_holds(asker: Any, text_file: Path) -> None:
    found = survey([str(text_file)], ["Who?"], options(asker), lambda _: None).estimate()
    assert not asker.readings
    asker(text_file)
    [folder] = asker.readings
    assert found.tokens * 4 == (folder / "tokens.bin").stat().st_size
    kept = sum((folder / name).stat().st_blocks * 512 for name in ("tensors.bin",))
    assert kept * 0.9 <= found.disk_bytes <= kept * 1.3
    assert found.reused_tokens == 0
    assert found.seconds > 0
    again = survey([str(text_file)], ["Who?"], options(asker), lambda _: None).estimate()
    assert again.reused_tokens == again.tokens
    assert again.seconds == 0


def test_without_a_store_the_cache_must_fit_the_memory(asker: Any, text_file: Path) -> None:
    kept = survey([str(text_file)], ["Who?"], options(asker), lambda _: None).estimate()
    loose = survey(
        [str(text_file)], ["Who?"], options(asker, store=False), lambda _: None
    ).estimate()
    assert loose.disk_bytes == 0
    assert loose.memory_bytes >= kept.memory_bytes + kept.tokens * 2 * 2 * 2 * 16 * 4


def test_what_does_not_fit_is_refused_with_numbers(asker: Any, text_file: Path) -> None:
    with pytest.raises(
        DoesNotFitError, match=r"needs 0\.7\d GB of memory, but the limit is 0\.10 GB"
    ) as caught:
        asker(text_file, memory_bytes=10**8)
    assert caught.value.exit_code == 4
    assert not asker.readings
    found = survey(
        [str(text_file)], ["Who?"], options(asker, memory_bytes=10**8), lambda _: None
    ).estimate()
    assert found.memory_limit_bytes == 10**8
    check_fits(replace(found, memory_limit_bytes=found.memory_bytes), "a")


def test_a_safe_share_is_the_default() -> None:
    assert memory_limit(5) == 5
    assert 0 < memory_limit(None) < free_memory_bytes() + resident_bytes()


def test_a_bounded_reading_is_the_same(asker: Any, text_file: Path, substance: Any) -> None:
    """The limit is so low that each segment's mapping is released."""
    expected = asker(text_file, store=False)
    from nsa_cli.kv_store import prefill

    calls = []
    patch = pytest.MonkeyPatch()
    patch.setattr(prefill, "resident_bytes", lambda: calls.append(1) or 2**62)
    try:
        found = asker(text_file)
    finally:
        patch.undo()
    assert len(calls) == 2
    assert substance(found) == substance(expected)
    assert substance(asker(text_file)) == substance(expected)


@pytest.mark.parametrize("as_json", [False, pytest.param(True, marks=pytest.mark.long)])
def test_dry_run_prints_and_reads_nothing(
    as_json: bool, asker: Any, text_file: Path, start_nsa: Any
) -> None:
    more = ["--json"] if as_json else []
    run = start_nsa("ask", str(text_file), "Who?", "--model", str(asker.model), "--dry-run", *more)
    out, err = run.communicate(timeout=120)
    assert run.returncode == 0, err
    if as_json:
        assert json.loads(out)["estimate"]["tokens"] > 1000
    else:
        assert [line.split()[0] for line in out.splitlines()] == [
            "tokens",
            "time",
            "disk",
            "memory",
            "context",
        ]
    assert not asker.readings


def test_the_answers_are_estimated_too(asker: Any, text_file: Path) -> None:
    asked = survey([str(text_file)], ["Who?"], options(asker), lambda _: None).estimate()
    searched = survey(
        [str(text_file)], ["Who?"], options(asker), lambda _: None, answers=False
    ).estimate()
    assert asked.answer_seconds > 0
    assert searched.answer_seconds == 0


def test_the_arithmetic_of_an_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token read takes 2 s, a byte of the weights 3 s."""
    (tmp_path / "model.safetensors").write_bytes(b"12345")
    monkeypatch.setattr(estimate, "_seconds_per_token", lambda *_: 2.0)
    monkeypatch.setattr(estimate, "_seconds_per_byte", lambda *_: 3.0)
    config = NSAConfig(dtype="float32")
    found = estimate.answer_seconds(config, tmp_path, 100, [10, 20], 7)
    assert found == 2 * (100 + 20 + 100 + 40) + 2 * 7 * 5 * 3
    longer = estimate.answer_seconds(config, tmp_path, 100, [10, 20], 1000)
    assert longer == 2 * (100 + 20 + 100 + 40) + 2 * 64 * 5 * 3

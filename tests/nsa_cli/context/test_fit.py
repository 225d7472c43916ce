"""What fits a model, and what is done about a text that is too long."""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import Any

import pytest

from nsa_cli.config.options import Options
from nsa_cli.context.fit import fitting_config
from nsa_cli.events import Event, Note, Progress
from nsa_models.errors import DoesNotFitError
from nsa_models.model_folder import ModelFolder


@pytest.fixture
def where(tiny_model: Path) -> ModelFolder:
    return ModelFolder(name="tiny", folder=tiny_model, fingerprint="f")


def fitted(where: ModelFolder, text: int, more: int, **options: Any) -> tuple[Any, list[Event]]:
    events: list[Event] = []
    config = fitting_config(where, text, more, Options(model="m", **options), events.append)
    return config, events


def test_what_fits_is_left_as_it_is(where: ModelFolder) -> None:
    config, events = fitted(where, 4000, 96)
    assert config.max_position_embeddings == 4096
    assert config.rope_parameters["rope_type"] == "default"
    assert config.select_count == 16
    assert events == []


def test_dense_attention_is_dense(where: ModelFolder) -> None:
    assert fitted(where, 10, 10, dense=True)[0].prefill_settings().select_count is None


@pytest.mark.parametrize(("text", "more"), [(4000, 97), (16000, 384)])
def test_what_is_longer_is_extended_and_said(where: ModelFolder, text: int, more: int) -> None:
    config, [note] = fitted(where, text, more)
    assert config.rope_parameters["rope_type"] == "yarn"
    assert config.max_position_embeddings == 16384
    assert isinstance(note, Note)
    assert f"{text + more:,} tokens" in note.text
    assert "4,096" in note.text
    assert "16,384" in note.text


def test_what_does_not_fit_is_refused(where: ModelFolder) -> None:
    with pytest.raises(DoesNotFitError, match=r"16,385 tokens.*16,384") as caught:
        fitted(where, 16000, 385)
    assert caught.value.exit_code == 4
    assert "--model" in caught.value.hint


def test_what_is_far_too_long_is_refused_before_it_is_tokens(
    tmp_path: Path, asker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nsa_cli.context.prompt.PromptBuilder.whole", None)
    (tmp_path / "long.txt").write_text("word " * 300_000)
    with pytest.raises(
        DoesNotFitError, match=r"1,500,000 characters, at least 23,437 tokens"
    ) as no:
        asker(tmp_path / "long.txt", cache_limit_bytes=10**7)
    assert "--cache-limit" in no.value.hint


def log(lines: int, rng: random.Random) -> list[str]:
    """Lines of a few kinds, with one that is like no other."""
    kinds = ["GET /a/{} took {} ms", "worker {} took job {}", "cache of {} holds {} kB"]
    made = [
        f"09:{n % 60:02} {rng.choice(kinds).format(n, rng.randrange(1000))}" for n in range(lines)
    ]
    made[lines // 3] = "09:20 worker 3 died of a broken pipe"
    return made


@pytest.fixture
def speed(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets the speed of the machine that the estimate finds, in tokens a second."""

    def set_speed(tokens: float) -> None:
        monkeypatch.setattr("nsa_cli.context.estimate._seconds_per_token", lambda *_: 1 / tokens)

    return set_speed


def log_notes(asker: Any) -> list[str]:
    return [event.text for event in asker.events if isinstance(event, Note)]


def test_a_log_is_read_whole_where_that_takes_a_minute(
    asker: Any, tmp_path: Path, seed: int, speed: Any
) -> None:
    lines = log(600, random.Random(seed))
    (tmp_path / "app.log").write_text("\n".join(lines) + "\n")
    speed(10**5)
    finished = asker(tmp_path / "app.log", "Which worker died?", store=False)
    assert finished.stats.document_tokens > 2 * 4096  # trained contexts
    assert finished.stats.left_out_lines == 0
    asker.events.clear()
    speed(finished.stats.document_tokens / 300)
    finished = asker(tmp_path / "app.log", "Which worker died?", store=False)
    assert 2048 > finished.stats.document_tokens > 1024
    left = finished.stats.left_out_lines
    [told] = log_notes(asker)
    assert f"nsa reads {600 - left} of its 600 lines" in told
    assert told.endswith("--every-line reads all, in about 5 minutes")
    finished = asker(tmp_path / "app.log", "Which worker died?", store=False, every_line=True)
    assert finished.stats.left_out_lines == 0


def test_a_log_that_is_stored_takes_no_time(
    asker: Any, tmp_path: Path, seed: int, speed: Any
) -> None:
    (tmp_path / "app.log").write_text("\n".join(log(600, random.Random(seed))))
    speed(10**5)
    assert asker(tmp_path / "app.log", "Which worker died?").stats.left_out_lines == 0
    speed(1)
    assert asker(tmp_path / "app.log", "Which job came last?").stats.left_out_lines == 0


def test_rows_and_prose_are_read_whole_however_long_that_takes(
    asker: Any, tmp_path: Path, seed: int, speed: Any
) -> None:
    speed(1)
    rows = ["number,signed,rent", *(f"{n},2026-11-03 09:00:{n % 60:02},900" for n in range(200))]
    (tmp_path / "rows.txt").write_text("\n".join(rows))
    assert asker(tmp_path / "rows.txt", store=False).stats.left_out_lines == 0
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "app.log").write_text("\n".join(log(300, random.Random(seed))))
    (folder / "notes.md").write_text("The pier was built in 1911.\n")
    assert asker(folder, store=False).stats.left_out_lines == 0


def test_a_long_log_is_read_by_kinds_and_cited_by_its_own_lines(
    asker: Any, tmp_path: Path, seed: int, speed: Any
) -> None:
    speed(60)  # 3,600 tokens a minute
    lines = log(40_000, random.Random(seed))
    (tmp_path / "app.log").write_text("\n".join(lines) + "\n")
    finished = asker(tmp_path / "app.log", "Which worker died?")
    events: list[Event] = asker.events
    assert 2048 > finished.stats.document_tokens > 1024
    assert 39_960 > finished.stats.left_out_lines > 39_000
    [told] = [event.text for event in events if isinstance(event, Note)]
    kept = 40_000 - finished.stats.left_out_lines
    assert f"{kept:,} of its 40,000 lines" in told
    assert "4 kinds" in told
    assert "--every-line" in told
    assert finished.warnings == (told,)
    sifting = [event for event in events if isinstance(event, Progress) and "Sifting" in event.task]
    assert sifting[-1].done == sifting[-1].total
    assert finished.citations
    for citation in finished.citations:
        own = lines[citation.line_start - 1 : citation.line_end]
        assert citation.quote == "\n".join(own)


def test_every_line_of_a_log_that_is_too_long_is_refused(
    asker: Any, tmp_path: Path, seed: int
) -> None:
    (tmp_path / "app.log").write_text("\n".join(log(40_000, random.Random(seed))))
    with pytest.raises(DoesNotFitError):
        asker(tmp_path / "app.log", every_line=True, yarn=True)


def test_a_text_whose_lines_do_not_repeat_is_not_sifted(asker: Any, tmp_path: Path) -> None:
    words = ["".join(chr(97 + int(digit)) for digit in str(n)) for n in range(30_000)]
    (tmp_path / "novel.txt").write_text("\n".join(f"the {word} rained" for word in words))
    with pytest.raises(DoesNotFitError, match=re.escape("16,384")):
        asker(tmp_path / "novel.txt", yarn=True)


def test_a_log_of_more_kinds_than_there_is_room_for_is_refused(asker: Any, tmp_path: Path) -> None:
    words = ["".join(chr(97 + int(digit)) for digit in str(n)) for n in range(9000)]
    lines = [f"{word} came {n} times" for word in words for n in range(4)]
    (tmp_path / "app.log").write_text("\n".join(lines))
    with pytest.raises(DoesNotFitError, match=re.escape("16,384")):
        asker(tmp_path / "app.log", yarn=True)

"""Loss by position: against the model run in one go, and over windows that do not overlap."""

from __future__ import annotations

import json
import lzma
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from nsa_cli.evaluation.loss import LossPlan, load_texts, overall, ranges, token_losses, windows
from nsa_models.errors import UnreadableError, UsageError
from nsa_models.weights.load import load_config, load_model

Run = Callable[..., tuple[int, str, str]]


def encode(text: str) -> Any:
    return np.array([ord(char) for char in text], dtype=np.int32)


def plan(*texts: str, limit: int = 4, seed: int = 0) -> LossPlan:
    return LossPlan(texts=texts, lengths=(10,), limit=limit, seed=seed)


def test_ranges_double_and_cover_every_position() -> None:
    assert ranges(1000) == [(0, 1000)]
    assert ranges(5000) == [(0, 1024), (1024, 2048), (2048, 4096), (4096, 5000)]
    assert ranges(8192)[-1] == (4096, 8192)


def test_windows_come_from_as_many_texts_as_can_be() -> None:
    texts = [chr(ord("a") + n) * 200 for n in range(3)]
    found = windows(plan(*texts, "short", limit=3), 10, encode)
    assert sorted(chr(ids[0]) for ids in found) == ["a", "b", "c"]
    assert {len(ids) for ids in found} == {10}
    found = windows(plan(*texts, limit=5), 10, encode)
    assert sorted({chr(ids[0]) for ids in found}) == ["a", "b", "c"]
    assert len(found) == 5


def test_windows_of_one_text_do_not_overlap() -> None:
    text = "".join(chr(1000 + n) for n in range(250))
    found = windows(plan(text, limit=9), 10, encode)
    assert [int(ids[0]) - 1000 for ids in found] == [0, 80, 160, 240]


def test_no_text_that_is_long_enough() -> None:
    with pytest.raises(UsageError, match="no text of the file has 10 tokens"):
        windows(plan("short", "too"), 10, encode)


@pytest.mark.parametrize("dense", [False, True])
def test_the_loss_is_that_of_the_whole_model(tiny_model: Path, dense: bool, seed: int) -> None:
    config, _ = load_config(
        tiny_model, **({"select_count": None} if dense else {"select_count": 4})
    )
    model = load_model(tiny_model, config)
    ids = torch.randint(0, 300, (1500,), generator=torch.Generator().manual_seed(seed))
    done: list[Any] = []
    found = token_losses(model, ids.numpy().astype(np.int32), done.append)
    with torch.inference_mode():
        logits = model(ids[None]).logits[0]
    expected = F.cross_entropy(logits[:-1].float(), ids[1:], reduction="none")
    assert found.shape == (1499,)
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-3)
    assert [event.done for event in done] == [1024, 1500]


def test_overall_weighs_ranges_by_their_tokens() -> None:
    head = {"model": "m", "attention": "nsa", "length": 4}
    rows = [
        {**head, "first_position": 0, "last_position": 1, "loss": 2.0},
        {**head, "first_position": 2, "last_position": 3, "loss": 5.0},
        {**head, "attention": "dense", "first_position": 0, "last_position": 3, "loss": 9.0},
    ]
    assert overall(rows) == 4.0


def test_texts_of_files(tmp_path: Path) -> None:
    rows = "\n".join(json.dumps({"text": text}) for text in ("One.", "Two."))
    (tmp_path / "a.jsonl").write_text(rows)
    with lzma.open(tmp_path / "b.jsonl.xz", "wt") as file:
        file.write(rows)
    (tmp_path / "c.txt").write_text("One.\nTwo.\n")
    assert load_texts(str(tmp_path / "a.jsonl")) == ["One.", "Two."]
    assert load_texts(str(tmp_path / "b.jsonl.xz")) == ["One.", "Two."]
    assert load_texts(str(tmp_path / "c.txt")) == ["One.\nTwo.\n"]
    (tmp_path / "a.jsonl").write_text('{"text": "One."}\n{"title": "Two"}\n')
    with pytest.raises(UnreadableError, match=r"line 2, has no text"):
        load_texts(str(tmp_path / "a.jsonl"))


def test_the_command(nsa: Run, tmp_path: Path, prose: Callable[..., str]) -> None:
    pytest.importorskip("matplotlib")
    path, plot = tmp_path / "text.txt", tmp_path / "loss.png"
    path.write_text(prose(900))
    words = ("eval", "loss", "--data", str(path), "--lengths", "1200", "--limit", "2")
    code, out, err = nsa(*words, "--attention", "nsa,dense", "--json", "--plot", str(plot))
    assert code == 0, err
    result = json.loads(out)
    assert next(iter(result)) == "loss"
    rows = result["rows"]
    assert [(r["attention"], r["first_position"], r["last_position"]) for r in rows] == [
        *(("nsa", 0, 1023), ("nsa", 1024, 1199), ("dense", 0, 1023), ("dense", 1024, 1199)),
    ]
    for row in rows:
        assert row["windows"] == 2
        assert row["interval"][0] <= row["loss"] <= row["interval"][1]
        assert row["perplexity"] == pytest.approx(math.exp(row["loss"]), rel=1e-3)
    assert rows[0]["loss"] == pytest.approx(rows[2]["loss"], abs=0.2)  # the selection covers most
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_the_table(nsa: Run, tmp_path: Path, prose: Callable[..., str]) -> None:
    path = tmp_path / "text.txt"
    path.write_text(prose(100))
    code, out, _ = nsa("eval", "loss", "--data", str(path), "--lengths", "600", "--limit", "1")
    assert code == 0
    assert "0–599" in out
    assert max(map(len, out.splitlines())) <= 80

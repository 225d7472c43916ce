"""Right answers of one pass equal greedy decoding; comparisons pair the texts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nsa_cli.evaluation.recall import Comparison, TextName, compare, loss_rows, recall_rows
from nsa_cli.training.pretrain_config import model_config
from nsa_models.tasks.recall import RecallText
from nsa_models.training.initial import initial_model
from nsa_models.training.shards import ShardWriter, open_shards
from nsa_models.training.token_losses import TokenLosses

VOCABULARY = 40


@pytest.fixture(params=["nsa", "dense"])
def losses(request: pytest.FixtureRequest) -> TokenLosses:
    values = {"size": "toy", "compress_block": 16, "compress_stride": 8, "select_block": 16}
    values |= {"select_count": 2, "window": 16, "num_hidden_layers": 1}
    config = model_config(
        values, attention=request.param, context=128, vocab_size=VOCABULARY, end_id=0
    )
    return TokenLosses(initial_model(config, 0, torch.device("cpu")), 64)


def greedy(losses: TokenLosses, ids: list[int], count: int) -> list[int]:
    with torch.no_grad():
        for _ in range(count):
            logits = losses.model(torch.tensor([ids]), last_logits=1).logits
            ids = [*ids, int(logits[0, -1].argmax())]
    return ids[-count:]


def test_right_answers_are_those_of_greedy_decoding(losses: TokenLosses) -> None:
    rng = np.random.default_rng(0)
    texts, wanted = [], []
    for number, length in enumerate((60, 60, 60, 90)):
        ids = rng.integers(1, VOCABULARY, length)
        right = greedy(losses, ids[:40].tolist(), 2)
        ids[40:42] = right if number % 2 else [right[0], (right[1] + 1) % VOCABULARY]
        last = greedy(losses, ids[: length - 1].tolist(), 1)
        ids[-1] = last[0] if number < 2 else (last[0] + 1) % VOCABULARY
        answers = ((40, 42), (length - 1, length))
        name = TextName(measure="similar", tokens=length, depth=None, number=number)
        texts.append((name, RecallText(ids=ids, answers=answers, chance=0.25)))
        wanted.append((number % 2) + (number < 2))
    for at_once in (60, 130):
        rows = list(recall_rows(losses, texts, tokens_at_once=at_once))
        assert [row["score"] for row in rows] == wanted
        assert [(row["tokens"], row["number"]) for row in rows] == [
            (60, 0), (60, 1), (60, 2), (90, 3)
        ]  # fmt: skip
        assert {(row["count"], row["chance"]) for row in rows} == {(2, 0.25)}


def test_losses_by_position_sum_to_the_whole(losses: TokenLosses, tmp_path: Path) -> None:
    writer = ShardWriter(tmp_path, tokenizer="x", vocab_size=VOCABULARY, end_id=0)
    rng = np.random.default_rng(0)
    for length in (40, 20, 33, 60):
        writer.add("heldout", rng.integers(1, VOCABULARY, length))
    writer.close()
    documents = open_shards([tmp_path]).heldout
    rows = list(loss_rows(losses, documents, tokens=32, limit=2, edges=[0, 8, 32]))
    assert [(row["number"], row["first"], row["count"]) for row in rows] == [
        (0, 0, 8), (0, 8, 24), (2, 0, 8), (2, 8, 24)
    ]  # fmt: skip
    ids = torch.from_numpy(documents.tokens(0, 0, 33))[None]
    with torch.no_grad():
        logits = losses.model(ids[:, :-1]).logits[0]
    whole = torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum")
    assert rows[0]["score"] + rows[1]["score"] == pytest.approx(whole.item(), rel=1e-4)


def row(number: int, score: float, chance: float | None = 0.1, **more: Any) -> dict[str, Any]:
    name = TextName(measure="m", tokens=8, depth=None, number=number).row()
    return {**name, "score": score, "count": 10, "chance": chance, **more}


def test_a_comparison_pairs_texts_in_any_order() -> None:
    first = [row(n, 8 + n % 2) for n in range(20)]
    second = [row(n, 6 + n % 2) for n in reversed(range(20))]
    found = compare(first, second)
    assert found.scores == (pytest.approx(0.85), pytest.approx(0.65))
    # The difference of each text is the same, so its interval has no width.
    assert (found.low, found.high) == (pytest.approx(0.2), pytest.approx(0.2))
    assert (found.texts, found.verdict) == (20, "ahead")
    assert compare(second, first).verdict == "behind"
    noisy = [row(n, 8 + n % 2 + (-1) ** (n // 2)) for n in range(20)]
    assert compare(noisy, first).verdict == "level"


def test_a_lower_loss_is_ahead_and_ranges_belong_to_their_text() -> None:
    first = [row(n, 20.0, None, first=at) for n in range(5) for at in (0, 4)]
    second = [row(n, 21.0, None, first=at) for n in range(5) for at in (0, 4)]
    found = compare(first, second)
    assert (found.texts, found.scores, found.verdict) == (5, (2.0, 2.1), "ahead")


def test_a_measure_counts_only_above_chance() -> None:
    near = [row(n, 2.4) for n in range(5)]
    assert compare(near, [row(n, 0) for n in range(5)]).verdict == "not counted"
    above = [row(n, 2.6) for n in range(5)]
    assert compare([row(n, 0) for n in range(5)], above).verdict == "behind"
    assert isinstance(compare(above, near), Comparison)


def test_other_texts_are_an_error() -> None:
    with pytest.raises(ValueError, match="2 and 1 texts"):
        compare([row(0, 1), row(1, 1)], [row(0, 1)])
    with pytest.raises(ValueError, match="0 and 0 texts"):
        compare([], [])

"""Low-rank changes that act on questions and not on the text before them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from nsa_kernels.settings import AttentionSettings
from nsa_models.cache.kv_cache import KVCache
from nsa_models.configuration.config import NSAConfig
from nsa_models.errors import ModelError
from nsa_models.modeling.low_rank import LowRankChanges, new_matrices
from nsa_models.modeling.model import NSALanguageModel
from nsa_models.training.stage import Hooks, Schedule
from nsa_models.training.verifier import TextQuestions, question_losses, train_changes
from nsa_models.weights.load import random_model

DENSE = AttentionSettings(select_count=None)


def model() -> NSALanguageModel:
    torch.manual_seed(0)
    config = NSAConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.3,
    )
    return random_model(config, dtype=torch.float32)


def changes_of(of: NSALanguageModel, *, zero: bool = False) -> LowRankChanges:
    matrices = new_matrices(of, rank=4, seed=1)
    if not zero:
        generator = torch.Generator().manual_seed(2)
        for matrix in matrices.values():
            matrix.data += torch.randn(matrix.shape, generator=generator) * 0.1
    return LowRankChanges(of, matrices, 2.0)


def tokens(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 64, count).astype(np.int32)


def texts() -> list[TextQuestions]:
    return [
        TextQuestions(text=tokens(19, 0), rows=(tokens(7, 1), tokens(4, 2)), answers=(2, 1)),
        TextQuestions(text=tokens(11, 3), rows=(tokens(9, 4), tokens(130, 5)), answers=(3, 4)),
    ]


def losses_after_cache(of: NSALanguageModel, changes: LowRankChanges) -> torch.Tensor:
    """Losses of the answers' tokens as the program computes them: one question after a cache."""
    found = []
    for each in texts():
        for row, answer in zip(each.rows, each.answers, strict=True):
            cache = KVCache(of.config, capacity=256, dtype=torch.float32)
            of(torch.as_tensor(each.text, dtype=torch.long)[None], cache=cache, settings=DENSE)
            ids = torch.as_tensor(row, dtype=torch.long)
            with changes.active():
                logits = of(ids[None], cache=cache, settings=DENSE).logits[0]
            some = slice(len(ids) - answer - 1, len(ids) - 1)
            found.append(F.cross_entropy(logits[some], ids[-answer:], reduction="none"))
    return torch.cat(found)


@pytest.mark.parametrize("zero", [True, False])
def test_batched_questions_equal_single_ones_after_a_cache(zero: bool) -> None:
    of = model()
    changes = changes_of(of, zero=zero)
    with torch.no_grad():
        batched = question_losses(of, changes, texts())["loss answer"]
        single = losses_after_cache(of, changes).mean()
    torch.testing.assert_close(batched, single, rtol=1e-4, atol=1e-5)


def test_changes_act_on_the_question_alone() -> None:
    of = model()
    plain = losses_after_cache(of, changes_of(of, zero=True))
    changes = changes_of(of)
    assert not torch.allclose(losses_after_cache(of, changes), plain)
    ids = torch.as_tensor(tokens(9, 5), dtype=torch.long)[None]
    with torch.no_grad():
        off = of(ids, settings=DENSE).logits
        with changes.active():
            on = of(ids, settings=DENSE).logits
        again = of(ids, settings=DENSE).logits
    assert torch.equal(off, again)
    assert not torch.allclose(on, off)


def test_training_learns_answers_and_keeps_the_model() -> None:
    of = model()
    weights = {name: weight.clone() for name, weight in of.state_dict().items()}
    changes = changes_of(of, zero=True)
    reports: list[dict[str, float]] = []

    def batches() -> Iterator[Sequence[TextQuestions]]:
        while True:
            yield texts()

    train_changes(
        of,
        changes,
        batches(),
        Schedule(seconds=3600.0, steps=60, rate=2e-2),
        Hooks(report=lambda each: reports.append(dict(each.losses)), save=lambda _: None),
    )
    assert reports[-1]["loss answer"] < reports[0]["loss answer"] / 4
    assert all(torch.equal(weights[name], weight) for name, weight in of.state_dict().items())


def test_changes_of_another_model_are_refused() -> None:
    of = model()
    matrices = new_matrices(of, rank=4, seed=1)
    name = next(iter(matrices))
    wrong = {**matrices, name: torch.zeros(4, 7)}
    with pytest.raises(ModelError, match="do not belong to this model"):
        LowRankChanges(of, wrong, 2.0)

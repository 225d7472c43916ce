"""The whole recipe on a toy model: it learns to find needles that it misses untrained."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import peft
import pytest
import torch

from nsa_kernels.settings import AttentionSettings
from nsa_models.configuration.config import NSAConfig
from nsa_models.modeling.compression import Compression
from nsa_models.modeling.low_rank import TARGETS
from nsa_models.training.examples import Batch, ExampleQuestion, TrainingExample
from nsa_models.training.forward import ExampleAttention
from nsa_models.training.objectives import KeyCompression, MeanCompression
from nsa_models.training.recipe import distill, loss_positions, tune
from nsa_models.training.stage import Hooks, Schedule, Stage, TrainingProgress, rate_factor
from nsa_models.transformers_model import NSAForCausalLM
from nsa_models.weights.adapter import attach_compression, compression_like_mean

WORDS, NEEDLES, ASK = 32, 16, 48
LENGTH, BLOCK = 96, 8


def config(**changes: object) -> NSAConfig:
    settings = {
        "vocab_size": 64,
        "hidden_size": 64,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "initializer_range": 0.2,
        "compress_block": 4,
        "compress_stride": 4,
        "answer_compress_block": 4,
        "answer_compress_stride": 4,
        "select_block": BLOCK,
        "select_count": 4,
        "answer_select_count": 4,
        "select_tile": 8,
        "window": 8,
        "answer_window": 8,
    }
    return NSAConfig(**{**settings, **changes})


def toy() -> NSAForCausalLM:
    """A random model that distinguishes needles from words and copies its input."""
    model = NSAForCausalLM(config()).requires_grad_(False)
    embedding = model.model.embed_tokens.weight
    embedding.normal_()
    embedding[:, :8] = 0.0
    embedding[WORDS : WORDS + NEEDLES, :8] = 3.0
    model.lm_head.weight.copy_(embedding / 8)
    return model


def needle(rng: np.random.Generator) -> TrainingExample:
    """Random words with one needle, and the question for it."""
    ids = rng.integers(0, WORDS, LENGTH).astype(np.int32)
    place, value = int(rng.integers(BLOCK, LENGTH - 3 * BLOCK)), WORDS + int(rng.integers(NEEDLES))
    ids[place] = value
    ids = np.concatenate([ids, np.array([ASK, ASK + 1, value], np.int32)])
    return TrainingExample(
        ids=ids,
        document=(0, LENGTH),
        instruction=(LENGTH, LENGTH + 1),
        asked=(
            ExampleQuestion(
                question=(LENGTH + 1, LENGTH + 2),
                answer=(LENGTH + 2, LENGTH + 3),
                evidence=(place // BLOCK,),
            ),
        ),
        task="needle",
    )


def needles(seed: int) -> Iterator[Batch]:
    rng = np.random.default_rng(seed)
    while True:
        yield [needle(rng)]


def right(model: NSAForCausalLM, seed: int, count: int = 40) -> float:
    """Share of needles that the model finds."""
    source, found = needles(seed), 0
    with torch.no_grad():
        for _ in range(count):
            [lesson] = next(source)
            ids = torch.as_tensor(lesson.ids[:-1], dtype=torch.long)[None]
            attention = ExampleAttention(LENGTH, model.config.answer_settings())
            logits = model(ids, last_logits=1, cache=attention).logits
            found += int(logits.argmax()) == int(lesson.ids[-1])
    return found / count


def quiet(_: TrainingProgress) -> None:
    """Report and save nothing."""


QUIET = Hooks(report=quiet, save=quiet)


@pytest.mark.long
def test_a_toy_model_learns_to_find_needles() -> None:
    torch.manual_seed(0)
    model = toy()
    before = right(model, 99)

    learners: list[dict[str, KeyCompression]] = [
        {"φ": compression_like_mean(4, 4, 16, 8), "means": MeanCompression(4, 4)}
        for _ in model.attentions
    ]
    course = Schedule(seconds=600, steps=100, watched=64, phi_rate=3e-3)
    distilled = distill(model, learners, needles(1), model.config.answer_settings(), course, QUIET)
    assert distilled.step == 100
    assert distilled.tokens == 100 * (LENGTH + 3)
    last = distilled.history[-1]
    assert last["loss φ"] < last["loss means"]

    attach_compression(model, config(compress_hidden=8))
    for attention, layer_phis in zip(model.attentions, learners, strict=True):
        phi, taught = attention.compression, layer_phis["φ"]
        assert isinstance(taught, Compression)
        assert phi is not None
        phi.load_state_dict(taught.state_dict())
    change = peft.LoraConfig(r=32, lora_alpha=64, target_modules=TARGETS)
    peft.inject_adapter_in_model(change, model)
    saved: list[int] = []
    course = Schedule(
        seconds=600, steps=1000, rate=2.5e-3, watched=32, text_weight=0.0, text_tokens=8
    )
    hooks = Hooks(report=quiet, save=lambda progress: saved.append(progress.step))
    tune(model, needles(2), course, hooks)
    after = right(model, 99)
    assert before <= 0.25
    assert after >= 0.75, (before, after)
    assert saved
    assert model.retrieval_head_weights is not None
    assert model.retrieval_head_weights.shape == (2, 4)


def test_the_rate_rises_and_falls_to_zero() -> None:
    course = Schedule(seconds=100, warmup=0.1)
    rates = [rate_factor(done, course) for done in (0.0, 0.05, 0.1, 0.55, 1.0, 1.3)]
    assert rates == pytest.approx([0.0, 0.475, 0.9, 0.45, 0.0, 0.0])


def test_loss_positions_include_question_and_answer() -> None:
    lesson = needle(np.random.default_rng(0))
    rng = np.random.default_rng(1)
    schedule = Schedule(seconds=1, watched=16)
    found = loss_positions(lesson, schedule, BLOCK, torch.device("cpu"), rng)
    assert {LENGTH + 1} <= set(found.selection.tolist())
    assert found.selection.shape == (16,)
    assert found.questions.tolist() == [LENGTH + 1]
    assert [each.tolist() for each in found.evidence] == [list(lesson.asked[0].evidence)]
    assert found.document == (1, LENGTH // BLOCK - 1)


def test_a_batch_of_short_examples_equals_single_ones() -> None:
    """The loss equals the mean over examples of different lengths, each run separately."""
    torch.manual_seed(0)
    model, rng = toy(), np.random.default_rng(3)
    whole = [needle(rng) for _ in range(3)]
    step = [shortened(lesson, drop) for lesson, drop in zip(whole, (0, 40, 17), strict=True)]
    losses: list[float] = []
    for lesson in step:
        ids = torch.as_tensor(lesson.ids, dtype=torch.long)
        [asked] = lesson.asked
        logits = model(ids[None, :-1], settings=AttentionSettings(select_count=None)).logits[0]
        losses.append(
            float(torch.nn.functional.cross_entropy(logits[asked.answer[0] - 1], ids[-1]).detach())
        )
    progress = tuned(model, step)
    assert progress.losses["loss answer"] == pytest.approx(np.mean(losses), rel=1e-4)
    assert progress.tokens == sum(len(lesson.ids) for lesson in step)


def shortened(lesson: TrainingExample, drop: int) -> TrainingExample:
    """A copy of an example without the first tokens of its text."""
    [asked] = lesson.asked
    return TrainingExample(
        ids=lesson.ids[drop:],
        document=(0, LENGTH - drop),
        instruction=(LENGTH - drop, LENGTH + 1 - drop),
        asked=(
            ExampleQuestion(
                question=(asked.question[0] - drop, asked.question[1] - drop),
                answer=(asked.answer[0] - drop, asked.answer[1] - drop),
                evidence=(),
            ),
        ),
        task="close",
    )


def tuned(model: NSAForCausalLM, step: Batch) -> TrainingProgress:
    """Progress after one step of tuning."""
    change = peft.LoraConfig(r=2, lora_alpha=4, target_modules=TARGETS)
    peft.inject_adapter_in_model(change, model)
    course = Schedule(seconds=600, steps=1, text_tokens=8)
    return tune(model, iter([step]), course, QUIET)


def test_an_example_without_memory_is_skipped() -> None:
    parameter = torch.nn.Parameter(torch.ones(2))
    lesson = TrainingExample(
        ids=np.zeros(5, np.int32), document=(0, 4), instruction=(0, 1), asked=(), task="reading"
    )
    turns = iter(range(100))

    def losses(_: Batch) -> dict[str, torch.Tensor]:
        if next(turns) in fails:
            raise torch.OutOfMemoryError
        return {"loss a": parameter.square().sum()}

    def run() -> TrainingProgress:
        groups = [([parameter], 0.1)]
        course = Schedule(seconds=1e9, steps=4)
        stage = Stage(toy(), course, groups, QUIET)
        return stage.run(iter(lambda: [lesson], None), losses)

    fails = {1, 3}
    done = run()
    assert (done.step, done.left_out, done.tokens) == (4, 2, 20)
    fails = {6}
    with pytest.raises(torch.OutOfMemoryError):  # no example fits
        run()

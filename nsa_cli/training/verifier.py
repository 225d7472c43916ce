"""`nsa train --lessons checks`: train the low-rank changes by which a model checks itself.

They act on a question about a text and not on the text, so that the checks use the keys and values
that the answer is decoded from.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from nsa_cli import __version__
from nsa_cli.context.prompt import PromptBuilder
from nsa_cli.system import git_commit
from nsa_cli.training.check_examples import EXPRESSION, CheckedText, CheckExamples
from nsa_cli.training.examples import TrainingData
from nsa_cli.training.log import log_writer
from nsa_cli.training.plan import TrainingPlan
from nsa_cli.training.self_answers import (
    read_own_answers,
    write_inventions,
    write_self_answers,
)
from nsa_models.cache.layer_devices import pick_device
from nsa_models.errors import ModelError
from nsa_models.model_folder import ModelFolder
from nsa_models.modeling.low_rank import LowRankChanges, new_matrices
from nsa_models.tokenization.tokenizer import Tokenizer
from nsa_models.training.stage import Hooks, Schedule, TrainingProgress
from nsa_models.training.verifier import TextQuestions, train_changes
from nsa_models.weights.adapter import Adapter, save_adapter
from nsa_models.weights.load import load_config, load_model

_TEXTS = 12
"""Texts of a step."""

_SCALE = 2.0
_PROCESSES = 6
"""Processes that make steps, at most; one for each processor."""

_PREFETCHED = 4

TextBatch = Sequence[TextQuestions]


def train_verifier(
    where: ModelFolder, data: TrainingData, plan: TrainingPlan, note: Callable[[str], None]
) -> None:
    """Train a verifier and write it to the plan's folder.

    Args:
        where: The model, with the adapter that it answers with.
        data: Texts with questions.
        plan: Settings of the run.
        note: Receives a line about each part of the run.

    Raises:
        ModelError: If the model has no text that it could be trained on.
    """
    plan.out.mkdir(parents=True, exist_ok=True)
    device = pick_device(plan.device)
    path = plan.out / "answers.jsonl"
    if plan.answer_seconds > 0:
        half = plan.answer_seconds / 2
        if not path.exists():
            write_self_answers(where.folder, data.articles, path, half, device, lambda *_: None)
        write_inventions(
            *(where.folder, data.articles, path, half, device),
            lambda count: note(f"{count:,} answers are invented"),
        )
    own = read_own_answers(path)
    note(f"{sum(len(each.right) for each in own.values()):,} own answers are right")
    examples = CheckExamples(data.articles, data.computations, own)
    config, _ = load_config(where.folder, where.adapter)
    model = load_model(where.folder, config, device=device, adapter=where.adapter)
    matrices = new_matrices(model, plan.rank, plan.seed)
    if not matrices:
        raise ModelError("this model has no projections to change", code="model_unsupported")
    changes = LowRankChanges(model, matrices, _SCALE)
    schedule = Schedule(seconds=plan.tune_seconds, rate=plan.rate)

    def save(progress: TrainingProgress) -> None:
        tensors = {
            f"lora.{name}": matrix.detach().to(torch.bfloat16) for name, matrix in matrices.items()
        }
        about = {
            "model": where.name,
            "nsa": __version__,
            "commit": git_commit(),
            "plan": plan.record(),
            "steps": progress.step,
            "tokens": progress.tokens,
            "last": progress.losses,
        }
        save_adapter(
            plan.out,
            Adapter(
                base=where.fingerprint, settings={}, scale=_SCALE, tensors=tensors, about=about
            ),
        )

    log = log_writer(plan.out / "log.jsonl", "checks", note)
    steps = _steps(where, examples, plan.seed)
    train_changes(model, changes, steps, schedule, Hooks(report=log, save=save))


def text_questions(prompts: PromptBuilder, example: CheckedText) -> TextQuestions:
    """Tokenize a text with its checks."""
    asked = [
        prompts.expression(check.question, "")
        if check.kind == EXPRESSION
        else prompts.question(check.question)
        for check in example.checks
    ]
    rows, answers = zip(
        *(
            prompts.answered(question, check.target)
            for question, check in zip(asked, example.checks, strict=True)
        ),
        strict=True,
    )
    return TextQuestions(text=prompts.plain(example.text).ids, rows=rows, answers=answers)


def _steps(where: ModelFolder, examples: CheckExamples, seed: int) -> Iterator[TextBatch]:
    """Endless steps, made in other processes."""
    tokenizer = Tokenizer.from_folder(where.folder)
    make = partial(_batches, PromptBuilder(tokenizer, None), examples)
    return iter(
        DataLoader(
            _Steps(make, seed),
            batch_size=None,
            num_workers=min(_PROCESSES, os.cpu_count() or 1),
            prefetch_factor=_PREFETCHED,
            collate_fn=list,
        )
    )


def _batches(prompts: PromptBuilder, examples: CheckExamples, seed: int) -> Iterator[TextBatch]:
    rng = random.Random(seed)
    while True:
        numbers = [rng.randrange(2**62) for _ in range(_TEXTS)]
        yield [text_questions(prompts, examples.example(number)) for number in numbers]


class _Steps(IterableDataset[TextBatch]):
    """Endless steps, with a different seed in each loader process."""

    def __init__(self, make: Callable[..., Iterator[TextBatch]], seed: int) -> None:
        self._make, self._seed = make, seed

    def __iter__(self) -> Iterator[TextBatch]:
        worker = get_worker_info()
        return self._make(seed=self._seed * _PROCESSES + (worker.id if worker else 0))

"""`nsa train`: train an adapter for a dense model in two stages."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import peft
import torch
from peft.helpers import disable_input_dtype_casting
from safetensors.torch import load_file, save_file

from nsa_cli import __version__
from nsa_cli.context.prompt import PromptBuilder
from nsa_cli.system import git_commit
from nsa_cli.training.examples import TrainingData
from nsa_cli.training.loader import load_steps
from nsa_cli.training.log import Log
from nsa_cli.training.plan import TrainingPlan
from nsa_cli.training.self_answers import with_self_answers, write_self_answers
from nsa_models.cache.layer_devices import pick_device
from nsa_models.configuration.config import NSAConfig
from nsa_models.errors import ModelError, UsageError
from nsa_models.hub.registry import MODELS
from nsa_models.model_folder import ModelFolder
from nsa_models.modeling.compression import Compression
from nsa_models.modeling.model import NSALanguageModel
from nsa_models.tokenization.tokenizer import Tokenizer
from nsa_models.training.lessons import Step
from nsa_models.training.objectives import Learner, Means
from nsa_models.training.recipe import TARGETS, distill, tune
from nsa_models.training.stage import Progress, Schedule
from nsa_models.training.together import Together
from nsa_models.weights.adapter import (
    attach_compression,
    collect,
    compression_like_mean,
    load_adapter,
    load_compression,
    save_adapter,
)
from nsa_models.weights.load import load_config, load_model

_COMPARED = (4, 16)
"""Lengths of the means that φ is compared with, in tokens."""


def train(where: ModelFolder, data: TrainingData, plan: TrainingPlan) -> Path:
    """Train an adapter and return its folder.

    Raises:
        ModelError: If the model is sparse already.
        UsageError: If the second stage lacks the result of the first.
    """
    dense, family = load_config(where.folder)
    if dense.combine == "gated" or dense.score_pooling == "max":
        raise ModelError(
            f"this {family} checkpoint is already trained for sparse attention",
            hint="train a dense checkpoint",
            code="model_unsupported",
        )
    plan.out.mkdir(parents=True, exist_ok=True)
    together = Together(cpu=plan.device == "cpu")
    device = together.device or pick_device(plan.device)
    data = _with_answers(where, data, plan, together, device)
    model = load_model(where.folder, dense, device=device)
    torch.manual_seed(plan.seed)  # every process starts from the same weights
    config = load_config(where.folder, **plan.settings())[0]
    prompts = PromptBuilder(Tokenizer.from_folder(where.folder), None)
    log = Log(plan.out / "log.jsonl")
    if plan.distill_seconds > 0 and plan.sparse:
        steps = load_steps(prompts, data, plan, plan.seed, together, short=False)
        _distill(model, config, steps, plan, log, together)
        together.wait()
    if plan.tune_seconds > 0:
        steps = load_steps(prompts, data, plan, plan.seed + 1, together, short=True)
        _tune(model, config, where, steps, plan, log, together)
    return plan.out


def _with_answers(
    where: ModelFolder,
    data: TrainingData,
    plan: TrainingPlan,
    together: Together,
    device: torch.device,
) -> TrainingData:
    """The data with the model's correct answers in place of its own, if there are any."""
    path = plan.out / "answers.jsonl"
    if plan.answer_seconds > 0:
        write_self_answers(
            where.folder,
            data.articles[together.number :: together.count],
            path,
            plan.answer_seconds,
            device,
            partial(_report_answers, together),
        )
    together.wait()
    answered = replace(data, articles=tuple(with_self_answers(data.articles, path)))
    if together.first and path.exists():
        sys.stderr.write(
            f"nsa: training on the {_questions(answered):,} of {_questions(data):,} questions "
            f"with a self-generated answer in {path}\n"
        )
    return answered


def _questions(data: TrainingData) -> int:
    return sum(len(part.questions) for article in data.articles for part in article.paragraphs)


def _distill(
    model: NSALanguageModel,
    config: NSAConfig,
    steps: Iterator[Step],
    plan: TrainingPlan,
    log: Log,
    together: Together,
) -> None:
    """Train φ in every layer to match the attention of the frozen model."""
    dim = config.head_dim
    assert dim is not None
    phis: list[dict[str, Compression]] = [
        {
            f"φ {block}/{stride}": compression_like_mean(block, stride, dim, plan.hidden).to(
                model.device
            )
            for block, stride in plan.phi_shapes
        }
        for _ in model.attentions
    ]
    names = list(phis[0])
    untrained = {f"means {size}/{size}": Means(size, size) for size in _COMPARED}
    learners: list[dict[str, Learner]] = [{**each, **untrained} for each in phis]

    def save(_: Progress) -> None:
        for name, (block, stride) in zip(names, plan.phi_shapes, strict=True):
            tensors = {
                f"{number}.{key}": value.to(torch.bfloat16).cpu().contiguous()
                for number, layer in enumerate(phis)
                for key, value in layer[name].state_dict().items()
            }
            save_file(tensors, plan.distilled(block, stride))

    schedule = Schedule(seconds=plan.distill_seconds)
    settings = replace(config.answer_settings(), select_count=plan.select_count)
    distill(
        model,
        learners,
        steps,
        settings,
        schedule,
        log.writer("distill"),
        save,
        seed=plan.seed,
        together=together,
    )


def _tune(
    model: NSALanguageModel,
    config: NSAConfig,
    where: ModelFolder,
    steps: Iterator[Step],
    plan: TrainingPlan,
    log: Log,
    together: Together,
) -> None:
    """Train low-rank changes of the projections, and φ, with sparse attention."""
    path = plan.distilled(*plan.phi_shapes[0])
    earlier = plan.out / "adapter.json"
    if plan.sparse and not path.exists() and not earlier.exists():
        raise UsageError(f"{path} is missing", hint="create it with --distill-seconds")
    if plan.sparse:
        attach_compression(model, config)
    model.config = config
    change = peft.LoraConfig(r=plan.rank, lora_alpha=2 * plan.rank, target_modules=TARGETS)
    peft.inject_adapter_in_model(change, model)
    tokens = 0
    if earlier.exists():
        tokens = _resume(model, plan)
    elif plan.sparse:
        load_compression(model, load_file(path), "")
    schedule = Schedule(seconds=plan.tune_seconds, rate=plan.rate, phi_rate=3e-4)

    def save(progress: Progress) -> None:
        about = {
            "model": Path(where.name).name,
            "nsa": __version__,
            "commit": git_commit(),
            "plan": plan.record(),
            "course": asdict(schedule),
            "tokens": tokens + progress.tokens,
            "last": progress.losses,
        }
        settings = plan.settings()
        if plan.sparse:
            settings["answer_select_count"] = plan.answer_blocks
        save_adapter(
            plan.out,
            collect(model, 2.0, base=_base(where), settings=settings, about=about),
        )

    # Autocast casts the changes' weights to bf16; fp32 copies of the inputs would be useless.
    with disable_input_dtype_casting(model, active=model.device.type == "cuda"):
        tune(model, steps, schedule, log.writer("tune"), save, seed=plan.seed, together=together)


def _base(where: ModelFolder) -> str:
    """Identity of the base: the SHA-256 of a named model's file, or the weights' fingerprint."""
    return MODELS[where.name].sha256 if where.name in MODELS else where.fingerprint


def _resume(model: NSALanguageModel, plan: TrainingPlan) -> int:
    """Load the adapter of an earlier run; return the number of tokens it was trained on."""
    adapter = load_adapter(plan.out)
    for path, module in dict(model.named_modules()).items():
        if isinstance(module, peft.tuners.lora.LoraLayer):
            for matrix, name in ((module.lora_A, "a"), (module.lora_B, "b")):
                matrix["default"].weight.data.copy_(adapter.tensors[f"lora.{path}.{name}"])
    if plan.sparse:
        load_compression(model, adapter.tensors, "compression.")
    model.evidence = adapter.tensors["evidence"].to(model.device)
    return int(adapter.about["tokens"])


def _report_answers(together: Together, asked: int, right: int) -> None:
    """Report a round of self-answering on standard error."""
    if together.first:
        where = f" in the first of {together.count} processes" if together.count > 1 else ""
        sys.stderr.write(f"nsa: {right:,} of {asked:,} answers are correct{where}\n")

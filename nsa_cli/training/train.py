"""`nsa train`: train an adapter for a dense model in two stages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import peft
import torch
from peft.helpers import disable_input_dtype_casting
from safetensors.torch import load_file, save_file
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from nsa_cli import __version__
from nsa_cli.context.prompt import PromptBuilder
from nsa_cli.system import git_commit
from nsa_cli.training.examples import TrainingData, training_steps
from nsa_cli.training.log import log_writer
from nsa_cli.training.plan import TrainingPlan
from nsa_cli.training.self_answers import with_self_answers, write_self_answers
from nsa_models.cache.layer_devices import pick_device
from nsa_models.configuration.config import NSAConfig
from nsa_models.errors import ModelError, UsageError
from nsa_models.hub.registry import MODELS
from nsa_models.model_folder import ModelFolder
from nsa_models.modeling.compression import Compression
from nsa_models.modeling.low_rank import TARGETS
from nsa_models.modeling.model import NSALanguageModel
from nsa_models.tokenization.tokenizer import Tokenizer
from nsa_models.training.distributed import Processes
from nsa_models.training.examples import Batch
from nsa_models.training.objectives import KeyCompression, MeanCompression
from nsa_models.training.recipe import distill, tune
from nsa_models.training.stage import Hooks, Schedule, TrainingProgress
from nsa_models.weights.adapter import (
    attach_compression,
    collect,
    compression_like_mean,
    load_adapter,
    load_compression,
    save_adapter,
)
from nsa_models.weights.load import load_config, load_model

_PREFETCHED = 8
"""Steps that each loader process prepares ahead."""

_PROCESSES = 2

_BLOCK = 64
"""Tokens of a selection block."""

_COMPARED = (4, 16)
"""Lengths of the means that φ is compared with, in tokens."""


def train(
    where: ModelFolder, data: TrainingData, plan: TrainingPlan, note: Callable[[str], None]
) -> Path:
    """Train an adapter and return its folder.

    Args:
        where: The dense model.
        data: Texts with questions.
        plan: Settings of the run.
        note: Receives a line about each part of the run.

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
    together = Processes(cpu=plan.device == "cpu")
    device = together.device or pick_device(plan.device)
    data = _with_answers(where, data, plan, together, device, note)
    model = load_model(where.folder, dense, device=device)
    torch.manual_seed(plan.seed)  # every process starts from the same weights
    run = _Run(
        note=note,
        where=where,
        data=data,
        plan=plan,
        together=together,
        model=model,
        config=load_config(where.folder, **plan.settings())[0],
    )
    if plan.distill_seconds > 0 and plan.sparse:
        run.distill()
        together.wait()
    if plan.tune_seconds > 0:
        run.tune()
    return plan.out


def _with_answers(
    where: ModelFolder,
    data: TrainingData,
    plan: TrainingPlan,
    together: Processes,
    device: torch.device,
    note: Callable[[str], None],
) -> TrainingData:
    """The data with the model's correct answers in place of the given ones, if any exist."""

    def report(asked: int, right: int) -> None:
        if together.first:
            part = f" in the first of {together.count} processes" if together.count > 1 else ""
            note(f"{right:,} of {asked:,} answers are correct{part}")

    path = plan.out / "answers.jsonl"
    if plan.answer_seconds > 0:
        own = data.articles[together.number :: together.count]
        write_self_answers(where.folder, own, path, plan.answer_seconds, device, report)
    together.wait()
    answered = replace(data, articles=tuple(with_self_answers(data.articles, path)))
    if together.first and path.exists():
        note(
            f"training on the {_questions(answered):,} of {_questions(data):,} questions "
            f"with a self-generated answer in {path}"
        )
    return answered


def _questions(data: TrainingData) -> int:
    return sum(len(part.questions) for article in data.articles for part in article.paragraphs)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """The two stages of a training run, and their shared state."""

    where: ModelFolder
    data: TrainingData
    plan: TrainingPlan
    together: Processes
    model: NSALanguageModel
    config: NSAConfig
    note: Callable[[str], None]

    def distill(self) -> None:
        """Train φ in every layer to match the attention of the frozen model."""
        plan, dim = self.plan, self.config.head_dim
        assert dim is not None
        phis: list[dict[str, Compression]] = [
            {
                f"φ {block}/{stride}": compression_like_mean(block, stride, dim, plan.hidden).to(
                    self.model.device
                )
                for block, stride in plan.phi_shapes
            }
            for _ in self.model.attentions
        ]
        names = list(phis[0])
        untrained = {f"means {size}/{size}": MeanCompression(size, size) for size in _COMPARED}
        learners: list[dict[str, KeyCompression]] = [{**each, **untrained} for each in phis]

        def save(_: TrainingProgress) -> None:
            for name, (block, stride) in zip(names, plan.phi_shapes, strict=True):
                tensors = {
                    f"{number}.{key}": value.to(torch.bfloat16).cpu().contiguous()
                    for number, layer in enumerate(phis)
                    for key, value in layer[name].state_dict().items()
                }
                save_file(tensors, plan.distilled(block, stride))

        distill(
            self.model,
            learners,
            self._steps(plan.seed, short=False),
            replace(self.config.answer_settings(), select_count=plan.select_count),
            Schedule(seconds=plan.distill_seconds),
            Hooks(report=log_writer(plan.out / "log.jsonl", "distill", self.note), save=save),
            seed=plan.seed,
            processes=self.together,
        )

    def tune(self) -> None:
        """Train low-rank changes of the projections, and φ, with sparse attention."""
        plan, model = self.plan, self.model
        steps, tokens = self._steps(plan.seed + 1, short=True), self._attach()
        schedule = Schedule(seconds=plan.tune_seconds, rate=plan.rate, phi_rate=3e-4)

        def save(progress: TrainingProgress) -> None:
            about = {
                "model": Path(self.where.name).name,
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
            base = _base(self.where)
            save_adapter(plan.out, collect(model, 2.0, base=base, settings=settings, about=about))

        log = log_writer(plan.out / "log.jsonl", "tune", self.note)
        # Autocast casts the changes' weights to bf16; fp32 copies of the inputs would be useless.
        with disable_input_dtype_casting(model, active=model.device.type == "cuda"):
            hooks = Hooks(report=log, save=save)
            tune(model, steps, schedule, hooks, seed=plan.seed, processes=self.together)

    def _attach(self) -> int:
        """Attach φ and low-rank changes, resuming an earlier run; return its tokens."""
        plan, model = self.plan, self.model
        path, earlier = plan.distilled(*plan.phi_shapes[0]), plan.out / "adapter.json"
        if plan.sparse and not path.exists() and not earlier.exists():
            raise UsageError(f"{path} is missing", hint="create it with --distill-seconds")
        if plan.sparse:
            attach_compression(model, self.config)
        model.config = self.config
        change = peft.LoraConfig(r=plan.rank, lora_alpha=2 * plan.rank, target_modules=TARGETS)
        peft.inject_adapter_in_model(change, model)
        if earlier.exists():
            return _resume(model, plan)
        if plan.sparse:
            load_compression(model, load_file(path), "")
        return 0

    def _steps(self, seed: int, *, short: bool) -> Iterator[Batch]:
        """Endless training steps, made in other processes; see `training_steps`."""
        together = self.together
        make = partial(
            training_steps,
            PromptBuilder(Tokenizer.from_folder(self.where.folder), None),
            self.data,
            self.plan.lengths,
            _BLOCK,
            short=short,
            process=together.number,
        )
        return iter(
            DataLoader(
                _Steps(make, seed),
                batch_size=None,
                num_workers=_PROCESSES,
                prefetch_factor=_PREFETCHED,
                collate_fn=list,
                # A fork of one of several processes can inherit a lock that is never released.
                multiprocessing_context="spawn" if together.count > 1 else None,
            )
        )


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
    model.retrieval_head_weights = adapter.tensors["evidence"].to(model.device)
    return int(adapter.about["tokens"])


class _Steps(IterableDataset[Batch]):
    """Endless training steps, with a different seed in each loader process."""

    def __init__(self, make: Callable[..., Iterator[Batch]], seed: int) -> None:
        self._make, self._seed = make, seed

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()
        return self._make(seed=self._seed * _PROCESSES + (worker.id if worker else 0))

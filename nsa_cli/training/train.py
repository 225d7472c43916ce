"""`nsa train`: from a dense model and data files to an adapter, in two stages."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import peft
import torch
from peft.helpers import disable_input_dtype_casting
from safetensors.torch import load_file, save_file
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from nsa_cli import __version__
from nsa_cli.context.prompt import PromptBuilder
from nsa_cli.system import git_commit
from nsa_cli.training.examples import TrainingData, lessons
from nsa_cli.training.log import Log
from nsa_cli.training.self_answers import answer_themselves, with_their_own
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

_AHEAD = 8
"""Lessons that are made while the model learns from others, by each of `_MAKERS`."""

_MAKERS = 2

_BLOCK = 64
"""Tokens of a selection block."""

_COMPARED = (4, 16)
"""Lengths of the means that φ is compared with, in tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """What to train, and how.

    Attributes:
        out: Folder for the adapter, the log and what a later call goes on from.
        kinds: Lengths and strides of the summaries that φ is taught, in tokens; the first is
            what `tune` goes on with.
        hidden: Inner width of φ.
        lengths: Of the lessons, in tokens.
        attention: `nsa`, or `dense`: the same lessons without selection, to compare with.
        answer_seconds: In which the base answers the questions itself, first of all; its right
            answers are learned from in the place of the data's. 0 for those that are kept.
        distill_seconds: Of the first stage; 0 to go on from what an earlier call left.
        tune_seconds: Of the second stage; 0 to stop before it.
        select_count: Blocks that the model reads and answers with while it is trained.
        answer_blocks: Blocks that answers are to attend to afterwards; None for the whole text.
        rank: Of the changes.
        rate: Learning rate of the changes.
        seed: Of the lessons.
        device: `auto`, `cpu` or `cuda`.
    """

    out: Path
    kinds: tuple[tuple[int, int], ...] = ((32, 16),)
    hidden: int = 128
    lengths: tuple[int, ...] = (4096, 8192, 16384)
    attention: str = "nsa"
    answer_seconds: float = 0.0
    distill_seconds: float = 120.0
    tune_seconds: float = 420.0
    select_count: int = 16
    answer_blocks: int | None = None
    rank: int = 16
    rate: float = 2e-4
    seed: int = 0
    device: str = "auto"

    @property
    def sparse(self) -> bool:
        """Whether the model learns to select."""
        return self.attention == "nsa"


def train(where: ModelFolder, material: TrainingData, plan: Training) -> Path:
    """Train an adapter and return its folder.

    Raises:
        NsaError: If a stage lacks what an earlier one leaves.
    """
    dense, family = load_config(where.folder)
    if dense.combine == "gated" or dense.score_pooling == "max":
        raise ModelError(
            f"this {family} checkpoint was trained for sparse attention already",
            hint="train a dense checkpoint",
            code="model_unsupported",
        )
    plan.out.mkdir(parents=True, exist_ok=True)
    together = Together(cpu=plan.device == "cpu")
    device = together.device or pick_device(plan.device)
    said = plan.out / "answers.jsonl"
    if plan.answer_seconds > 0:
        answer_themselves(
            where.folder,
            material.articles[together.number :: together.count],
            said,
            plan.answer_seconds,
            device,
            partial(_tell_answers, together),
        )
    together.wait()
    asked = _questions(material)
    material = replace(material, articles=tuple(with_their_own(material.articles, said)))
    if together.first and said.exists():
        sys.stderr.write(
            f"nsa: of {asked:,} questions the {_questions(material):,} with an answer of the "
            f"model's own in {said} are learned from\n"
        )
    model = load_model(where.folder, dense, device=device)
    torch.manual_seed(plan.seed)  # every process begins with the same changes
    config = _config(where, plan)
    prompter = PromptBuilder(Tokenizer.from_folder(where.folder), None)
    log = Log(plan.out / "log.jsonl")
    if plan.distill_seconds > 0 and plan.sparse:
        source = _ahead(prompter, material, plan, plan.seed, together, short=False)
        _distill(model, config, source, plan, log, together)
        together.wait()
    if plan.tune_seconds > 0:
        source = _ahead(prompter, material, plan, plan.seed + 1, together, short=True)
        _tune(model, config, where, source, plan, log, together)
    return plan.out


def _questions(material: TrainingData) -> int:
    return sum(len(part.questions) for article in material.articles for part in article.paragraphs)


def _config(where: ModelFolder, plan: Training) -> NSAConfig:
    return load_config(where.folder, **_settings(plan))[0]


def _settings(plan: Training) -> dict[str, Any]:
    if not plan.sparse:
        return {"select_count": None, "answer_select_count": None}
    block, stride = plan.kinds[0]
    return {
        "compress_block": block,
        "compress_stride": stride,
        "answer_compress_block": block,
        "answer_compress_stride": stride,
        "compress_hidden": plan.hidden,
        "select_count": plan.select_count,
        "answer_select_count": plan.select_count,
    }


def _distill(
    model: NSALanguageModel,
    config: NSAConfig,
    source: Iterator[Step],
    plan: Training,
    log: Log,
    together: Together,
) -> None:
    dim = config.head_dim
    assert dim is not None
    phis: list[dict[str, Compression]] = [
        {
            f"φ {block}/{stride}": compression_like_mean(block, stride, dim, plan.hidden).to(
                model.device
            )
            for block, stride in plan.kinds
        }
        for _ in model.attentions
    ]
    names = list(phis[0])
    untrained = {f"means {size}/{size}": Means(size, size) for size in _COMPARED}
    learners: list[dict[str, Learner]] = [{**each, **untrained} for each in phis]

    def save(_: Progress) -> None:
        for name, (block, stride) in zip(names, plan.kinds, strict=True):
            tensors = {
                f"{number}.{key}": value.to(torch.bfloat16).cpu().contiguous()
                for number, layer in enumerate(phis)
                for key, value in layer[name].state_dict().items()
            }
            save_file(tensors, _distilled(plan, block, stride))

    course = Schedule(seconds=plan.distill_seconds)
    settings = replace(config.answer_settings(), select_count=plan.select_count)
    distill(
        model,
        learners,
        source,
        settings,
        course,
        log.tell("distill"),
        save,
        seed=plan.seed,
        together=together,
    )


def _distilled(plan: Training, block: int, stride: int) -> Path:
    return plan.out / f"distilled-{block}-{stride}-{plan.hidden}.safetensors"


def _tune(
    model: NSALanguageModel,
    config: NSAConfig,
    where: ModelFolder,
    source: Iterator[Step],
    plan: Training,
    log: Log,
    together: Together,
) -> None:
    path = _distilled(plan, *plan.kinds[0])
    earlier = plan.out / "adapter.json"
    if plan.sparse and not path.exists() and not earlier.exists():
        raise UsageError(f"there is no {path}", hint="give --distill-seconds as well")
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
    course = Schedule(seconds=plan.tune_seconds, rate=plan.rate, phi_rate=3e-4)

    def save(progress: Progress) -> None:
        about = {
            "model": Path(where.name).name,
            "nsa": __version__,
            "commit": git_commit(),
            "plan": {key: str(value) for key, value in asdict(plan).items() if key != "out"},
            "course": asdict(course),
            "tokens": tokens + progress.tokens,
            "last": progress.losses,
        }
        settings = _settings(plan)
        if plan.sparse:
            settings["answer_select_count"] = plan.answer_blocks
        save_adapter(
            plan.out,
            collect(model, 2.0, base=_base(where), settings=settings, about=about),
        )

    # Autocast makes bf16 of the changes' weights; fp32 inputs would be copies for nothing.
    with disable_input_dtype_casting(model, active=model.device.type == "cuda"):
        tune(model, source, course, log.tell("tune"), save, seed=plan.seed, together=together)


def _base(where: ModelFolder) -> str:
    """What was trained: the SHA-256 of a named model's file, or the weights' fingerprint."""
    return MODELS[where.name].sha256 if where.name in MODELS else where.fingerprint


def _resume(model: NSALanguageModel, plan: Training) -> int:
    """Take up an adapter that an earlier call left; how many tokens it has seen."""
    adapter = load_adapter(plan.out)
    for path, module in dict(model.named_modules()).items():
        if isinstance(module, peft.tuners.lora.LoraLayer):
            for own, name in ((module.lora_A, "a"), (module.lora_B, "b")):
                own["default"].weight.data.copy_(adapter.tensors[f"lora.{path}.{name}"])
    if plan.sparse:
        load_compression(model, adapter.tensors, "compression.")
    model.evidence = adapter.tensors["evidence"].to(model.device)
    return int(adapter.about["tokens"])


class _Lessons(IterableDataset[Step]):
    """Lessons without end, made in processes of their own."""

    def __init__(self, make: Callable[..., Iterator[Step]], seed: int) -> None:
        self._make, self._seed = make, seed

    def __iter__(self) -> Iterator[Step]:
        maker = get_worker_info()
        return self._make(seed=self._seed * _MAKERS + (maker.id if maker else 0))


def _ahead(
    prompter: PromptBuilder,
    material: TrainingData,
    plan: Training,
    seed: int,
    together: Together,
    *,
    short: bool,
) -> Iterator[Step]:
    """Lessons, made while the model learns from others; each process has lessons of its own."""
    make = partial(
        lessons, prompter, material, plan.lengths, _BLOCK, short=short, process=together.number
    )
    return iter(
        DataLoader(
            _Lessons(make, seed),
            batch_size=None,
            num_workers=_MAKERS,
            prefetch_factor=_AHEAD,
            collate_fn=_as_it_is,
            # A fork of one of several processes may hold a lock of their threads for ever.
            multiprocessing_context="spawn" if together.count > 1 else None,
        )
    )


def _as_it_is(step: Step) -> Step:
    return step


def _tell_answers(together: Together, asked: int, right: int) -> None:
    if together.first:
        where = f" in the first of {together.count} processes" if together.count > 1 else ""
        sys.stderr.write(f"nsa: {right:,} of {asked:,} answers are right{where}\n")


def kinds_of(texts: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """Lengths and strides such as 32/16.

    Raises:
        UsageError: If one is not of that form.
    """
    kinds = []
    for text in texts:
        block, _, stride = text.partition("/")
        if not (block.isdigit() and stride.isdigit()):
            raise UsageError(f"--phi is {text!r}", hint="say length/stride, such as 32/16")
        kinds.append((int(block), int(stride)))
    return tuple(kinds)

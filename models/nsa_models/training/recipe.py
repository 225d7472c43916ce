"""The two stages of native training, each with a time limit and regular saves.

(a) `distill`: the frozen model attends densely; the φ of every layer learns to score blocks by
their attention mass.
(b) `tune`: attention is sparse; low-rank changes of the projections learn to answer from the
selected blocks, φ trains further, and the weights of the retrieval heads are learned.

Letters: L layers, H query heads, P positions, V vocabulary.

Source: Yuan et al. 2025, "Native Sparse Attention", arXiv 2502.11089; Hu et al. 2022, "LoRA",
arXiv 2106.09685.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nsa_kernels.settings import AttentionSettings
from nsa_models.modeling.model import NSALanguageModel
from nsa_models.training.distributed import Processes
from nsa_models.training.examples import Batch, TrainingExample
from nsa_models.training.forward import ExampleAttention, logits_at
from nsa_models.training.objectives import AttentionLosses, KeyCompression, LossPositions
from nsa_models.training.stage import Hooks, Schedule, Stage, TrainingProgress


def loss_positions(
    example: TrainingExample,
    schedule: Schedule,
    size: int,
    device: torch.device,
    rng: np.random.Generator,
) -> LossPositions:
    """Draw the positions of an example whose attention enters the losses.

    Args:
        example: The example.
        schedule: Limits of positions and questions.
        size: Tokens of a selection block.
        device: Device of the result.
        rng: Source of randomness.
    """
    start, stop = example.document
    ranges = [np.arange(*question.question) for question in example.asked]
    ranges += [np.arange(*question.answer) - 1 for question in example.asked]
    tail = np.concatenate(ranges) if ranges else np.empty(0, np.int64)
    if len(tail) > schedule.watched * 3 // 4:
        tail = rng.choice(tail, schedule.watched * 3 // 4, replace=False)
    anywhere = rng.integers(start, stop, schedule.watched - len(tail))
    with_evidence = [question for question in example.asked if question.evidence]
    order = rng.permutation(len(with_evidence))
    questions = [with_evidence[i] for i in order[: schedule.evidence_questions]]
    tokens = [np.arange(*question.question) for question in questions]

    def tensor(values: object) -> Tensor:
        return torch.as_tensor(np.asarray(values, dtype=np.int64), device=device)

    return LossPositions(
        selection=tensor(np.sort(np.concatenate([tail, anywhere]))),
        instruction=tensor(np.arange(*example.instruction)),
        questions=tensor(np.concatenate(tokens) if tokens else []),
        question_index=tensor(np.repeat(np.arange(len(tokens)), [len(ids) for ids in tokens])),
        evidence=tuple(tensor(question.evidence) for question in questions),
        # The first block is an attention sink, and the last blocks attract attention as well.
        document=(1, max(2, stop // size - 1)),
    )


def distill(
    model: NSALanguageModel,
    phis: list[dict[str, KeyCompression]],
    batches: Iterator[Batch],
    settings: AttentionSettings,
    schedule: Schedule,
    hooks: Hooks,
    *,
    seed: int = 0,
    processes: Processes | None = None,
) -> TrainingProgress:
    """Train φ on the attention mass of blocks, with a frozen model.

    Args:
        model: The frozen model.
        phis: Each layer's φs by name, on the model's device; several train at once, beside
            baselines without parameters.
        batches: Examples, one per step.
        settings: Attention settings of the selection; the model itself attends densely.
        schedule: Duration and rates.
        hooks: Reports and saves.
        seed: Seed of the positions that enter the loss.
        processes: The processes that train together.
    """
    rng = np.random.default_rng(seed)
    dense = AttentionSettings(select_count=None)
    modules = [phi for layer in phis for phi in layer.values() if isinstance(phi, nn.Module)]
    parameters = [parameter for phi in modules for parameter in phi.parameters()]
    frequencies = model.model.rotary.frequencies(model.device)
    nowhere = torch.empty(0, dtype=torch.long, device=model.device)
    stage = Stage(model, schedule, [(parameters, schedule.phi_rate)], hooks, processes)

    def losses_of(batch: Batch) -> dict[str, Tensor]:
        [example] = batch
        positions = loss_positions(example, schedule, settings.select_block, model.device, rng)
        step = stage.progress.step
        losses = AttentionLosses(
            positions, settings, phis, frequencies, None, schedule.background, step
        )
        with torch.no_grad():
            _logits(model, example, nowhere, dense, losses)
        return _selection(losses)

    return stage.run(batches, losses_of)


def tune(
    model: NSALanguageModel,
    batches: Iterator[Batch],
    schedule: Schedule,
    hooks: Hooks,
    *,
    seed: int = 0,
    processes: Processes | None = None,
) -> TrainingProgress:
    """Train low-rank changes, φ and the retrieval-head weights, with sparse attention.

    Args:
        model: The model with low-rank changes (`peft.inject_adapter_in_model`) that take
            gradients. Texts use its prefill settings, questions and answers its answer settings.
        batches: Examples of each step.
        schedule: Duration and rates.
        hooks: Reports and saves; `model.retrieval_head_weights` is current in a save.
        seed: Seed of the positions that enter the losses.
        processes: The processes that train together.
    """
    rng = np.random.default_rng(seed)
    compressions = [attention.compression for attention in model.attentions]
    phis: list[dict[str, KeyCompression]] = [{} if x is None else {"φ": x} for x in compressions]
    phi_parameters = [p for phi in compressions if phi is not None for p in phi.parameters()]
    for parameter in phi_parameters:
        parameter.requires_grad_(True)
    phi_ids = {id(parameter) for parameter in phi_parameters}
    changes = [p for p in model.parameters() if p.requires_grad and id(p) not in phi_ids]
    start = model.retrieval_head_weights
    if start is None:
        start = torch.ones(len(phis), model.config.num_attention_heads, device=model.device)
    logs = nn.Parameter(start.log())
    groups = [(changes, schedule.rate), ([logs], schedule.heads_rate)]
    if phi_parameters:
        groups.append((phi_parameters, schedule.phi_rate))

    def save(progress: TrainingProgress) -> None:
        model.retrieval_head_weights = logs.detach().exp()
        hooks.save(progress)

    stage = Stage(model, schedule, groups, Hooks(report=hooks.report, save=save), processes)

    def losses_of(batch: Batch) -> dict[str, Tensor]:
        if len(batch) > 1:
            return _short_losses(model, batch, schedule, rng)
        taught, step = phis if phi_parameters else [], stage.progress.step
        return _long_losses(model, batch[0], schedule, taught, logs.exp(), rng, step)

    return stage.run(batches, losses_of)


def _long_losses(
    model: NSALanguageModel,
    example: TrainingExample,
    schedule: Schedule,
    phis: list[dict[str, KeyCompression]],
    weights: Tensor,
    rng: np.random.Generator,
    step: int,
) -> dict[str, Tensor]:
    """Return the losses of a long example, with sparse attention."""
    settings = model.config.answer_settings()
    positions = loss_positions(example, schedule, settings.select_block, model.device, rng)
    frequencies = model.model.rotary.frequencies(model.device)
    attention = AttentionLosses(
        positions, settings, phis, frequencies, weights, schedule.background, step
    )
    answers = [np.arange(*question.answer) for question in example.asked]
    text = rng.integers(max(1, example.document[0]), example.document[1], schedule.text_tokens)
    targets = torch.as_tensor(np.concatenate([*answers, text]), device=model.device)
    prefill = model.config.prefill_settings()
    logits = _logits(model, example, targets - 1, prefill, attention, settings)
    ids = torch.as_tensor(example.ids, dtype=torch.long, device=model.device)
    losses = _token_losses(logits, ids[targets], len(targets) - len(text), schedule)
    if phis:
        losses.update(_selection(attention))
    if positions.evidence:
        loss, hits = attention.retrieval_loss()
        losses["loss evidence"] = loss * schedule.evidence_weight
        losses["evidence hit@1"] = hits
    return losses


def _short_losses(
    model: NSALanguageModel, batch: Batch, schedule: Schedule, rng: np.random.Generator
) -> dict[str, Tensor]:
    """Return the losses of short examples, as the rows of one batch with dense attention."""
    length = max(len(example.ids) for example in batch)
    rows = np.zeros((len(batch), length), np.int64)
    answers, texts = [], []
    for row, example in enumerate(batch):
        rows[row, : len(example.ids)] = example.ids  # causal attention never sees the padding
        answers += [np.arange(*question.answer) + row * length for question in example.asked]
        texts.append(np.arange(max(1, example.document[0]), example.document[1]) + row * length)
    text = rng.choice(np.concatenate(texts), schedule.text_tokens)
    targets = torch.as_tensor(np.concatenate([*answers, text]), device=model.device)
    ids = torch.as_tensor(rows, device=model.device)
    with _precision(model):
        logits = logits_at(model, ids, targets - 1, AttentionSettings(select_count=None))
    return _token_losses(logits, ids.flatten()[targets], len(targets) - len(text), schedule)


def _token_losses(
    logits: Tensor, targets: Tensor, answers: int, schedule: Schedule
) -> dict[str, Tensor]:
    """Return the losses of target tokens (P,); the first `answers` belong to answers."""
    token_losses = F.cross_entropy(logits.float(), targets, reduction="none")
    losses = {"loss text": token_losses[answers:].mean() * schedule.text_weight}
    if answers:
        losses["loss answer"] = token_losses[:answers].mean()
        right = (logits[:answers].argmax(dim=-1) == targets[:answers]).float()
        losses["answer tokens right"] = right.mean()
    return losses


def _precision(model: NSALanguageModel) -> torch.autocast:
    """Return the precision of a step: bf16 on CUDA."""
    cuda = model.device.type == "cuda"
    return torch.autocast(model.device.type, torch.bfloat16, enabled=cuda)


def _selection(attention: AttentionLosses) -> dict[str, Tensor]:
    losses: dict[str, Tensor] = {}
    for name, layer_losses in attention.selection.items():
        losses[f"loss {name}"] = torch.stack(layer_losses).mean()
        losses[f"{name} caught"] = torch.stack(attention.recall[name]).mean()
    return losses


def _logits(
    model: NSALanguageModel,
    example: TrainingExample,
    positions: Tensor,
    settings: AttentionSettings,
    losses: AttentionLosses,
    answer: AttentionSettings | None = None,
) -> Tensor:
    """Return logits (P, V) of an example and add every layer's attention to the losses.

    The losses take gradients even if the model itself runs without.
    """

    def observe(layer: int, q: Tensor, k: Tensor) -> None:
        with torch.enable_grad():
            losses(layer, q, k)

    ids = torch.as_tensor(example.ids, dtype=torch.long, device=model.device)
    question = example.document[1] if example.document[1] < len(ids) else None
    attention = ExampleAttention(question, answer, observe)
    with _precision(model):
        return logits_at(model, ids[None], positions, settings, attention)

"""The two stages of native training, each within a time of its own and saved as it goes.

(a) `distill`: the base is frozen and attends to everything; the φ of every layer learns to score
blocks by the attention mass that they get.
(b) `tune`: attention is sparse; low-rank changes of the projections learn to answer from what is
selected, φ goes on, and the heads that find a question's evidence learn to find it more surely.

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
from nsa_models.training.lessons import Step, TrainingExample
from nsa_models.training.objectives import Learner, Probe, Watch
from nsa_models.training.stage import Progress, Save, Schedule, Stage, Tell
from nsa_models.training.together import Together

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def watch_lesson(
    lesson: TrainingExample,
    course: Schedule,
    size: int,
    device: torch.device,
    rng: np.random.Generator,
) -> Watch:
    """Where to look at the attention of a lesson."""
    start, stop = lesson.document
    wanted = [np.arange(*each.question) for each in lesson.asked]
    wanted += [np.arange(*each.answer) - 1 for each in lesson.asked]
    tail = np.concatenate(wanted) if wanted else np.empty(0, np.int64)
    if len(tail) > course.watched * 3 // 4:
        tail = rng.choice(tail, course.watched * 3 // 4, replace=False)
    anywhere = rng.integers(start, stop, course.watched - len(tail))
    chosen = np.sort(np.concatenate([tail, anywhere]))
    able = [each for each in lesson.asked if each.evidence]
    some = [able[i] for i in rng.permutation(len(able))[: course.evidence_questions]]
    looks = [np.arange(*each.question) for each in some]

    def tensor(values: object) -> Tensor:
        return torch.as_tensor(np.asarray(values, dtype=np.int64), device=device)

    return Watch(
        chosen=tensor(chosen),
        ordinary=tensor(np.arange(*lesson.instruction)),
        asked=tensor(np.concatenate(looks) if looks else []),
        question=tensor(np.repeat(np.arange(len(looks)), [len(each) for each in looks])),
        evidence=tuple(tensor(each.evidence) for each in some),
        # The first block draws attention whatever is asked, and the last ones as well.
        document=(1, max(2, stop // size - 1)),
    )


def distill(
    model: NSALanguageModel,
    learners: list[dict[str, Learner]],
    lessons: Iterator[Step],
    settings: AttentionSettings,
    course: Schedule,
    tell: Tell,
    save: Save,
    *,
    seed: int = 0,
    together: Together | None = None,
) -> Progress:
    """Teach φ the attention mass of blocks, the model frozen.

    Args:
        model: Frozen.
        learners: For each layer, φs by name, on the model's device, or what they are compared
            with; several are taught at once.
        lessons: What to read, one lesson a step.
        settings: The selection that φ is for; the model itself attends to everything.
        course: How long, and how.
        tell: See `Stage`.
        save: See `Stage`.
        seed: Of the positions looked at.
        together: See `Stage`.
    """
    rng = np.random.default_rng(seed)
    dense = AttentionSettings(select_count=None)
    parameters = [
        p
        for layer in learners
        for phi in layer.values()
        if isinstance(phi, nn.Module)
        for p in phi.parameters()
    ]
    frequencies = model.model.rotary.frequencies(model.device)
    nowhere = torch.empty(0, dtype=torch.long, device=model.device)
    stage = Stage(model, course, [(parameters, course.phi_rate)], tell, save, together)

    def losses_of(step: Step) -> dict[str, Tensor]:
        [lesson] = step
        watch = watch_lesson(lesson, course, settings.select_block, model.device, rng)
        turn = stage.progress.step
        probe = Probe(watch, settings, learners, frequencies, None, course.background, turn)
        _run(model, lesson, dense, probe, nowhere, gradients=False)
        return _selection(probe)

    return stage.run(lessons, losses_of)


def tune(
    model: NSALanguageModel,
    lessons: Iterator[Step],
    course: Schedule,
    tell: Tell,
    save: Save,
    *,
    seed: int = 0,
    together: Together | None = None,
) -> Progress:
    """Teach low-rank changes, φ and the heads' evidence, with sparse attention.

    Args:
        model: With low-rank changes (`peft.inject_adapter_in_model`) that take gradients.
        lessons: What to learn from. Text and questions attend as the model's configuration has
            it for reading and answering.
        course: How long, and how.
        tell: See `Stage`.
        save: See `Stage`; the heads' evidence is in `model.evidence` by then.
        seed: Of the positions looked at.
        together: See `Stage`.
    """
    rng = np.random.default_rng(seed)
    reading, settings = model.config.prefill_settings(), model.config.answer_settings()
    phis = [attention.compression for attention in model.attentions]
    learners: list[dict[str, Learner]] = [{} if phi is None else {"φ": phi} for phi in phis]
    inside = {id(p) for phi in phis if phi is not None for p in phi.parameters()}
    for phi in phis:
        if phi is not None:
            phi.requires_grad_(True)
    changes = [p for p in model.parameters() if p.requires_grad and id(p) not in inside]
    start = torch.ones(len(phis), model.config.num_attention_heads, device=model.device)
    logs = nn.Parameter((start if model.evidence is None else model.evidence).log())
    groups = [(changes, course.rate), ([logs], course.heads_rate)]
    if inside:
        groups.append(
            ([p for phi in phis if phi is not None for p in phi.parameters()], course.phi_rate)
        )

    def keep(progress: Progress) -> None:
        model.evidence = logs.detach().exp()
        save(progress)

    frequencies = model.model.rotary.frequencies(model.device)
    stage = Stage(model, course, groups, tell, keep, together)

    def losses_of(step: Step) -> dict[str, Tensor]:
        if len(step) > 1:
            return _side_by_side(model, step, course, rng)
        [lesson] = step
        watch = watch_lesson(lesson, course, settings.select_block, model.device, rng)
        taught = learners if inside else []
        turn = stage.progress.step
        probe = Probe(watch, settings, taught, frequencies, logs.exp(), course.background, turn)
        answers = [np.arange(*each.answer) for each in lesson.asked]
        text = rng.integers(max(1, lesson.document[0]), lesson.document[1], course.text_tokens)
        wanted = torch.as_tensor(np.concatenate([*answers, text]), device=model.device)
        logits = _run(model, lesson, reading, probe, wanted - 1, settings, gradients=True)
        ids = torch.as_tensor(lesson.ids, dtype=torch.long, device=model.device)
        losses = _losses(logits, ids[wanted], len(wanted) - len(text), course)
        if inside:
            losses.update(_selection(probe))
        if watch.evidence:
            evidence, hits = probe.evidence_loss()
            losses["loss evidence"] = evidence * course.evidence_weight
            losses["evidence hit@1"] = hits
        return losses

    return stage.run(lessons, losses_of)


def _losses(logits: Tensor, wanted: Tensor, answers: int, course: Schedule) -> dict[str, Tensor]:
    """Losses of the tokens wanted (P,), those of answers first, then those of the text."""
    each = F.cross_entropy(logits.float(), wanted, reduction="none")
    losses = {"loss text": each[answers:].mean() * course.text_weight}
    if answers:
        losses["loss answer"] = each[:answers].mean()
        right = (logits[:answers].argmax(dim=-1) == wanted[:answers]).float()
        losses["answer tokens right"] = right.mean()
    return losses


def _side_by_side(
    model: NSALanguageModel, step: Step, course: Schedule, rng: np.random.Generator
) -> dict[str, Tensor]:
    """Losses of short lessons, read in one batch, each with all of its own text in view."""
    length = max(len(lesson.ids) for lesson in step)
    ids = np.zeros((len(step), length), np.int64)
    answers, texts = [], []
    for row, lesson in enumerate(step):
        ids[row, : len(lesson.ids)] = lesson.ids  # what fills the row up is seen by none before it
        answers += [np.arange(*each.answer) + row * length for each in lesson.asked]
        texts.append(np.arange(max(1, lesson.document[0]), lesson.document[1]) + row * length)
    text = rng.choice(np.concatenate(texts), course.text_tokens)
    wanted = torch.as_tensor(np.concatenate([*answers, text]), device=model.device)
    batch = torch.as_tensor(ids, device=model.device)
    with _precision(model):
        dense = AttentionSettings(select_count=None)
        logits = model(batch, settings=dense, logits_at=wanted - 1).logits
    return _losses(logits[0], batch.flatten()[wanted], len(wanted) - len(text), course)


def _precision(model: NSALanguageModel) -> torch.autocast:
    """What a step is computed in: bf16 on CUDA."""
    cuda = model.device.type == "cuda"
    return torch.autocast(model.device.type, torch.bfloat16, enabled=cuda)


def _selection(probe: Probe) -> dict[str, Tensor]:
    losses: dict[str, Tensor] = {}
    for name, each in probe.selection.items():
        losses[f"loss {name}"] = torch.stack(each).mean()
        losses[f"{name} caught"] = torch.stack(probe.caught[name]).mean()
    return losses


def _run(
    model: NSALanguageModel,
    lesson: TrainingExample,
    settings: AttentionSettings,
    probe: Probe,
    at: Tensor,
    answering: AttentionSettings | None = None,
    *,
    gradients: bool,
) -> Tensor:
    """Logits (P, V) at some positions, the attention of every layer shown to a probe.

    Without gradients the model's own work is not recorded; what the probe does is.
    """

    def show(layer: int, q: Tensor, k: Tensor) -> None:
        with torch.enable_grad():
            probe(layer, q, k)

    ids = torch.as_tensor(lesson.ids, dtype=torch.long, device=model.device)
    for attention in model.attentions:
        attention.probe = show
    try:
        with torch.set_grad_enabled(gradients), _precision(model):
            behind = lesson.document[1]
            then = None
            if answering is not None and behind < len(ids):
                then = (behind, answering)
            output = model(ids[None], settings=settings, logits_at=at, answering=then)
    finally:
        for attention in model.attentions:
            attention.probe = None
    return output.logits[0] if output.logits is not None else at.new_empty(0)

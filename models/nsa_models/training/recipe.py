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

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nsa_kernels.settings import AttentionSettings
from nsa_models.modeling import NSAForCausalLM
from nsa_models.training.lessons import Lesson, Step
from nsa_models.training.objectives import Learner, Probe, Watch
from nsa_models.training.together import Together

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """How a stage is trained.

    Attributes:
        seconds: Of the stage; the rate falls to nothing at its end.
        steps: Of the stage at most, each a lesson; None for as many as there is time for.
        rate: Learning rate of the low-rank changes.
        phi_rate: Learning rate of φ.
        heads_rate: Learning rate of the logarithms of the heads' evidence.
        warmup: Share of the time in which the rate rises.
        watched: Positions of a lesson at which φ is taught, at most.
        text_weight: Of the loss of the text's own tokens, beside that of the answers.
        text_tokens: Of the text whose loss is taken, at most.
        evidence_weight: Of the evidence's loss.
        evidence_questions: Questions of a lesson whose evidence is looked at, at most.
        background: How many times the instruction's attention counts as ordinary.
        clip: Largest norm of the gradient.
        save_seconds: Between two savings.
    """

    seconds: float
    steps: int | None = None
    rate: float = 2e-4
    phi_rate: float = 1e-3
    heads_rate: float = 2e-2
    warmup: float = 0.05
    watched: int = 512
    text_weight: float = 0.2
    text_tokens: int = 1024
    evidence_weight: float = 0.1
    evidence_questions: int = 6
    background: float = 2.0
    clip: float = 1.0
    save_seconds: float = 30.0


@dataclass(slots=True, kw_only=True)
class Progress:
    """What a stage has done.

    Attributes:
        step: Steps made.
        tokens: Of their lessons.
        seconds: That they took.
        left_out: Steps that the device's memory was too small for.
        losses: The last values by name.
        history: The values at every tenth step.
    """

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    left_out: int = 0
    losses: dict[str, float] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)


Tell = Callable[[Progress], None]
Save = Callable[[Progress], None]


def watch_lesson(
    lesson: Lesson, course: Course, size: int, device: torch.device, rng: np.random.Generator
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


def share_of_rate(done: float, course: Course) -> float:
    """Of the learning rate, when such a share of a stage is over."""
    at = min(1.0, done)
    return min(1.0, at / course.warmup) * (1.0 - at)


class Stage:
    """The loop that both stages share: time, rate, optimiser, report and saving.

    Args:
        model: On its device.
        course: How to train.
        groups: Parameters and their learning rates.
        tell: Called after every tenth step, and after the last.
        save: Called every `save_seconds`, and at the end.
        together: The processes that train together, each on lessons of its own; the first one
            tells and saves.
    """

    def __init__(
        self,
        model: NSAForCausalLM,
        course: Course,
        groups: list[tuple[list[nn.Parameter], float]],
        tell: Tell,
        save: Save,
        together: Together | None = None,
    ) -> None:
        self.model, self.course, self.tell, self.save = model, course, tell, save
        self.together = together or Together()
        self.optimizer = torch.optim.AdamW(
            [{"params": each, "lr": rate, "full": rate} for each, rate in groups],
            betas=(0.9, 0.98),
            weight_decay=0.0,
        )
        self.progress = Progress()

    def run(
        self, lessons: Iterator[Step], losses_of: Callable[[Step], dict[str, Tensor]]
    ) -> Progress:
        """Train until the time is over, a step at least; the loss is the sum of `loss …`."""
        began = saved = time.monotonic()
        held: dict[str, list[Tensor]] = {}
        while (done := self._done(time.monotonic() - began)) < 1.0 or not self.progress.step:
            step = next(lessons)
            for group in self.optimizer.param_groups:
                group["lr"] = group["full"] * share_of_rate(done, self.course)
            self.optimizer.zero_grad()
            try:
                losses = losses_of(step)
                total = sum(each for name, each in losses.items() if name.startswith("loss "))
                assert isinstance(total, Tensor)
                total.backward()
            except torch.OutOfMemoryError:
                # A single lesson is left out, unless others wait for this process or none fits.
                if self.together.count > 1 or not self.progress.step:
                    raise
                self.progress.left_out += 1
                self.optimizer.zero_grad()
                continue
            for group in self.optimizer.param_groups:
                self.together.average(group["params"])
            norms = [
                nn.utils.clip_grad_norm_(group["params"], self.course.clip)
                for group in self.optimizer.param_groups
            ]
            if all(bool(norm.isfinite()) for norm in norms):
                self.optimizer.step()
            progress = self.progress
            progress.step += 1
            progress.tokens += sum(len(lesson.ids) for lesson in step) * self.together.count
            progress.seconds = time.monotonic() - began
            for name, value in losses.items():
                held.setdefault(name, []).append(value.detach())
            if progress.step % 10 == 0:
                self._report(held)
            if time.monotonic() - saved > self.course.save_seconds:
                saved = time.monotonic()
                self._save()
        if held:
            self._report(held)
        self._save()
        return self.progress

    def _report(self, held: dict[str, list[Tensor]]) -> None:
        """Tell the means of what is held, and let go of it."""
        progress = self.progress
        progress.losses = {name: float(torch.stack(x).mean()) for name, x in held.items()}
        row = {"step": progress.step, "tokens": progress.tokens}
        progress.history.append({**row, "seconds": round(progress.seconds, 1), **progress.losses})
        held.clear()
        if self.together.first:
            self.tell(progress)

    def _save(self) -> None:
        if self.together.first:
            self.save(self.progress)

    def _done(self, seconds: float) -> float:
        """Share of the stage that is over: of its time or of its steps, whichever is more."""
        steps = self.course.steps
        return self.together.agree(
            max(seconds / self.course.seconds, 0.0 if steps is None else self.progress.step / steps)
        )


def distill(
    model: NSAForCausalLM,
    learners: list[dict[str, Learner]],
    lessons: Iterator[Step],
    settings: AttentionSettings,
    course: Course,
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
    model: NSAForCausalLM,
    lessons: Iterator[Step],
    course: Course,
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
    reading, settings = model.config.reading(), model.config.answering()
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


def _losses(logits: Tensor, wanted: Tensor, answers: int, course: Course) -> dict[str, Tensor]:
    """Losses of the tokens wanted (P,), those of answers first, then those of the text."""
    each = F.cross_entropy(logits.float(), wanted, reduction="none")
    losses = {"loss text": each[answers:].mean() * course.text_weight}
    if answers:
        losses["loss answer"] = each[:answers].mean()
        right = (logits[:answers].argmax(dim=-1) == wanted[:answers]).float()
        losses["answer tokens right"] = right.mean()
    return losses


def _side_by_side(
    model: NSAForCausalLM, step: Step, course: Course, rng: np.random.Generator
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


def _precision(model: NSAForCausalLM) -> torch.autocast:
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
    model: NSAForCausalLM,
    lesson: Lesson,
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

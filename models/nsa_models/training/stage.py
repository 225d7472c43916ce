"""The loop that every stage of training shares: time, rate, optimiser, report and saving."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from nsa_models.modeling.model import NSALanguageModel
from nsa_models.training.lessons import Step
from nsa_models.training.together import Together


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
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


def share_of_rate(done: float, course: Schedule) -> float:
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
        model: NSALanguageModel,
        course: Schedule,
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
                if not self.progress.step:  # none fits
                    raise
                self.progress.left_out += 1
                self.optimizer.zero_grad()
                losses = {}
                if self.together.count == 1:
                    continue  # several go on together: the others' gradients are used
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
        row = {"step": progress.step, "tokens": progress.tokens, "left out": progress.left_out}
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

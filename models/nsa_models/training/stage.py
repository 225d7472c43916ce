"""The training loop of both stages: time limit, learning rate, optimizer, reports and saving."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from nsa_models.modeling.model import NSALanguageModel
from nsa_models.training.distributed import Processes
from nsa_models.training.examples import Batch


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """Duration, learning rates and loss weights of a stage.

    Attributes:
        seconds: Duration of the stage; the learning rate falls to 0 at its end.
        steps: Maximum number of steps; None for no limit.
        rate: Learning rate of the low-rank changes.
        phi_rate: Learning rate of φ.
        heads_rate: Learning rate of the logarithms of the retrieval-head weights.
        warmup: Share of the duration in which the learning rate rises.
        watched: Maximum number of positions per example with a loss for φ.
        text_weight: Weight of the loss on tokens of the text.
        text_tokens: Number of tokens of the text with a loss.
        evidence_weight: Weight of the retrieval heads' loss.
        evidence_questions: Maximum number of questions per example with a retrieval-head loss.
        background: Multiple of the instruction's attention that is subtracted as background.
        clip: Maximum norm of the gradient.
        save_seconds: Time between two saves, in seconds.
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
class TrainingProgress:
    """Progress of a stage.

    Attributes:
        step: Completed steps.
        tokens: Tokens of their examples.
        seconds: Elapsed time.
        left_out: Steps skipped because the device ran out of memory.
        losses: Latest mean values by name.
        history: The values of every tenth step.
    """

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    left_out: int = 0
    losses: dict[str, float] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks:
    """Callbacks of a stage, called in the first process.

    Attributes:
        report: Called after every tenth step and after the last.
        save: Called every `save_seconds` and at the end.
    """

    report: Callable[[TrainingProgress], None]
    save: Callable[[TrainingProgress], None]


def rate_factor(done: float, schedule: Schedule) -> float:
    """Return the factor of the learning rate when the share `done` of a stage is over."""
    share = min(1.0, done)
    return min(1.0, share / schedule.warmup) * (1.0 - share)


class Stage:
    """The training loop of a stage.

    Args:
        model: The model, on its device.
        schedule: Duration and rates.
        groups: Parameters and their learning rates.
        hooks: Callbacks.
        processes: The processes that train together, each with its own examples.
    """

    def __init__(
        self,
        model: NSALanguageModel,
        schedule: Schedule,
        groups: list[tuple[list[nn.Parameter], float]],
        hooks: Hooks,
        processes: Processes | None = None,
    ) -> None:
        self.model, self.schedule, self.hooks = model, schedule, hooks
        self.processes = processes or Processes()
        self.optimizer = torch.optim.AdamW(
            [{"params": parameters, "lr": rate, "full": rate} for parameters, rate in groups],
            betas=(0.9, 0.98),
            weight_decay=0.0,
        )
        self.progress = TrainingProgress()
        self._values: dict[str, list[Tensor]] = {}

    def run(
        self, batches: Iterator[Batch], losses_of: Callable[[Batch], dict[str, Tensor]]
    ) -> TrainingProgress:
        """Train until the time is over, for at least one step.

        Args:
            batches: Examples of each step.
            losses_of: Returns values by name; the loss is the sum of those named `loss …`.

        Raises:
            OutOfMemoryError: If the device runs out of memory in the first step.
        """
        began = saved = time.monotonic()
        progress = self.progress
        while (done := self._done(time.monotonic() - began)) < 1.0 or not progress.step:
            batch = next(batches)
            for group in self.optimizer.param_groups:
                group["lr"] = group["full"] * rate_factor(done, self.schedule)
            losses = self._gradients(batch, losses_of)
            if losses is None:
                progress.left_out += 1
                if self.processes.count == 1:
                    continue  # with several processes, the gradients of the others count
            self._update()
            progress.step += 1
            progress.tokens += sum(len(example.ids) for example in batch) * self.processes.count
            progress.seconds = time.monotonic() - began
            for name, value in (losses or {}).items():
                self._values.setdefault(name, []).append(value.detach())
            if progress.step % 10 == 0:
                self._report()
            if time.monotonic() - saved > self.schedule.save_seconds:
                saved = time.monotonic()
                self._save()
        if self._values:
            self._report()
        self._save()
        return progress

    def _gradients(
        self, batch: Batch, losses_of: Callable[[Batch], dict[str, Tensor]]
    ) -> dict[str, Tensor] | None:
        """Compute losses and gradients; None if the device ran out of memory."""
        self.optimizer.zero_grad()
        try:
            losses = losses_of(batch)
            total = sum(loss for name, loss in losses.items() if name.startswith("loss "))
            assert isinstance(total, Tensor)
            total.backward()
        except torch.OutOfMemoryError:
            if not self.progress.step:
                raise
            self.optimizer.zero_grad()
            return None
        return losses

    def _update(self) -> None:
        """Average and clip the gradients and update the parameters; skip non-finite gradients."""
        groups = self.optimizer.param_groups
        for group in groups:
            self.processes.average(group["params"])
        norms = [nn.utils.clip_grad_norm_(group["params"], self.schedule.clip) for group in groups]
        if all(bool(norm.isfinite()) for norm in norms):
            self.optimizer.step()

    def _report(self) -> None:
        """Report the means of the values since the last report."""
        progress, values = self.progress, self._values
        progress.losses = {name: float(torch.stack(x).mean()) for name, x in values.items()}
        row = {"step": progress.step, "tokens": progress.tokens, "left out": progress.left_out}
        progress.history.append({**row, "seconds": round(progress.seconds, 1), **progress.losses})
        values.clear()
        if self.processes.first:
            self.hooks.report(progress)

    def _save(self) -> None:
        if self.processes.first:
            self.hooks.save(self.progress)

    def _done(self, seconds: float) -> float:
        """Return the share of the stage that is over, by time or by steps."""
        steps = self.schedule.steps
        return self.processes.broadcast(
            max(
                seconds / self.schedule.seconds,
                0.0 if steps is None else self.progress.step / steps,
            )
        )

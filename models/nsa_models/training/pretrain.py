"""The training loop from scratch: packed documents, accumulation, schedule, saving, resuming.

Letters: R rows, T tokens, P positions, V vocabulary.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from nsa_models.errors import UsageError
from nsa_models.modeling.model import NSALanguageModel
from nsa_models.training.distributed import Processes
from nsa_models.training.flops import multiplied_parameters, peak_flops, step_flops
from nsa_models.training.heldout import heldout_loss
from nsa_models.training.optimizers import make_optimizers
from nsa_models.training.parallel import ParallelModule
from nsa_models.training.pass_graphs import PassGraphs
from nsa_models.training.pretrain_settings import PretrainSettings, rate_share
from nsa_models.training.rows import PackedBatch, Passes, Rows
from nsa_models.training.token_losses import TokenLosses, compile_parts
from nsa_models.training.update import Update

Row = dict[str, Any]
"""A row of a log."""


@dataclass(slots=True, kw_only=True)
class PretrainProgress:
    """Progress of a training from scratch.

    Attributes:
        step: Completed steps.
        seconds: Wall-clock time of the training, of earlier runs too.
        skipped: Steps without an update, because the gradient was not finite.
        finished: Whether the training is over, not only this run.
    """

    step: int = 0
    seconds: float = 0.0
    skipped: int = 0
    finished: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PretrainHooks:
    """Callbacks of a training from scratch, called in the first process.

    Attributes:
        report: Called every `log_steps` with a row for each step since the last call.
        heldout: Called with each loss on held-out documents.
        save: Called with the state, to be given to `Pretraining.resume`, and the weights by name.
    """

    report: Callable[[list[Row]], None] = lambda _: None
    heldout: Callable[[Row], None] = lambda _: None
    save: Callable[[dict[str, Any]], None] = lambda _: None


@dataclass(slots=True)
class _Interval:
    """What happened since the last report."""

    rows: list[Row] = field(default_factory=list)
    losses: list[Tensor] = field(default_factory=list)
    seconds: float = 0.0
    tokens: int = 0
    flops: float = 0.0


class Pretraining:
    """A training from scratch.

    Args:
        model: The model in fp32, on its device, the same in every process.
        rows: Rows of packed documents to train on.
        heldout: Batches of held-out documents.
        settings: Duration, rates and sizes.
        hooks: Callbacks.
        processes: The processes that train together.

    Raises:
        UsageError: If the processes cannot share the rows of a step evenly, or the optimizer is
            not available.
    """

    def __init__(
        self,
        model: NSALanguageModel,
        rows: Rows,
        heldout: list[PackedBatch],
        settings: PretrainSettings,
        hooks: PretrainHooks,
        processes: Processes,
    ) -> None:
        self._rows, self._heldout, self.settings = rows, heldout, settings
        self._hooks, self._processes, self._config = hooks, processes, model.config
        each = settings.rows_per_pass * processes.count
        if settings.rows % each:
            raise UsageError(
                f"a step has {settings.rows} rows, and {processes.count} processes take "
                f"{settings.rows_per_pass} each per pass",
                hint=f"make batch_tokens a multiple of {each * settings.context:,}",
            )
        if settings.cuda_graphs and processes.count > 1:
            raise UsageError(
                "cuda_graphs needs one process, and several were started",
                hint="leave cuda_graphs out",
            )
        self._passes = settings.rows // each
        self._device = model.device
        self._parameters = multiplied_parameters(model)
        module = TokenLosses(
            model,
            settings.loss_chunk,
            choice=settings.choice_loss,
            choice_queries=settings.choice_queries,
        )
        self._losses = module
        if settings.compile:
            compile_parts(module)
        sharded = settings.parallel == "fsdp"
        self._module = ParallelModule(module, model.model.layers, processes, sharded=sharded)
        self._graphs = PassGraphs(module) if settings.cuda_graphs else None
        self._optimizers = make_optimizers(module, settings, self._device)
        self._update = Update(
            self._module, self._optimizers, settings.clip, graphs=settings.cuda_graphs
        )
        self._peak = settings.peak_flops or peak_flops(self._device)
        self.progress = PretrainProgress()
        self._interval = _Interval()
        self._saved_step = -1

    @property
    def parameters(self) -> int:
        """Parameters that are multiplied with each token."""
        return self._parameters

    def resume(self, state: dict[str, Any]) -> None:
        """Continue from a state that the hook `save` got."""
        self._module.load(state, self._optimizers)
        self.progress.step, self.progress.skipped = state["step"], state["skipped"]
        self.progress.seconds = state["seconds"]
        self._saved_step = self.progress.step

    def run(self) -> PretrainProgress:
        """Train until the budget or the time of this run is over."""
        settings, progress = self.settings, self.progress
        began = saved = time.monotonic()
        begun, before, batches = progress.step, progress.seconds, self._batches()
        limit = settings.limit_seconds
        while (done := self._done()) < 1.0:
            if limit is not None and self._processes.broadcast(time.monotonic() - began) > limit:
                break
            self._step(batches, done)
            progress.seconds = before + time.monotonic() - began
            if progress.step % settings.log_steps == 0:
                self._report()
            if progress.step % settings.heldout_steps == 0 or progress.step == settings.steps:
                self._measure_heldout()
            elapsed = self._processes.broadcast(time.monotonic() - saved)
            by_steps = settings.save_steps and progress.step % settings.save_steps == 0
            if elapsed > settings.save_seconds or by_steps:
                self._save()
                saved = time.monotonic()
        progress.finished = self._done() >= 1.0
        self._report()
        timed = settings.steps is None and begun < progress.step
        if timed and progress.finished and progress.step % settings.heldout_steps:
            self._measure_heldout()
        if self._saved_step != progress.step:
            self._save()
        return progress

    def _batches(self) -> Iterator[PackedBatch]:
        """Return the batches of this process from the current step on."""
        processes = self._processes
        passes = Passes(self._rows, self.settings.rows_per_pass, processes.number, processes.count)
        first = self.progress.step * self._passes
        # This process reads them: a batch takes less than a millisecond, and a pass many of them.
        return iter(
            DataLoader(
                passes,
                batch_size=None,
                sampler=range(first, 2**62),
                pin_memory=self._device.type == "cuda",
            )
        )

    def _step(self, batches: Iterator[PackedBatch], done: float) -> None:
        """Compute the gradients of a step and update the parameters."""
        settings, progress, interval = self.settings, self.progress, self._interval
        began = time.monotonic()
        self._losses.full = done < settings.full_selection
        attention = self._config.prefill_settings()
        if self._losses.full and attention.combine == "gated":
            attention = replace(attention, select_count=None)
        targets = self._rows.targets(progress.step * settings.rows, settings.rows)
        total = torch.zeros((), device=self._device)
        rate = settings.rate * rate_share(done, settings)
        for number in range(self._passes):
            batch = next(batches)
            scale = self._processes.count / targets
            if self._graphs is None or not self._graphs.run(batch, scale):
                with self._module.accumulating(number == self._passes - 1):
                    loss, _ = self._module(batch.to(self._device))
                    (loss * scale).backward()
                total += loss.detach()
            interval.flops += self._processes.count * step_flops(
                batch.lengths, self._config, attention, self._parameters
            )
        if self._graphs is not None:
            total += self._graphs.take_total()
        norm, updated = self._update.run(rate)
        progress.skipped += not updated
        loss = self._module.sum(total) / targets
        progress.step += 1
        interval.seconds += time.monotonic() - began
        interval.tokens += settings.batch_tokens
        tokens = progress.step * settings.batch_tokens
        row = {"step": progress.step, "tokens": tokens, "loss": loss, "rate": rate, "norm": norm}
        interval.rows.append(row)

    def _done(self) -> float:
        """Return the share of the training that is over, in the middle of the next step."""
        settings, progress = self.settings, self.progress
        if (steps := settings.steps) is not None:
            return 1.0 if progress.step >= steps else (progress.step + 0.5) / steps
        assert settings.seconds is not None
        average = progress.seconds / progress.step if progress.step else 0.0
        share = (progress.seconds + average / 2) / settings.seconds
        return self._processes.broadcast(share if progress.step else 1e-9)

    def _report(self) -> None:
        """Report the steps since the last report."""
        interval, self._interval = self._interval, _Interval()
        if not interval.rows:
            return
        rows = [
            {name: float(x) if isinstance(x, Tensor) else x for name, x in row.items()}
            for row in interval.rows
        ]
        seconds = max(interval.seconds, 1e-9)
        rows[-1]["seconds"] = round(self.progress.seconds, 2)
        rows[-1]["tokens_per_second"] = round(interval.tokens / seconds, 1)
        if self._peak is not None:
            peak = self._peak * self._processes.count
            rows[-1]["share_of_peak"] = round(interval.flops / seconds / peak, 4)
        if self._device.type == "cuda":
            rows[-1]["memory_gb"] = round(torch.cuda.max_memory_allocated(self._device) / 1e9, 2)
        if self.progress.skipped:
            rows[-1]["skipped"] = self.progress.skipped
        if self._processes.first:
            self._hooks.report(rows)

    def _measure_heldout(self) -> None:
        """Report the steps, and the loss on held-out documents."""
        self._report()
        if not self._heldout:
            return
        # Each batch has other lengths, for which the parts would be compiled again.
        with torch.compiler.set_stance("force_eager" if self.settings.compile else "default"):
            row = heldout_loss(self._module, self._heldout, self._device, self._processes)
        tokens = self.progress.step * self.settings.batch_tokens
        if self._processes.first:
            self._hooks.heldout({"step": self.progress.step, "tokens": tokens, **row})

    def _save(self) -> None:
        """Report, and give the state to the hook."""
        self._report()
        state = self._module.state(self._optimizers)
        progress = self.progress
        if self._processes.first:
            self._hooks.save(
                {
                    **state,
                    "step": progress.step,
                    "seconds": progress.seconds,
                    "skipped": progress.skipped,
                }
            )
        self._saved_step = progress.step
        self._processes.wait()

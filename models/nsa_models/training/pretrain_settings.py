"""Settings of a training from scratch, and its learning rate."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

ScheduleName = Literal["wsd", "cosine"]
OptimizerName = Literal["adamw", "muon"]
Parallelism = Literal["ddp", "fsdp"]

_CHOICES: dict[str, tuple[str, ...]] = {
    "schedule": get_args(ScheduleName),
    "optimizer": get_args(OptimizerName),
    "parallel": get_args(Parallelism),
}
_POSITIVE = (
    *("context", "batch_tokens", "rate", "rows_per_pass", "loss_chunk", "heldout_steps"),
    *("heldout_tokens", "save_seconds", "log_steps", "clip", "choice_queries"),
)
_ACCEPTED = {"int": ("int",), "float": ("int", "float"), "bool": ("bool",)}
_TYPE_NAMES = {"int": "a whole number", "float": "a number", "bool": "true or false"}
_SHARES = ("warmup", "decay", "floor", "last", "full_selection")

FREE = frozenset(
    {"log_steps", "save_seconds", "save_steps", "loss_chunk", "compile", "cuda_graphs", "parallel"}
    | {"peak_flops", "heldout_steps", "rows_per_pass", "heldout_tokens", "limit_seconds"}
)
"""Settings that a resumed run may change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PretrainSettings:
    """Settings of a training from scratch.

    Attributes:
        context: Tokens of a row, T.
        batch_tokens: Tokens of a step, over all processes.
        tokens: Tokens of the whole training, which the schedule follows; None for `seconds`.
        seconds: Time of the whole training, which the schedule follows without `tokens`.
        limit_seconds: Time after which this run saves and stops, to be resumed; None for no limit.
        schedule: `wsd`, constant and then a linear decay, or `cosine`.
        warmup: Share of the training in which the learning rate rises from 0.
        decay: Share of the training in which `wsd` decays, at its end.
        floor: Learning rate at the end, as a share of `rate`.
        last: Share of the training that reads the last documents, if it has some, at its end.
        rate: Learning rate.
        optimizer: `adamw`, or `muon` for matrices of layers and AdamW for other parameters.
        beta1: Decay of AdamW's first moment.
        beta2: Decay of AdamW's second moment.
        weight_decay: Decoupled weight decay of matrices.
        clip: Maximum norm of the gradient.
        seed: Seed of the weights and of the order of documents.
        whole_rows: Whether each row is of one document, which leaves out shorter documents.
        rows_per_pass: Rows of a forward pass of a process.
        loss_chunk: Positions whose logits are in memory.
        choice_loss: Weight of the loss that teaches the choice of blocks; 0 for none. It needs
            `whole_rows`, and dense attention has none.
        choice_queries: Queries of a row with that loss.
        full_selection: Share of the training, at its start, in which the selection of `gated`
            attention takes all blocks. It needs `whole_rows`.
        parallel: `ddp`, replicas of the model, or `fsdp`, shards of it.
        compile: Whether to compile the parts of the layers outside the attention.
        cuda_graphs: Whether to replay passes from CUDA graphs.
        peak_flops: Peak FLOP/s of a device; None for the data sheet's.
        log_steps: Steps between two reports.
        heldout_steps: Steps between two losses on held-out documents.
        heldout_tokens: Held-out tokens of a measurement.
        save_seconds: Time between two saves.
        save_steps: Steps between two saves, in addition; None for none.
    """

    context: int = 4096
    batch_tokens: int = 131_072
    tokens: int | None = None
    seconds: float | None = None
    limit_seconds: float | None = None
    schedule: ScheduleName = "wsd"
    warmup: float = 0.02
    decay: float = 0.2
    floor: float = 0.0
    last: float = 0.1
    rate: float = 1e-3
    optimizer: OptimizerName = "adamw"
    beta1: float = 0.9
    beta2: float = 0.95
    weight_decay: float = 0.1
    clip: float = 1.0
    seed: int = 0
    whole_rows: bool = False
    rows_per_pass: int = 1
    loss_chunk: int = 4096
    choice_loss: float = 0.0
    choice_queries: int = 512
    full_selection: float = 0.0
    parallel: Parallelism = "ddp"
    compile: bool = False
    cuda_graphs: bool = False
    peak_flops: float | None = None
    log_steps: int = 10
    heldout_steps: int = 500
    heldout_tokens: int = 262_144
    save_seconds: float = 120.0
    save_steps: int | None = None

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ValueError: If a value is out of range or two values contradict each other.
        """
        self._check_types()
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} is {getattr(self, name)!r}; use {' or '.join(choices)}")
        for name in _POSITIVE:
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be positive")
        for name in _SHARES:
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be from 0 to 1")
        if self.batch_tokens % (self.context * self.rows_per_pass):
            raise ValueError(
                f"batch_tokens is {self.batch_tokens}; it must be a multiple of "
                f"{self.context * self.rows_per_pass}, context times rows_per_pass"
            )
        if self.choice_loss < 0.0:
            raise ValueError(f"choice_loss is {self.choice_loss}; it must not be negative")
        if self.choice_loss and not self.whole_rows:
            raise ValueError("choice_loss needs whole_rows")
        if self.full_selection and not self.whole_rows:
            raise ValueError("full_selection needs whole_rows")
        if self.tokens is None and self.seconds is None:
            raise ValueError("the training has neither tokens nor seconds")

    def _check_types(self) -> None:
        """Check that numbers are numbers, as a file may have something else.

        Raises:
            ValueError: If a value has another type than its field.
        """
        for each in fields(self):
            value, kinds = getattr(self, each.name), str(each.type).split(" | ")
            if each.name in _CHOICES or (value is None and "None" in kinds):
                continue
            names = _ACCEPTED[kinds[0]]
            if type(value).__name__ not in names:
                raise ValueError(f"{each.name} is {value!r}; it must be {_TYPE_NAMES[kinds[0]]}")

    @property
    def rows(self) -> int:
        """Rows of a step."""
        return self.batch_tokens // self.context

    @property
    def steps(self) -> int | None:
        """Steps of the whole training, rounded up; None if time limits it."""
        return None if self.tokens is None else max(1, -(-self.tokens // self.batch_tokens))

    @property
    def first_of_last(self) -> int:
        """Number of the first row of the last documents.

        Raises:
            ValueError: If time limits the training, whose last step is not known.
        """
        if self.steps is None:
            raise ValueError("a training by time has no known last step")
        return round(self.steps * (1.0 - self.last)) * self.rows

    def differing(self, other: dict[str, Any]) -> list[str]:
        """Return the settings that must not differ in a resumed run, but do.

        Args:
            other: Values of the earlier run by name.
        """
        kept = [each for each in fields(self) if each.name not in FREE]
        # A run of an earlier version lacks the later settings.
        return [x.name for x in kept if getattr(self, x.name) != other.get(x.name, x.default)]


def rate_share(done: float, settings: PretrainSettings) -> float:
    """Return the learning rate as a share of `rate` when the share `done` of a training is over."""
    done = min(1.0, max(0.0, done))
    if done < settings.warmup:
        return done / settings.warmup
    if settings.schedule == "cosine":
        left = (1.0 - done) / max(1e-9, 1.0 - settings.warmup)
        fall = 0.5 - 0.5 * math.cos(math.pi * left)
    else:
        fall = min(1.0, (1.0 - done) / settings.decay) if settings.decay else 1.0
    return settings.floor + (1.0 - settings.floor) * fall

"""Training steps prepared by separate processes while the model trains."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from nsa_cli.context.prompt import PromptBuilder
from nsa_cli.training.examples import TrainingData, training_steps
from nsa_cli.training.plan import TrainingPlan
from nsa_models.training.lessons import Step
from nsa_models.training.together import Together

_PREFETCHED = 8
"""Steps that each loader process prepares ahead."""

_PROCESSES = 2

_BLOCK = 64
"""Tokens of a selection block."""


class _Steps(IterableDataset[Step]):
    """Endless training steps, with a different seed in each loader process."""

    def __init__(self, make: Callable[..., Iterator[Step]], seed: int) -> None:
        self._make, self._seed = make, seed

    def __iter__(self) -> Iterator[Step]:
        worker = get_worker_info()
        return self._make(seed=self._seed * _PROCESSES + (worker.id if worker else 0))


def load_steps(
    prompts: PromptBuilder,
    data: TrainingData,
    plan: TrainingPlan,
    seed: int,
    together: Together,
    *,
    short: bool,
) -> Iterator[Step]:
    """Endless training steps, different in each training process; see `training_steps`."""
    make = partial(
        training_steps, prompts, data, plan.lengths, _BLOCK, short=short, process=together.number
    )
    return iter(
        DataLoader(
            _Steps(make, seed),
            batch_size=None,
            num_workers=_PROCESSES,
            prefetch_factor=_PREFETCHED,
            collate_fn=_unchanged,
            # A fork of one of several processes can inherit a lock that is never released.
            multiprocessing_context="spawn" if together.count > 1 else None,
        )
    )


def _unchanged(step: Step) -> Step:
    return step

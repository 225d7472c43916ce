"""Training in several processes equals training in one process with all examples."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from nsa_models.errors import UsageError
from nsa_models.training.distributed import Processes

SCRIPT = """
import sys

import torch
from torch import nn

from nsa_models.training.stage import Hooks, Schedule, Stage
from nsa_models.training.distributed import Processes

processes = Processes(cpu=True)
assert processes.count == 2
assert processes.first == (processes.number == 0)
assert processes.broadcast(float(processes.number)) == 0.0
parameter, other = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(2))
told, saved = [], []
stage = Stage(
    nn.Linear(1, 1),
    Schedule(seconds=1e9, steps=4, clip=1e9, warmup=1e-9),
    [([parameter], 0.1), ([other], 0.1)],
    Hooks(
        report=lambda progress: told.append(progress.tokens),
        save=lambda progress: saved.append(progress.step),
    ),
    processes,
)


class Lesson:
    ids = range(5)


turns = iter(range(9))
out_of_memory = {2} if processes.number else {1, 2}


def losses(step):
    if next(turns) in out_of_memory:
        raise torch.OutOfMemoryError
    # Each process its own slope; one of them has nothing to say of the second parameter.
    loss = (parameter * (processes.number * 3 - 1)).square().sum()
    return {"loss a": loss + other.square().sum() * 2 if processes.first else loss}


stage.run(iter(lambda: [Lesson()], None), losses)
assert (told, saved) == (([40], [4]) if processes.first else ([], []))
assert stage.progress.left_out == len(out_of_memory)
torch.save([parameter.detach(), other.detach()], f"{sys.argv[1]}/{processes.number}.pt")
"""


@pytest.mark.long
def test_two_processes_equal_one_and_skip_examples_without_memory(
    tmp_path: Path, two_processes: Callable[..., str]
) -> None:
    script = tmp_path / "both.py"
    script.write_text(SCRIPT)
    two_processes(str(script), str(tmp_path))
    first, second = (torch.load(tmp_path / f"{number}.pt") for number in range(2))
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a, b)

    parameter, other = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(2))
    optimizer = torch.optim.AdamW([parameter, other], lr=0.1, betas=(0.9, 0.98), weight_decay=0.0)
    for step in range(4):
        optimizer.param_groups[0]["lr"] = 0.1 * (1 - step / 4) if step else 0.0  # warm-up
        optimizer.zero_grad()
        # The first process skips the second example, both skip the third.
        mine = parameter.square().sum() + other.square().sum() * 2
        theirs = parameter.square().sum() * 4 + other.square().sum() * 0
        loss = (mine * (step not in {1, 2}) + theirs * (step != 2)) / 2
        loss.backward()
        optimizer.step()
    torch.testing.assert_close(first, [parameter.detach(), other.detach()])


def test_a_single_process() -> None:
    processes = Processes(cpu=True)
    assert (processes.count, processes.first, processes.device) == (1, True, None)
    assert processes.broadcast(0.3) == 0.3
    parameter = nn.Parameter(torch.ones(2))
    processes.average([parameter])
    assert parameter.grad is None


def test_several_processes_without_accelerate_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "accelerate", None)
    assert Processes(cpu=True).count == 1
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="several processes need the library accelerate"):
        Processes(cpu=True)

"""Replicas and shards in two processes train like one process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch

from nsa_models.configuration.config import NSAConfig
from nsa_models.training.shards import Shards

SCRIPT = """
import json, sys
from pathlib import Path

import torch

from nsa_models.configuration.config import NSAConfig
from nsa_models.training.checkpoint import load_checkpoint, save_checkpoint
from nsa_models.training.distributed import Processes
from nsa_models.training.initial import initial_model
from nsa_models.training.pretrain import Pretraining, PretrainHooks
from nsa_models.training.pretrain_settings import PretrainSettings
from nsa_models.training.rows import PackedRows, heldout_batches
from nsa_models.training.shards import open_shards

folder, out, parallel = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
out.mkdir(exist_ok=True)
processes = Processes(cpu=True)
assert processes.count == int(sys.argv[4])
config = NSAConfig(**json.loads((folder / "model.json").read_text()))
shards = open_shards([folder / "shards"])
settings = PretrainSettings(
    context=48, batch_tokens=192, tokens=192 * 5, heldout_steps=5, save_steps=3, log_steps=1,
    parallel=parallel, rate=3e-3,
)
rows, heldout = [], []


def train(state):
    run = Pretraining(
        initial_model(config, 0, torch.device("cpu")),
        PackedRows(shards.train, 48, 0),
        heldout_batches(shards.heldout, 48, 1000),
        settings,
        PretrainHooks(
            report=rows.extend, heldout=heldout.append,
            save=lambda state: save_checkpoint(out / str(state["step"]), state),
        ),
        processes,
    )
    if state is not None:
        run.resume(state)
    run.run()


train(None)
first, last = list(rows), list(heldout)
rows.clear()
processes.wait()
train(load_checkpoint(out / "3"))
if processes.first:
    losses = [[row["loss"], row["norm"]] for row in first]
    assert [[row["loss"], row["norm"]] for row in rows] == losses[3:]
    (out / "losses.json").write_text(json.dumps({"steps": losses, "heldout": last[-1]["loss"]}))
if processes.count > 1:
    torch.distributed.destroy_process_group()
"""


@pytest.mark.long
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_two_processes_have_the_losses_of_one(
    native_config: Callable[..., NSAConfig],
    write_shards: Callable[..., Shards],
    words: Callable[[int], Any],
    two_processes: Callable[..., str],
    tmp_path: Path,
    parallel: str,
) -> None:
    write_shards(words(60), words(9))
    config = native_config(compress_hidden=8)
    values = {each.name: getattr(config, each.name) for each in fields(config)}
    (tmp_path / "model.json").write_text(json.dumps(values))
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    two_processes(str(script), str(tmp_path), str(tmp_path / "two"), parallel, "2")
    subprocess.run(
        [sys.executable, str(script), str(tmp_path), str(tmp_path / "one"), parallel, "1"],
        check=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    one, two = (json.loads((tmp_path / n / "losses.json").read_text()) for n in ("one", "two"))
    for name in ("steps", "heldout"):
        wanted = torch.tensor(one[name])
        torch.testing.assert_close(torch.tensor(two[name]), wanted, rtol=1e-4, atol=1e-4)

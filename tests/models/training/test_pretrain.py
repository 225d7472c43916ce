"""Training from scratch: it learns, resumes to the bit, and gives twins the same batches."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nsa_models.configuration.config import NSAConfig
from nsa_models.errors import DataError, UsageError
from nsa_models.training.checkpoint import (
    CHECKPOINT,
    load_checkpoint,
    save_checkpoint,
    save_model,
)
from nsa_models.training.distributed import Processes
from nsa_models.training.heldout import EDGES
from nsa_models.training.initial import initial_model
from nsa_models.training.pretrain import PretrainHooks, Pretraining
from nsa_models.training.pretrain_settings import PretrainSettings
from nsa_models.training.rows import PackedBatch, PackedRows, heldout_batches
from nsa_models.training.shards import Shards
from nsa_models.training.token_losses import TokenLosses
from nsa_models.weights.load import load_config, load_model

Config = Callable[..., NSAConfig]
WriteShards = Callable[..., Shards]
Words = Callable[[int], Any]
CPU = torch.device("cpu")
SETTINGS = PretrainSettings(
    context=48, batch_tokens=192, tokens=192 * 8, rate=3e-3, log_steps=3, save_steps=3,
    heldout_steps=4,
)  # fmt: skip


class Record:
    """What the hooks of a training got."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.rows: list[dict[str, Any]] = []
        self.heldout: list[dict[str, Any]] = []
        self.states: list[dict[str, Any]] = []
        self._stop_after = stop_after

    def hooks(self) -> PretrainHooks:
        def report(rows: list[dict[str, Any]]) -> None:
            self.rows += rows
            if self._stop_after and rows[-1]["step"] > self._stop_after:
                raise KeyboardInterrupt

        def save(state: dict[str, Any]) -> None:
            # A later step changes the tensors in place.
            self.states.append(torch.load(_bytes_of(state), weights_only=True))

        return PretrainHooks(report=report, heldout=self.heldout.append, save=save)

    def losses(self) -> dict[int, tuple[float, float]]:
        return {row["step"]: (row["loss"], row["norm"]) for row in self.rows}


def _bytes_of(state: dict[str, Any]) -> Any:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return file


def training(
    config: NSAConfig, shards: Shards, record: Record, settings: PretrainSettings = SETTINGS
) -> Pretraining:
    return Pretraining(
        initial_model(config, settings.seed, CPU),
        PackedRows(shards.train, settings.context, settings.seed),
        heldout_batches(shards.heldout, settings.context, settings.heldout_tokens),
        settings,
        record.hooks(),
        Processes(cpu=True),
    )


@pytest.mark.long
def test_a_toy_learns_to_copy_from_blocks_outside_its_window(
    native_config: Config, write_shards: WriteShards
) -> None:
    rng = np.random.default_rng(0)
    half = 32  # the window has 8 tokens

    def document() -> Any:
        return np.tile(rng.integers(0, 32, half), 2)

    shards = write_shards([document() for _ in range(3000)], [document() for _ in range(40)])
    context = 2 * half + 1
    settings = replace(
        SETTINGS, context=context, batch_tokens=16 * context, tokens=16 * context * 210,
        rows_per_pass=16, heldout_steps=1000, log_steps=210, save_steps=None,
    )  # fmt: skip
    record = Record()
    run = training(native_config(), shards, record, settings)
    assert run.run().finished
    model = run._module._plain
    assert isinstance(model, TokenLosses)
    losses = torch.cat(
        [model(batch)[1] for batch in heldout_batches(shards.heldout, context, 10_000)]
    )
    assert float(losses[:, : half - 1].mean()) > 3.0  # ln 32 = 3.47: a guess
    assert float(losses[:, half:-1].mean()) < 0.8


@pytest.mark.parametrize(
    ("kind", "optimizer"),
    [
        ("φ", "adamw"),
        ("dense", "muon"),
        *(
            pytest.param(*each, marks=pytest.mark.long)
            for each in (("gated", "adamw"), ("gated", "muon"), ("φ", "muon"), ("dense", "adamw"))
        ),
    ],
)
def test_a_resumed_run_equals_an_unbroken_one_to_the_bit(
    native_config: Config, write_shards: WriteShards, words: Words, kind: str, optimizer: str
) -> None:
    changes: dict[str, dict[str, Any]] = {
        "gated": {},
        "φ": {"compress_hidden": 8},
        "dense": {"combine": "union", "select_count": None, "answer_select_count": None},
    }
    config, shards = native_config(**changes[kind]), write_shards(words(60), words(9))
    settings = replace(SETTINGS, optimizer=optimizer)
    whole, broken, resumed = Record(), Record(stop_after=3), Record()
    training(config, shards, whole, settings).run()
    with pytest.raises(KeyboardInterrupt):
        training(config, shards, broken, settings).run()
    assert [state["step"] for state in broken.states] == [3]
    again = training(config, shards, resumed, settings)
    again.resume(broken.states[-1])
    assert again.run().step == 8
    assert list(resumed.losses()) == [4, 5, 6, 7, 8]
    assert {**broken.losses(), **resumed.losses()} == whole.losses()
    assert resumed.heldout == whole.heldout
    for name, tensor in whole.states[-1]["model"].items():
        assert torch.equal(resumed.states[-1]["model"][name], tensor), name


@pytest.mark.long
def test_a_parameter_without_gradients_resumes_too(
    native_config: Config, write_shards: WriteShards
) -> None:
    short = [np.arange(3) for _ in range(120)]  # φ has a block of 8
    config, shards = native_config(compress_hidden=8), write_shards(short)
    whole, first, resumed = Record(), Record(), Record()
    training(config, shards, whole).run()
    run = training(config, shards, first, replace(SETTINGS, limit_seconds=1e-9))
    assert run.run().step == 0
    again = training(config, shards, resumed)
    again.resume(first.states[-1])
    again.run()
    assert resumed.losses() == whole.losses()
    third = training(config, shards, Record())
    third.resume(whole.states[0])
    assert third.run().step == 8


KILLED = """
import os, signal, sys
from pathlib import Path

from nsa_models.configuration.config import NSAConfig
from nsa_models.training.checkpoint import load_checkpoint, save_checkpoint
from nsa_models.training.distributed import Processes
from nsa_models.training.initial import initial_model
from nsa_models.training.pretrain import Pretraining, PretrainHooks
from nsa_models.training.pretrain_settings import PretrainSettings
from nsa_models.training.rows import PackedRows
from nsa_models.training.shards import open_shards
import json, torch

folder, kill_after = Path(sys.argv[1]), int(sys.argv[2])
config = NSAConfig(**json.loads((folder / "model.json").read_text()))
settings = PretrainSettings(**json.loads((folder / "settings.json").read_text()))


def report(rows):
    with (folder / "log.jsonl").open("a") as file:
        file.writelines(json.dumps([row["step"], row["loss"]]) + "\\n" for row in rows)
    if rows[-1]["step"] == kill_after:
        os.kill(os.getpid(), signal.SIGKILL)


run = Pretraining(
    initial_model(config, 0, torch.device("cpu")),
    PackedRows(open_shards([folder / "shards"]).train, settings.context, 0),
    [], settings,
    PretrainHooks(report=report, save=lambda state: save_checkpoint(folder, state)),
    Processes(cpu=True),
)
state = load_checkpoint(folder)
if state is not None:
    run.resume(state)
run.run()
"""


@pytest.mark.long
def test_a_killed_process_continues_from_its_checkpoint(
    native_config: Config, write_shards: WriteShards, words: Words, tmp_path: Path
) -> None:
    write_shards(words(60))
    config = native_config()
    values = {each.name: getattr(config, each.name) for each in fields(config)}
    (tmp_path / "model.json").write_text(json.dumps(values))
    few = {"context": 48, "batch_tokens": 192, "tokens": 192 * 6, "save_steps": 2, "log_steps": 1}
    (tmp_path / "settings.json").write_text(json.dumps(few))
    log = tmp_path / "log.jsonl"

    def run(kill_after: int) -> tuple[int, list[list[float]]]:
        done = subprocess.run(
            [sys.executable, "-c", KILLED, str(tmp_path), str(kill_after)],
            capture_output=True,
            text=True,
            timeout=300,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        rows = [json.loads(line) for line in log.read_text().splitlines()]
        log.unlink()
        assert done.returncode in (0, -signal.SIGKILL), done.stderr
        return done.returncode, rows

    code, first = run(kill_after=5)
    assert (code, [step for step, _ in first]) == (-signal.SIGKILL, [1, 2, 3, 4, 5])
    code, second = run(kill_after=0)
    assert (code, [step for step, _ in second]) == (0, [5, 6])
    (tmp_path / CHECKPOINT).unlink()
    assert run(kill_after=0) == (0, [*first[:4], *second])
    assert first[4] == second[0]


def test_twins_see_the_same_batches(
    native_config: Config,
    write_shards: WriteShards,
    words: Words,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shards = write_shards(words(60))
    seen: list[list[Any]] = []
    forward = TokenLosses.forward

    def watched(self: TokenLosses, batch: PackedBatch) -> Any:
        seen[-1].append((batch.ids.tolist(), batch.targets.tolist(), batch.lengths))
        return forward(self, batch)

    monkeypatch.setattr(TokenLosses, "forward", watched)
    dense = native_config(combine="union", select_count=None, answer_select_count=None)
    firsts = []
    for config in (native_config(), dense):
        seen.append([])
        record = Record()
        training(config, shards, record).run()
        firsts.append(record.rows[0]["rate"])
    assert seen[0] == seen[1]
    assert len(seen[0]) == 8 * 4
    assert firsts[0] == firsts[1]


def test_accumulated_passes_equal_one_large_pass(
    native_config: Config, write_shards: WriteShards, words: Words
) -> None:
    shards, losses = write_shards(words(60)), []
    for rows in (1, 4):
        record = Record()
        settings = replace(SETTINGS, rows_per_pass=rows)
        training(native_config(), shards, record, settings).run()
        losses.append([loss for loss, _ in record.losses().values()])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_a_time_limit_saves_and_a_later_run_finishes(
    native_config: Config, write_shards: WriteShards, words: Words
) -> None:
    shards, record = write_shards(words(60)), Record()
    limited = replace(SETTINGS, limit_seconds=1e-9)
    progress = training(native_config(), shards, record, limited).run()
    assert (progress.step, progress.finished) == (0, False)
    again = training(native_config(), shards, record)
    again.resume(record.states[-1])
    assert again.run().finished
    timed = replace(SETTINGS, tokens=None, seconds=1e-6)
    assert training(native_config(), shards, Record(), timed).run().step == 1


def test_a_step_without_a_finite_gradient_changes_nothing(
    native_config: Config, write_shards: WriteShards, words: Words
) -> None:
    shards, record = write_shards(words(60)), Record()
    settings = replace(SETTINGS, tokens=192)
    run = training(native_config(), shards, record, settings)
    model = run._module._plain.model
    with torch.no_grad():
        model.model.layers[0].mlp.down_proj.weight[0, 0] = float("nan")
    before = model.model.layers[1].mlp.up_proj.weight.detach().clone()
    assert run.run().skipped == 1
    assert torch.equal(model.model.layers[1].mlp.up_proj.weight, before)
    assert record.rows[-1]["skipped"] == 1


def test_the_held_out_loss_is_the_mean_by_position(
    native_config: Config, write_shards: WriteShards, words: Words
) -> None:
    documents = [np.arange(n) % 60 for n in (100, 20, 70)]
    shards, record = write_shards(words(60), documents), Record()
    settings = replace(SETTINGS, context=96, batch_tokens=192, tokens=192)
    run = training(native_config(), shards, record, settings)
    run.run()
    row = record.heldout[-1]
    assert [(each["from"], each["to"]) for each in row["by_position"]] == [(0, 64), (64, 128)]
    assert [each["tokens"] for each in row["by_position"]] == [64 + 20 + 64, 32 + 6]
    assert row["heldout_tokens"] == 96 + 20 + 70
    total = sum(each["loss"] * each["tokens"] for each in row["by_position"])
    assert row["loss"] == pytest.approx(total / row["heldout_tokens"])
    with torch.no_grad():
        batches = heldout_batches(shards.heldout, 96, 1000)
        losses = torch.cat([run._module(batch)[1].flatten() for batch in batches])
    assert row["loss"] == pytest.approx(float(losses.mean()), rel=1e-5)
    assert EDGES[:3] == (0, 64, 128)


def test_the_written_folder_loads_with_the_same_weights(
    native_config: Config, tmp_path: Path
) -> None:
    config = native_config(compress_hidden=8)
    model = initial_model(config, 0, CPU)
    save_model(tmp_path, config, model.state_dict(), torch.bfloat16)
    loaded, _ = load_config(tmp_path)
    assert loaded.combine == "gated"
    again = load_model(tmp_path, loaded)
    assert again.dtype == torch.bfloat16
    for name, tensor in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor.bfloat16()), name


def test_a_broken_checkpoint_is_refused(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path) is None
    save_checkpoint(tmp_path, {"step": 3})
    loaded = load_checkpoint(tmp_path)
    assert loaded is not None
    assert loaded["step"] == 3
    (tmp_path / CHECKPOINT).write_bytes(b"x")
    with pytest.raises(DataError, match=r"cannot read .*checkpoint\.pt"):
        load_checkpoint(tmp_path)


def test_rows_that_processes_cannot_share_are_refused(
    native_config: Config, write_shards: WriteShards, words: Words
) -> None:
    settings = replace(SETTINGS, rows_per_pass=2, batch_tokens=96)
    three = Processes(cpu=True)
    three.count = 3
    shards = write_shards(words(60))
    with pytest.raises(UsageError, match="a step has 2 rows, and 3 processes take 2 each"):
        Pretraining(
            initial_model(native_config(), 0, CPU),
            PackedRows(shards.train, 48, 0),
            [],
            settings,
            PretrainHooks(),
            three,
        )


def test_the_selection_takes_all_blocks_at_first(
    native_config: Config, write_shards: WriteShards, words: Words, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = write_shards(words(20))
    settings = replace(SETTINGS, full_selection=0.4, whole_rows=True, tokens=192 * 5)
    found: list[bool] = []
    forward = TokenLosses.forward

    def recorded(self: TokenLosses, batch: PackedBatch) -> Any:
        found.append(self.full)
        return forward(self, batch)

    monkeypatch.setattr(TokenLosses, "forward", recorded)
    training(native_config(), shards, Record(), settings).run()
    passes = settings.rows
    assert found == [True] * 2 * passes + [False] * 3 * passes


def test_a_training_on_static_inputs_has_the_same_gradients_and_weights(
    native_config: Config, write_shards: WriteShards, words: Words
) -> None:
    long = [np.arange(n) % 61 for n in (200, 150, 300)]
    shards = write_shards([*long, *words(9)], words(9))
    plain, graphs = Record(), Record()
    training(native_config(), shards, plain).run()
    training(native_config(), shards, graphs, replace(SETTINGS, cuda_graphs=True)).run()
    for step, (loss, norm) in plain.losses().items():
        # The losses of rows with and without a graph are summed apart.
        assert graphs.losses()[step] == (pytest.approx(loss, rel=1e-5), norm)
    assert graphs.heldout == plain.heldout
    for name, tensor in plain.states[-1]["model"].items():
        assert torch.equal(graphs.states[-1]["model"][name], tensor), name


def test_graphs_need_one_process(
    native_config: Config, write_shards: WriteShards, words: Words
) -> None:
    two, shards = Processes(cpu=True), write_shards(words(60))
    two.count = 2
    rows = PackedRows(shards.train, 48, 0)
    model, settings = initial_model(native_config(), 0, CPU), replace(SETTINGS, cuda_graphs=True)
    with pytest.raises(UsageError, match="cuda_graphs needs one process"):
        Pretraining(model, rows, [], settings, PretrainHooks(), two)


def test_muon_is_refused_where_it_does_not_fit(
    native_config: Config,
    write_shards: WriteShards,
    words: Words,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shards = write_shards(words(60))
    muon = replace(SETTINGS, optimizer="muon")
    with pytest.raises(UsageError, match="Muon needs whole matrices, and fsdp shards them"):
        training(native_config(), shards, Record(), replace(muon, parallel="fsdp"))
    monkeypatch.delattr(torch.optim, "Muon")
    with pytest.raises(UsageError, match="has no Muon"):
        training(native_config(), shards, Record(), muon)

"""A batch on a Ray cluster of two machines, one of which is killed."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nsa_cli.batch.ray_cluster import on_ray
from nsa_cli.batch.work import Assignment, Pending, Work
from nsa_cli.config.options import Options
from nsa_cli.events import Event, Note
from nsa_models.hub.resolve import resolve_model

pytest.importorskip("ray")
pytestmark = pytest.mark.filterwarnings("ignore")

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def two_machines(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Any, Any]]:
    """A cluster of two nodes on this machine, and its second node."""
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    small = {"num_cpus": 1, "object_store_memory": 80_000_000, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=small)
    second = cluster.add_node(num_cpus=1, object_store_memory=80_000_000)
    cluster.wait_for_nodes()
    yield cluster, second
    cluster.shutdown()


@pytest.fixture
def folder(tmp_path: Path, prose: Any) -> Path:
    """Eight texts, long enough to kill a machine in the middle of one."""
    inside = tmp_path / "docs"
    inside.mkdir()
    for number in range(8):
        (inside / f"{number}.txt").write_text(prose(100, seed=number))
    return inside


def test_a_killed_machine_loses_no_document(
    two_machines: tuple[Any, Any], folder: Path, tiny_model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cluster, second = two_machines
    events: list[Event] = []
    options = Options(model=str(tiny_model), max_tokens=400, device="cpu", store=False)
    assignment = Assignment(work=Work(questions=("Who?", "When?")), options=options, run="0" * 12)
    paths = [str(folder / f"{number}.txt") for number in range(8)]
    pending = [Pending(path=path, done={}) for path in paths]
    where = resolve_model(str(tiny_model), on_progress=print, on_note=print)
    rows, ended = [], []
    with caplog.at_level(logging.INFO, logger="nsa"):
        made = on_ray(pending, assignment, where, cluster.address, events.append)
        for source, row in made:
            if row is not None:
                rows.append(row)
                continue
            ended.append(source.path)
            if len(ended) == 1:  # the other machine has a document, or gets the next one
                cluster.remove_node(second, allow_graceful=False)
    assert "2 machines" in caplog.messages
    assert sorted(ended) == paths
    assert len({row.key for row in rows}) == len(rows) == 16
    assert [row.error for row in rows] == [None] * 16
    notes = [event.text for event in events if isinstance(event, Note)]
    assert any("was lost with its machine; trying again" in note for note in notes)


def test_at_the_command_line(
    two_machines: tuple[Any, Any], nsa: Run, folder: Path, tmp_path: Path
) -> None:
    (folder / "broken.pdf").write_bytes(b"%PDF-1.7 nothing")
    found = []
    for more in ((), ("--ray", two_machines[0].address)):
        out = tmp_path / f"{len(more)}.jsonl"
        words = ("batch", str(folder), "-a", "Who?", "--no-store", "--device", "cpu")
        assert nsa(*words, "-o", str(out), *more)[0] == 5
        rows = [json.loads(line) for line in out.read_text().splitlines()]
        found.append(sorted(rows, key=lambda row: str(row["document"])))
    assert found[0] == found[1]
    assert len(found[0]) == 9


def test_without_a_cluster(nsa: Run, folder: Path) -> None:
    assert "RAY_ADDRESS" not in os.environ
    code, _, err = nsa("batch", str(folder), "-a", "Who?", "--ray", "127.0.0.1:1")
    assert code == 2
    assert "no Ray cluster at 127.0.0.1:1" in err
    assert nsa("batch", str(folder), "-a", "Who?", "--ray", "auto", "--jobs", "2")[0] == 2

"""Release of mapped weights: their content comes back, and other memory is left as it is."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from nsa_models.weights import resident
from nsa_models.weights.resident import release_weights

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="this system does not tell what is mapped"
)


class Weights(nn.Module):
    """A parameter and a buffer."""

    second: Tensor

    def __init__(self, first: Tensor, second: Tensor) -> None:
        super().__init__()
        self.first = nn.Parameter(first, requires_grad=False)
        self.register_buffer("second", second)


@pytest.fixture
def mapped(tmp_path: Path, seed: int) -> Weights:
    """Weights of 4 MB that are mapped from a file."""
    torch.manual_seed(seed)
    path = tmp_path / "weights.safetensors"
    save_file({name: torch.rand(512, 1024) for name in ("first", "second")}, path)
    return Weights(**load_file(path))


def resident_kib(tensor: Tensor) -> int:
    """Resident KiB of the mapping that a tensor begins in."""
    here = found = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if (at := resident._RANGE.match(line)) is not None:
            here = int(at[1], 16) <= tensor.data_ptr() < int(at[2], 16)
            found |= here
        elif here and line.startswith("Rss:"):
            return int(line.split()[1])
    raise AssertionError(found)


def test_mapped_weights_are_released_and_come_back(mapped: Weights) -> None:
    before = mapped.first.clone(), mapped.second.clone()  # reads all of both
    used = resident_kib(mapped.first)
    release_weights(mapped)
    assert resident_kib(mapped.first) < used / 2
    assert torch.equal(mapped.first, before[0])
    assert torch.equal(mapped.second, before[1])


def test_changed_weights_are_left_as_they_are(mapped: Weights) -> None:
    mapped.first[100] = 3.0
    before = mapped.first.clone()
    release_weights(mapped)
    assert torch.equal(mapped.first, before)


def test_weights_in_memory_are_left_as_they_are(seed: int) -> None:
    torch.manual_seed(seed)
    model = Weights(torch.rand(512, 1024), torch.rand(512, 1024).t())
    before = model.first.clone(), model.second.clone()
    release_weights(model)
    assert torch.equal(model.first, before[0])
    assert torch.equal(model.second, before[1])


def test_nothing_is_released_where_the_system_does_not_tell(
    mapped: Weights, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = mapped.first.clone()
    used = resident_kib(mapped.first)
    monkeypatch.setattr(resident, "_SMAPS", tmp_path / "missing")
    release_weights(mapped)
    assert resident_kib(mapped.first) == used
    assert torch.equal(mapped.first, before)


def test_meta_weights_are_left_alone() -> None:
    with torch.device("meta"):
        release_weights(nn.Linear(8, 8))


def test_mappings_of_files_are_told_from_others() -> None:
    smaps = (
        "7f00-7f10 r--p 00000000 fe:00 1201  /a/weights.safetensors\n"
        "Rss:                  16 kB\nAnonymous:             0 kB\n"
        "7f20-7f30 rw-p 00000000 fe:00 1201  /a/weights.safetensors\n"
        "Anonymous:             4 kB\n"
        "7f40-7f50 rw-p 00000000 00:00 0 \nAnonymous:             0 kB\n"
    )
    found = list(resident._file_mappings(smaps))
    assert found == [(0x7F00, 0x7F10, True), (0x7F20, 0x7F30, False)]

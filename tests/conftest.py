"""What all tests share: fresh random numbers, with the seed in the report of a failure."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec

# Tests side by side share the cores, a thread each. PyTorch reads this when it is imported.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch

# Where there is no CUDA device, Triton's kernels run in its interpreter. Triton reads this when a
# kernel is decorated, so it is set before any test imports one.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")


if find_spec("hypothesis"):
    from hypothesis import HealthCheck, settings

    # No test depends on how quick or how busy the machine is.
    settings.register_profile(
        "untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )
    settings.load_profile("untimed")


@pytest.fixture
def seed() -> int:
    """A seed drawn anew each run; pytest shows it when the test fails.

    `NSA_TEST_SEED` sets it, to see a failure again.
    """
    number = int(os.environ.get("NSA_TEST_SEED") or secrets.randbits(31))
    print(f"NSA_TEST_SEED={number}")
    return number


@pytest.fixture(autouse=True)
def _random_numbers(seed: int) -> None:
    """PyTorch's, by the seed, so that no test's depend on which tests ran before it."""
    torch.manual_seed(seed)


@pytest.fixture(scope="session")
def two_processes() -> Callable[..., str]:
    """Run a script or a module (`-m NAME`), with its arguments, in two processes of torchrun.

    They must end well; what they wrote on standard error is returned.
    """

    def run(*program: str) -> str:
        done = subprocess.run(
            [
                *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
                *("--nproc_per_node", "2", *program),
            ],
            capture_output=True,
            text=True,
            timeout=300,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        assert done.returncode == 0, done.stderr
        return done.stderr

    return run

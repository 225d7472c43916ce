"""Fixtures of all tests. Each test has its own random numbers, the same in every run."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import zlib
from collections.abc import Callable
from importlib.util import find_spec

# Parallel tests use one thread each. PyTorch reads this at import.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch

# Without a CUDA device, Triton's kernels run in its interpreter. Triton reads this when a
# kernel is decorated, so it is set before any test imports one.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")


if find_spec("hypothesis"):
    from hypothesis import HealthCheck, settings

    # No test depends on the machine's speed, nor on luck unless asked.
    settings.register_profile(
        "nsa",
        deadline=None,
        derandomize=os.environ.get("NSA_TEST_SEED") != "random",
        suppress_health_check=[HealthCheck.too_slow],
    )
    settings.load_profile("nsa")


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """A seed that follows from the test's name; pytest shows it when the test fails.

    `NSA_TEST_SEED` sets another; `random` is a new one for each test, to search for failures.
    """
    asked = os.environ.get("NSA_TEST_SEED")
    if asked == "random":
        number = secrets.randbits(31)
    else:
        number = int(asked) if asked else zlib.crc32(request.node.nodeid.encode()) >> 1
    print(f"NSA_TEST_SEED={number}")
    return number


@pytest.fixture(autouse=True)
def _random_numbers(seed: int) -> None:
    """Seed PyTorch's generator, so that tests do not depend on earlier tests."""
    torch.manual_seed(seed)


@pytest.fixture(scope="session")
def two_processes() -> Callable[..., str]:
    """Run a script or a module (`-m NAME`) with arguments in two processes of torchrun.

    Both must succeed; the result is their standard error.
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

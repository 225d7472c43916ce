"""What all tests share: fresh random numbers, with the seed in the report of a failure."""

from __future__ import annotations

import os
import secrets

import pytest


@pytest.fixture
def seed() -> int:
    """A seed drawn anew each run; pytest shows it when the test fails.

    `NSA_TEST_SEED` sets it, to see a failure again.
    """
    number = int(os.environ.get("NSA_TEST_SEED") or secrets.randbits(31))
    print(f"NSA_TEST_SEED={number}")
    return number

"""The environment variables that forbid the network."""

from __future__ import annotations

import os

OFFLINE_VARIABLES = ("NSA_OFFLINE", "HF_HUB_OFFLINE")
_TRUE = ("1", "true", "yes", "on")


def offline_variable() -> str | None:
    """Return the name of the environment variable that forbids the network, or None."""
    for name in OFFLINE_VARIABLES:
        if os.environ.get(name, "").strip().lower() in _TRUE:
            return name
    return None

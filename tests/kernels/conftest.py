"""Where there is no CUDA device, Triton's kernels run in its interpreter, on the CPU."""

from __future__ import annotations

import os

import torch

# Triton reads it when a kernel is decorated, so it is set before any test imports one.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")

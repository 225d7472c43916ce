"""Every kernel compiles for Hopper and fits its shared memory, which the interpreter ignores."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    "options",
    [
        "",
        pytest.param(
            "--dims 192,128 --heads 6 --summaries 16,16 --tile 64 --score-stride 4",
            marks=pytest.mark.long,
        ),
        pytest.param(
            "--dims 64,64 --heads 7 --summaries 8,8 --tile 64 --dtype float16",
            marks=pytest.mark.long,
        ),
        "--dims 64,64 --heads 7 --combine union --summaries 4,4 --tile 64 --score-stride 4",
        pytest.param(
            "--dims 64,64 --heads 2 --dtype float32",
            marks=pytest.mark.long,
        ),
        pytest.param(
            "--dims 64,64 --heads 7 --combine union --blocks 64 --capacity 1048576",
            marks=pytest.mark.long,
        ),
    ],
)
def test_kernels_compile_for_hopper(options: str) -> None:
    quiet = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    run = subprocess.run(
        [sys.executable, ROOT / "examples" / "compile_kernels.py", *options.split()],
        env={**quiet, "PYTHONPATH": str(ROOT / "kernels")},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "_importance_kernel" in run.stdout
    assert "_selected_keys_backward_kernel" in run.stdout
    assert ("_attend_kernel" in run.stdout) == ("--tile" not in options)
    assert ("_narrow_kernel" in run.stdout) == ("--capacity" in options)

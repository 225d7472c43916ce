"""Every kernel compiles for Hopper and fits its shared memory, which the interpreter ignores."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

triton = pytest.importorskip("triton")
support = pytest.importorskip("nsa_kernels.gpu.hopper.support")

ROOT = Path(__file__).parents[3]


def compile_kernels(options: str) -> subprocess.CompletedProcess[str]:
    """Run the script outside of the interpreter."""
    kept = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    kept["PYTHONPATH"] = os.pathsep.join([str(ROOT / "kernels"), kept.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, ROOT / "examples" / "compile_kernels.py", *options.split()],
        env=kept,
        capture_output=True,
        text=True,
    )


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
    run = compile_kernels(options)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "_importance_kernel" in run.stdout
    assert "_selected_keys_backward_kernel" in run.stdout
    assert ("_attend_kernel" in run.stdout) == ("--tile" not in options)
    projects = "--tile" not in options and "float32" not in options
    assert ("_heads_kernel" in run.stdout) == projects
    separate = "--tile" not in options and "union" not in options
    assert ("_keep_kernel" in run.stdout) == separate
    assert ("_narrow_kernel" in run.stdout) == ("--capacity" in options)


@pytest.mark.parametrize(
    ("options", "own"),
    [
        (
            "",
            ("banded", "importance", "keys", "merged", "merged_rows", "rows", "selected_keys"),
        ),
        pytest.param("--dims 64,64 --heads 7", ("banded", "importance"), marks=pytest.mark.long),
        pytest.param(
            "--combine union --summaries 16,16 --tile 64",
            ("listed", "selected_keys"),
            marks=pytest.mark.long,
        ),
        pytest.param(
            "--dims 64,64 --heads 7 --combine union --tile 64 --dtype float16",
            ("listed",),
            marks=pytest.mark.long,
        ),
    ],
)
def test_warp_specialized_kernels_compile(options: str, own: tuple[str, ...]) -> None:
    run = compile_kernels(f"--hopper {options}")
    version = tuple(int(part) for part in triton.__version__.split(".")[:2])
    if version not in support._VERSIONS:
        assert run.returncode == 1
        assert f"do not support Triton {triton.__version__}" in run.stderr
        return
    assert run.returncode == 0, run.stdout + run.stderr
    found = {name for name in run.stdout.split() if name.startswith("_hopper_")}
    assert found == {f"_hopper_{name}_kernel" for name in own}

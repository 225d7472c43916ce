"""torch without what compilers need, and with it as soon as they are imported."""

from __future__ import annotations

import subprocess
import sys

import pytest

from nsa_models import lean_torch

_SHAPE = """
def shape():
    q = torch.empty(1, 2, 3, 8, device="meta")
    try:
        return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, q, q)[0].shape
    except NotImplementedError:
        return None
"""

_LEAN = f"""
import sys
from nsa_models import lean_torch
lean_torch._is_tested = lambda: True
lean_torch.import_lean_torch()
import torch
import torch.nn.functional as F
{_SHAPE}
"""


def run(code: str) -> str:
    """Run Python code in a new process, and return what it writes."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_results_are_the_same() -> None:
    work = """
torch.manual_seed(0)
x = torch.randn(2, 3, 8, 16)
with torch.device("meta"):
    layer = torch.nn.Linear(4, 5, bias=False)
layer.to_empty(device="cpu")
print(F.scaled_dot_product_attention(x, x, x).sum().item(), layer.weight.shape)
print((x @ x.mT).softmax(-1).sum().item(), x.bfloat16().sum().item())
"""
    whole = f"import torch\nimport torch.nn.functional as F\n{work}"
    assert run(_LEAN + work) == run(whole)


@pytest.mark.parametrize("needing", ["torch._dynamo", "transformers"])
def test_what_compilers_need_comes_before_them(needing: str) -> None:
    check = f"""
print(shape(), "torch._meta_registrations" in sys.modules, hasattr(torch, "_meta_registrations"))
import {needing}
print(shape(), "torch._meta_registrations" in sys.modules, hasattr(torch, "_meta_registrations"))
"""
    before, after = run(_LEAN + check).splitlines()
    assert before == "None False False"
    assert after == "torch.Size([1, 2, 3, 8]) True True"


def test_a_function_can_be_traced_after_it() -> None:
    traced = """
traced = torch.compile(lambda x: F.scaled_dot_product_attention(x, x, x), backend="aot_eager")
print(tuple(traced(torch.randn(1, 2, 3, 8)).shape))
"""
    assert run(_LEAN + traced) == "(1, 2, 3, 8)\n"


def test_an_untested_version_is_imported_whole() -> None:
    code = _LEAN.replace("lambda: True", "lambda: False")
    assert run(code + "print('torch._meta_registrations' in sys.modules)") == "True\n"


def test_nothing_is_done_where_torch_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lean_torch, "_is_tested", lambda: True)
    before = [*sys.meta_path]
    lean_torch.import_lean_torch()
    assert sys.meta_path == before

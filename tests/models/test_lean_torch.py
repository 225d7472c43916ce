"""torch without its meta kernels: for a model the same torch, and whole when it is asked for."""

from __future__ import annotations

import subprocess
import sys

_MODEL = """
from pathlib import Path
from nsa_models.configuration.config import NSAConfig
from nsa_models.modeling.int8 import quantize
from nsa_models.weights.load import buildable, random_model

config = NSAConfig(
    vocab_size=32, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
    num_attention_heads=4, num_key_value_heads=2, head_dim=8, combine="gated", compress_hidden=16,
)
quantize(buildable(Path("none"), config))
torch.manual_seed(0)
print(random_model(config)(torch.zeros(1, 5, dtype=torch.long)).logits.sum().item())
print(torch.rand(3, generator=torch.Generator().manual_seed(1)).tolist())
"""


def printed(code: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300
    )
    return done.stdout.splitlines()


_LEAN = "from nsa_models.lean_torch import import_lean_torch\nimport_lean_torch()\n"

_TELLS = "import sys, torch\nprint('torch._meta_registrations' in sys.modules)\n"


def test_a_model_computes_the_same() -> None:
    whole, lean = (printed(first + _TELLS + _MODEL) for first in ("", _LEAN))
    assert whole[0] == "True"
    assert lean[0] == "False"
    assert lean[1:] == whole[1:]


def test_the_kernels_are_imported_when_asked_for() -> None:
    asked = (
        "from nsa_models.lean_torch import import_meta_kernels\nimport_meta_kernels()\n"
        "print(torch._meta_registrations.__file__ is not None)\n"
        "print((torch.ones(3, 4, device='meta') @ torch.ones(4, 5, device='meta')).shape)\n"
    )
    assert printed(_LEAN + _TELLS + asked) == ["False", "True", "torch.Size([3, 5])"]


def test_a_torch_that_uses_the_kernels_gets_them() -> None:
    stand_in = (
        "from nsa_models import lean_torch\n"
        "name = 'torch._meta_registrations'\n"
        "sys.modules[name] = kernels = lean_torch._Deferred(name)\n"
        "print(hasattr(kernels, '__path__'), sys.modules[name] is kernels)\n"
        "print(callable(kernels.register_meta), sys.modules[name] is kernels)\n"
    )
    assert printed(_LEAN + _TELLS + stand_in) == ["False", "False True", "True False"]


def test_an_imported_torch_is_left_as_it_is() -> None:
    assert printed("import torch\n" + _LEAN + _TELLS) == ["True"]


def test_another_version_is_imported_whole() -> None:
    other = (
        "from nsa_models import lean_torch\nlean_torch._VERSIONS = ('0.0.',)\n"
        "lean_torch.import_lean_torch()\n"
    )
    assert printed(other + _TELLS) == ["True"]

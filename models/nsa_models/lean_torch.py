"""Import of torch without what compilers alone need: 1.1 s of CPU instead of 1.4.

`torch._meta_registrations` tells the shapes that operators give, for tensors without data.
Compilers and large libraries need it, answers do not. It is imported before the first of those that
need it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType

_TESTED = ("2.13.",)
"""Beginnings of the versions that can be imported so; others are imported whole."""

_LATER = "torch._meta_registrations"

_NEEDING = frozenset(
    {"torch._dynamo", "torch._inductor", "torch.onnx", "transformers", "accelerate", "peft"}
)
"""Modules before which it is imported."""


class _Completing(MetaPathFinder):
    """Imports what was left out, before the first module that needs it."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,  # noqa: ARG002
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> ModuleSpec | None:
        """Find nothing; other finders find the module."""
        if fullname in _NEEDING and self in sys.meta_path:
            sys.meta_path.remove(self)
            import_module(_LATER)
        return None


def import_lean_torch() -> None:
    """Import torch, without `torch._meta_registrations` where that is tested."""
    if "torch" in sys.modules or not _is_tested() or _NEEDING & sys.modules.keys():
        return
    sys.modules[_LATER] = placeholder = ModuleType(_LATER)
    try:
        torch = import_module("torch")
    finally:
        if sys.modules.get(_LATER) is placeholder:
            del sys.modules[_LATER]
    package, _, name = _LATER.rpartition(".")
    assert package == torch.__name__
    if getattr(torch, name, None) is placeholder:
        delattr(torch, name)
    sys.meta_path.insert(0, _Completing())


def _is_tested() -> bool:
    try:
        return version("torch").startswith(_TESTED)
    except PackageNotFoundError:
        return False

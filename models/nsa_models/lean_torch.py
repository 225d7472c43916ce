"""Import torch without its Python kernels for meta tensors.

They describe the result of an operator for `torch.compile`, tracing and arithmetic on the meta
device. Reading and answering do none of these, and the kernels take 0.4 of the 1.8 s of processor
time that torch's import takes, and 11 MB of memory.
"""

from __future__ import annotations

import importlib
import sys
from contextlib import suppress
from importlib.metadata import version
from types import ModuleType

_META_KERNELS = "torch._meta_registrations"

_GENERATORS = "torch._prims.rng_prims"
"""Imported by the meta kernels; some versions of torch make no random generator without it."""

_VERSIONS = ("2.13.",)
"""Versions of torch that were tried. Add one once this module's tests pass with it."""


def import_lean_torch() -> None:
    """Import torch without its meta kernels, unless it is imported already or was never tried."""
    if "torch" in sys.modules:
        return
    if not version("torch").startswith(_VERSIONS):
        importlib.import_module("torch")
        return
    sys.modules[_META_KERNELS] = _Deferred(_META_KERNELS)
    try:
        import torch
    finally:
        _forget()
    vars(torch).pop(_META_KERNELS.rpartition(".")[2], None)
    with suppress(ImportError):
        importlib.import_module(_GENERATORS)


def import_meta_kernels() -> None:
    """Import torch's meta kernels, unless they are imported already."""
    importlib.import_module(_META_KERNELS)


class _Deferred(ModuleType):
    """Stands for the meta kernels during the import of torch, which only names them.

    A version of torch that uses them gets them.
    """

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        _forget()
        return getattr(importlib.import_module(_META_KERNELS), name)


def _forget() -> None:
    """Let the next import of the meta kernels find the real ones."""
    if isinstance(sys.modules.get(_META_KERNELS), _Deferred):
        del sys.modules[_META_KERNELS]

"""Bounds checks for Triton's interpreter: kernels may access only their tensor arguments.

The interpreter accesses any address a pointer gives, like a GPU; an invalid access may go
unnoticed. This module checks each element that a mask selects against the memory of the kernel's
arguments. `make sanitize` does the same on a GPU.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
import torch
from triton.runtime import interpreter
from triton.tools.tensor_descriptor import TensorDescriptor


class Bounds:
    """The memory of the running kernel's arguments."""

    def __init__(self) -> None:
        self.ranges: list[tuple[int, int]] = []

    def set(self, arguments: Iterable[Any]) -> None:
        """Record the memory of a kernel's arguments."""
        self.ranges.clear()
        for argument in arguments:
            tensor = argument.base if isinstance(argument, TensorDescriptor) else argument
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                self.ranges.append((storage.data_ptr(), storage.data_ptr() + storage.nbytes()))

    def check(self, pointers: Any, mask: Any) -> None:
        """Raise if a selected element is outside the arguments."""
        size = max(1, pointers.get_element_ty().primitive_bitwidth // 8)
        begin = np.asarray(pointers.data).astype(np.uint64)
        begin = begin[np.broadcast_to(np.asarray(mask.data), begin.shape).astype(bool)]
        inside = np.zeros(begin.shape, dtype=bool)
        for first, last in self.ranges:
            inside |= (begin >= first) & (begin + size <= last)
        if not inside.all():
            raise IndexError(f"{(~inside).sum()} of {inside.size} elements are out of bounds")


def keep(monkeypatch: pytest.MonkeyPatch) -> None:
    """Check every interpreted kernel's accesses."""
    bounds = Bounds()
    prepare = interpreter.GridExecutor._init_args_hst
    builder = interpreter.InterpreterBuilder
    load, store = builder.create_masked_load, builder.create_masked_store

    def prepared(self: Any, *arguments: Any) -> Any:
        positional, named = prepare(self, *arguments)
        bounds.set([*positional, *named.values()])
        return positional, named

    def checked_load(self: Any, pointers: Any, mask: Any, *rest: Any, **named: Any) -> Any:
        bounds.check(pointers, mask)
        return load(self, pointers, mask, *rest, **named)

    def checked_store(
        self: Any, pointers: Any, value: Any, mask: Any, *rest: Any, **named: Any
    ) -> Any:
        bounds.check(pointers, mask)
        return store(self, pointers, value, mask, *rest, **named)

    monkeypatch.setattr(interpreter.GridExecutor, "_init_args_hst", prepared)
    monkeypatch.setattr(builder, "create_masked_load", checked_load)
    monkeypatch.setattr(builder, "create_masked_store", checked_store)

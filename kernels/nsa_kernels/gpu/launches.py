"""Launches of kernels, and their repetition for calls of the same shapes.

Most of the host's time in a short call is spent in Python: on strides, descriptors and arguments
that are the same in every call of the same shapes. `Replays` records the launches of such a call
once. Later calls allocate the same buffers and repeat the launches with new addresses.

A recording is possible where every buffer is an input, comes from `empty` or `zeros`, or is one
that `keep` names, and where every device operation is a `launch`. A call with any other buffer is
computed without a recording.
It also needs a Triton whose launchers this module knows.
"""

from __future__ import annotations

import inspect
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from types import FunctionType
from typing import Any

import torch
import triton
from torch import Tensor
from triton.runtime.driver import driver

_VERSIONS = ((3, 6),)
"""Versions of Triton whose launchers are known. Add one once the GPU tests pass with it."""

_MOST_RECORDINGS = 128
"""Recordings of one `Replays`; the one that was not used for longest is dropped."""

_ALIGNMENT = 256
"""Alignment of the buffers of a workspace, in bytes."""

_state = threading.local()


class _RefusalError(Exception):
    """A call that cannot be recorded."""


def launch(kernel: Any, grid: tuple[int, ...], *args: Any, **constants: Any) -> None:
    """Launch a kernel on the current stream, and record the launch if a recording runs."""
    compiled = kernel[grid](*args, **constants)
    recorder: _Recorder | None = getattr(_state, "recorder", None)
    if recorder is not None:
        recorder.add(kernel, compiled, grid, args, constants)


def empty(*shape: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Allocate an uninitialized buffer of a call."""
    return _track(torch.empty(shape, dtype=dtype, device=device), zeros=False)


def zeros(*shape: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Allocate a buffer of zeros of a call."""
    return _track(torch.zeros(shape, dtype=dtype, device=device), zeros=True)


def keep(tensor: Tensor) -> Tensor:
    """Use a tensor made before the call, whose memory repeated calls use, too. Return it."""
    recorder: _Recorder | None = getattr(_state, "recorder", None)
    if recorder is not None:
        recorder.constants.append(tensor)
    return tensor


def refuse(reason: str) -> None:
    """Say that a call did something on the device that is not a launch."""
    recorder: _Recorder | None = getattr(_state, "recorder", None)
    if recorder is not None:
        recorder.reason = recorder.reason or reason


def _track(buffer: Tensor, *, zeros: bool) -> Tensor:
    recorder: _Recorder | None = getattr(_state, "recorder", None)
    if recorder is not None:
        recorder.buffers.append((buffer, zeros))
    return buffer


@dataclass(frozen=True, slots=True)
class _Place:
    """An address: a number of bytes after the start of an input, of a buffer or of a constant.

    Slots of constants are negative.
    """

    slot: int
    offset: int


@dataclass(slots=True)
class _Launch:
    """A launch with the arguments of the compiled launcher.

    Attributes:
        call: The compiled launcher.
        grid: Programs along three axes.
        before: The arguments between the stream and the kernel's own.
        args: The kernel's own, with gaps for addresses and descriptors.
        pointers: Index of each address among `args`.
        tiles: The same for descriptors, each with its constants and the last one made.
    """

    call: Callable[..., Any]
    grid: tuple[int, int, int]
    before: tuple[Any, ...]
    args: list[Any]
    pointers: list[tuple[int, _Place]] = field(default_factory=list)
    tiles: list[tuple[int, _Place, tuple[Any, ...], dict[int, Any]]] = field(default_factory=list)


class _Recorder:
    """Collects the launches, buffers and constants of a call.

    Args:
        inputs: The tensors that the call reads.
    """

    def __init__(self, inputs: Sequence[Tensor]) -> None:
        self.inputs = inputs
        self.buffers: list[tuple[Tensor, bool]] = []
        self.constants: list[Tensor] = []
        self.launches: list[_Launch] = []
        self.reason = ""

    def add(
        self,
        kernel: Any,
        compiled: Any,
        grid: tuple[int, ...],
        args: tuple[Any, ...],
        constants: dict[str, Any],
    ) -> None:
        """Add a launch; one that cannot be repeated ends the recording."""
        if self.reason:
            return
        try:
            self.launches.append(self._launch(kernel, compiled, grid, args, constants))
        except (_RefusalError, AttributeError, KeyError, TypeError) as error:
            self.reason = f"{type(error).__name__}: {error}"

    def _launch(
        self,
        kernel: Any,
        compiled: Any,
        grid: tuple[int, ...],
        args: tuple[Any, ...],
        constants: dict[str, Any],
    ) -> _Launch:
        launcher = compiled.run
        if launcher.global_scratch_size or launcher.profile_scratch_size:
            raise _RefusalError("a kernel with scratch memory")
        metas = list(getattr(compiled.metadata, "tensordesc_meta", None) or ())
        wide = (*grid, 1, 1)[:3]
        made = _Launch(
            call=_compiled_launcher(launcher),
            grid=(wide[0], wide[1], wide[2]),
            before=(
                compiled.function, launcher.launch_cooperative_grid, launcher.launch_pdl,
                None, None, compiled.packed_metadata, None, None, None,
            ),
            args=[],
        )  # fmt: skip
        types = list(compiled.src.signature.values())
        given = [*args, *(constants[name] for name in kernel.arg_names[len(args) :])]
        for kind, value in zip(types, given, strict=True):
            if not isinstance(kind, str):
                raise _RefusalError("a tuple among the arguments")
            if kind.startswith("tensordesc"):
                self._add_tile(made, value, metas.pop(0))
            elif kind.startswith("*") and value is not None:
                made.pointers.append((len(made.args), self._place(value)))
                made.args.append(None)
            else:
                made.args.append(None if kind == "constexpr" else value)
        return made

    def _add_tile(self, made: _Launch, tile: Any, meta: dict[str, Any]) -> None:
        """Add a tensor descriptor, which the launcher takes as a map, its shape and strides."""
        from triton.backends.nvidia.driver import TMA_DTYPE_DEVICE_TO_HOST

        if meta["fp4_padded"]:
            raise _RefusalError("a descriptor of padded fp4")
        constants = (
            meta["swizzle"], meta["elem_size"], TMA_DTYPE_DEVICE_TO_HOST[meta["elem_type"]],
            meta["block_size"], list(tile.shape), list(tile.strides),
            1 if tile.padding == "nan" else 0,
        )  # fmt: skip
        made.tiles.append((len(made.args), self._place(tile.base), constants, {}))
        made.args += [None, *tile.shape, *tile.strides]

    def _place(self, tensor: Tensor) -> _Place:
        """Where a tensor lies: in a constant, in a buffer of the call, or in an input."""
        at, storage = tensor.data_ptr(), tensor.untyped_storage().data_ptr()
        for i, constant in enumerate(self.constants):
            if constant.untyped_storage().data_ptr() == storage:
                return _Place(-1 - i, at - constant.data_ptr())
        for i, (buffer, _) in enumerate(self.buffers):
            if buffer.untyped_storage().data_ptr() == storage:
                return _Place(len(self.inputs) + i, at - buffer.data_ptr())
        near = [
            (x.data_ptr(), i)
            for i, x in enumerate(self.inputs)
            if x.untyped_storage().data_ptr() == storage and x.data_ptr() <= at
        ]
        if not near:
            raise _RefusalError("a tensor of unknown origin")
        start, i = max(near)
        return _Place(i, at - start)

    def finish(self, results: Sequence[Tensor | None]) -> _Recording:
        """The recording of a call with these results.

        Raises:
            _RefusalError: If the call cannot be repeated.
        """
        if self.reason:
            raise _RefusalError(self.reason)
        first = len(self.inputs)
        found: list[tuple[int, tuple[Any, ...] | None] | None] = []
        for result in results:
            if result is None:
                found.append(None)
                continue
            place = self._place(result)
            layout = None
            if place.slot >= first:
                layout = (tuple(result.shape), result.stride(), result.dtype)
                buffer, zero = self.buffers[place.slot - first]
                if zero or place.offset or result.nbytes != buffer.nbytes:
                    raise _RefusalError("a result that is a part of a buffer")
            elif not any(result is x for x in (*self.inputs, *self.constants)):
                raise _RefusalError("a result that is a part of an input")
            found.append((place.slot, layout))
        return _Recording(self, found)


def _compiled_launcher(launcher: Any) -> Callable[..., Any]:
    """The launcher below the function that makes descriptors."""
    call: Callable[..., Any] = launcher.launch
    if isinstance(call, FunctionType):
        call = inspect.getclosurevars(call).nonlocals["launcher"]
    return call


class _Recording:
    """The launches of a call, and the buffers that they need.

    Args:
        call: The recorder of the call.
        results: Slot of each result and its shape, strides and dtype (None for an input or a
            constant).
    """

    def __init__(
        self, call: _Recorder, results: list[tuple[int, tuple[Any, ...] | None] | None]
    ) -> None:
        buffers, inputs = call.buffers, len(call.inputs)
        self._launches, self._results = call.launches, results
        # The last constant first, as negative slots index it.
        self._constants = call.constants[::-1]
        self._kept = {slot: layout for slot, layout in filter(None, results) if layout}
        # Where each other buffer lies, in a workspace of zeros or in an uninitialized one.
        self._inside: list[tuple[int, bool, int]] = []
        sizes = {True: 0, False: 0}
        for slot, (buffer, zero) in enumerate(buffers, inputs):
            if slot not in self._kept:
                self._inside.append((slot, zero, sizes[zero]))
                sizes[zero] += -(-buffer.nbytes // _ALIGNMENT) * _ALIGNMENT
        self._zeros, self._room = sizes[True], sizes[False]
        self._slots = inputs + len(buffers)

    def run(self, inputs: Sequence[Tensor]) -> list[Tensor | None]:
        """Repeat the call with other inputs of the same shapes and strides."""
        device = inputs[0].device
        at = [x.data_ptr() for x in inputs]
        at += [0] * (self._slots - len(at))
        at += [x.data_ptr() for x in self._constants]
        kept = {}
        for slot, (shape, strides, dtype) in self._kept.items():
            kept[slot] = torch.empty_strided(shape, strides, dtype=dtype, device=device)
            at[slot] = kept[slot].data_ptr()
        room = torch.empty(self._room, dtype=torch.uint8, device=device)
        start = {False: room.data_ptr()}
        if self._zeros:
            cleared = torch.zeros(self._zeros, dtype=torch.uint8, device=device)
            start[True] = cleared.data_ptr()
        for slot, zero, offset in self._inside:
            at[slot] = start[zero] + offset
        active = driver.active
        stream = active.get_current_stream(device.index)
        make = active.utils.fill_tma_descriptor
        for one in self._launches:
            args = one.args.copy()
            for i, place in one.pointers:
                args[i] = at[place.slot] + place.offset
            for i, place, constants, made in one.tiles:
                address = at[place.slot] + place.offset
                if address not in made:
                    made.clear()
                    made[address] = make(address, *constants)
                args[i] = made[address]
            one.call(*one.grid, stream, *one.before, *args)
        given = (*inputs, *self._constants)
        return [
            None if one is None else given[one[0]] if one[1] is None else kept[one[0]]
            for one in self._results
        ]


class Replays:
    """Calls of a function, and the recordings of those that were made more than once."""

    def __init__(self) -> None:
        self._recordings: OrderedDict[Any, _Recording | str] = OrderedDict()

    def call(
        self,
        key: tuple[Any, ...],
        inputs: Sequence[Tensor],
        compute: Callable[[], Sequence[Tensor | None]],
    ) -> Sequence[Tensor | None]:
        """Return the results of `compute`, from a recording once its key has one.

        The first call of a key is computed, the second is recorded, and further ones repeat it.

        Args:
            key: What the launches depend on besides the inputs' shapes, strides, dtypes, devices
                and alignment. Objects that it names by `id` must outlive this object.
            inputs: All tensors that `compute` reads.
            compute: Computes the results: inputs, constants, buffers from `empty`, or None.
        """
        if not _can_replay(inputs):
            return compute()
        full = (key, *(_layout(x) for x in inputs))
        known = self._recordings.get(full)
        if isinstance(known, _Recording):
            self._recordings.move_to_end(full)
            return known.run(inputs)
        if known is None:
            self._recordings[full] = "seen once"
            while len(self._recordings) > _MOST_RECORDINGS:
                self._recordings.popitem(last=False)
            return compute()
        if known != "seen once":
            return compute()
        _state.recorder = recorder = _Recorder(inputs)
        try:
            results = compute()
        finally:
            _state.recorder = None
        try:
            self._recordings[full] = recorder.finish(results)
        except _RefusalError as reason:
            self._recordings[full] = f"refused: {reason}"
        return results

    def forget(self) -> None:
        """Drop all recordings."""
        self._recordings.clear()

    @property
    def recorded(self) -> int:
        """Number of recordings."""
        return sum(isinstance(one, _Recording) for one in self._recordings.values())


def _layout(x: Tensor) -> tuple[Any, ...]:
    """What launches depend on of a tensor, besides its address."""
    return x.shape, x.stride(), x.dtype, x.device, x.data_ptr() % 16


def _can_replay(inputs: Sequence[Tensor]) -> bool:
    """Whether calls with these tensors may be recorded: on a GPU, none of them the same."""
    return (
        inputs[0].is_cuda
        and _knows_launchers()
        and getattr(_state, "recorder", None) is None
        and not _hooks()
        and not torch.compiler.is_compiling()
        and len({x.data_ptr() for x in inputs}) == len(inputs)
    )


def _hooks() -> bool:
    """Whether anything is to be called at each launch; an empty chain calls nothing."""
    runtime = triton.knobs.runtime
    hooks = (runtime.launch_enter_hook, runtime.launch_exit_hook)
    return any(getattr(hook, "calls", hook) for hook in hooks)


@cache
def _knows_launchers() -> bool:
    """Whether the installed Triton's launchers are known."""
    version = tuple(int(part) for part in triton.__version__.split(".")[:2])
    return version in _VERSIONS and not triton.knobs.runtime.interpret

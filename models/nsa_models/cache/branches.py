"""Keys and values of the branches of `gated` attention, and the part of them that a cache holds.

The selection's keys and values are those of every attention. The compression may have others, and
a φ with trained weights; the window may have others too. A cache needs the compressed keys and
values, the tokens of the last incomplete compression block, and the last tokens of the window.

Letters: B batch, T tokens of a call, G key/value groups, D head dim, C complete blocks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from nsa_kernels.phi import block_starts
from nsa_kernels.pointwise import rotate
from nsa_kernels.settings import AttentionSettings

if TYPE_CHECKING:
    from nsa_kernels.gpu.layout import Packing

Phi = Callable[[Tensor, AttentionSettings, "Packing | None"], Tensor]
"""Reduces the complete blocks of (B, G, T, D), perhaps packed: (B, G, C, D)."""

Rotary = Callable[[Tensor, torch.dtype], tuple[Tensor, Tensor]]
"""Positions (...) and a dtype to cosines and sines (..., D) of the rotary embedding."""


class BranchInputs(NamedTuple):
    """What `nsa_attention` takes of the branches; None for those of the selection, or their means.

    Attributes:
        summary_k: (B, G, C, D) compressed keys.
        summary_v: (B, G, C, D) compressed values.
        window_k: (B, G, T, D) rotated keys of the window.
        window_v: (B, G, T, D) values of the window.
    """

    summary_k: Tensor | None = None
    summary_v: Tensor | None = None
    window_k: Tensor | None = None
    window_v: Tensor | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Branches:
    """Keys and values of the compression and of the window, for the tokens of one call.

    Attributes:
        compress_k: (B, G, T, D) keys of the compression, before the rotary embedding with `rotary`.
        compress_v: (B, G, T, D) values of the compression.
        phi_k: φ of the keys.
        phi_v: φ of the values.
        rotary: Rotates each compressed key to the middle of its block; None to leave them.
        window_k: (B, G, T, D) rotated keys of the window; None for those of the selection.
        window_v: (B, G, T, D) values of the window, with `window_k`.
    """

    compress_k: Tensor
    compress_v: Tensor
    phi_k: Phi
    phi_v: Phi
    rotary: Rotary | None = None
    window_k: Tensor | None = None
    window_v: Tensor | None = None

    def rows(self, rows: slice) -> Branches:
        """Return the branches of some rows of the batch."""
        return self._each(lambda x: x[rows])

    def tokens(self, tokens: slice) -> Branches:
        """Return the branches of some consecutive tokens."""
        return self._each(lambda x: x[:, :, tokens])

    def _each(self, part: Callable[[Tensor], Tensor]) -> Branches:
        window = [None if x is None else part(x) for x in (self.window_k, self.window_v)]
        return replace(
            self,
            compress_k=part(self.compress_k),
            compress_v=part(self.compress_v),
            window_k=window[0],
            window_v=window[1],
        )

    def inputs(
        self, positions: Tensor, settings: AttentionSettings, packing: Packing | None = None
    ) -> BranchInputs:
        """Compress, and return all that the attention takes; see `summaries`."""
        summary_k, summary_v = self.summaries(positions, settings, packing)
        return BranchInputs(summary_k, summary_v, self.window_k, self.window_v)

    def summaries(
        self, positions: Tensor, settings: AttentionSettings, packing: Packing | None = None
    ) -> tuple[Tensor, Tensor]:
        """Compress keys and values: two (B, G, C, D).

        Args:
            positions: (T,) positions of the tokens.
            settings: The block sizes.
            packing: Offsets of the sequences of a packed batch, of which T is the sum.
        """
        k = self.summary_keys(self.compress_k, positions, settings, packing)
        return k, self.phi_v(self.compress_v, settings, packing)

    def summary_keys(
        self,
        x: Tensor,
        positions: Tensor,
        settings: AttentionSettings,
        packing: Packing | None = None,
    ) -> Tensor:
        """Compress keys x (B, G, T, D) at positions (T,), see `summaries`: (B, G, C, D)."""
        k = self.phi_k(x, settings, packing)
        if self.rotary is None:
            return k
        starts = block_starts(x.shape[2], settings, positions.device, packing)
        middle = positions[starts] + (settings.compress_block - 1) / 2
        return rotate(k, *self.rotary(middle, k.dtype))


class RecentTokens:
    """Keys or values of the last tokens of a text, with room that grows with them.

    Attributes:
        first: The first token.
        stop: One past the last token.
    """

    def __init__(self) -> None:
        self.first = self.stop = 0
        self._buffer: Tensor | None = None

    def append(self, x: Tensor, at: int) -> None:
        """Add tokens (B, G, T, D) from token `at` on, in place of those held from there on."""
        assert self.first <= at <= self.stop, (self.first, at, self.stop)
        kept, needed = at - self.first, at - self.first + x.shape[2]
        buffer = self._buffer
        if buffer is None or needed > buffer.shape[2]:
            # Room for a few tokens more: a decoding step must not copy all of them.
            room = needed if buffer is None else needed + needed // 4
            buffer = self._replace(room, x, kept)
        buffer[:, :, kept:needed] = x
        self.stop = at + x.shape[2]

    def since(self, first: int) -> Tensor:
        """Return the tokens from `first` to the last one: (B, G, n, D)."""
        assert self._buffer is not None
        assert self.first <= first <= self.stop, (self.first, first, self.stop)
        return self._buffer[:, :, first - self.first : self.stop - self.first]

    def hold(self, like: Tensor, stop: int) -> Tensor:
        """Make room for the tokens before `stop`; return the buffer (B, G, rows, D).

        Its first row is token `first`. Who writes further tokens to it calls `extend`.

        Args:
            like: (B, G, any, D), for shape, type and device.
            stop: One past the last token.
        """
        buffer = self._buffer
        if buffer is None or buffer.shape[2] < stop - self.first:
            buffer = self._replace(stop - self.first, like, self.stop - self.first)
        return buffer

    def extend(self, stop: int) -> None:
        """Count the tokens before `stop` that were written to the buffer, if any."""
        if self._buffer is not None:
            assert self.stop <= stop <= self.first + self._buffer.shape[2], (self.stop, stop)
            self.stop = stop

    def truncate(self, stop: int) -> None:
        """Drop the tokens from `stop` on."""
        self.stop = min(self.stop, stop)

    def release(self, before: int) -> None:
        """Drop the tokens before `before`, and free their memory."""
        if self._buffer is not None and before > self.first:
            held = self.since(before)
            self.first = before
            self._replace(held.shape[2], held, held.shape[2], held)

    def restore(self, first: int, x: Tensor) -> None:
        """Hold a copy of the tokens (B, G, n, D) from `first` on, and no others."""
        self.first, self.stop = first, first + x.shape[2]
        self._replace(x.shape[2], x, x.shape[2], x)

    @property
    def nbytes(self) -> int:
        """Bytes of the buffer."""
        return 0 if self._buffer is None else self._buffer.nbytes

    def _replace(self, room: int, like: Tensor, kept: int, held: Tensor | None = None) -> Tensor:
        """Replace the buffer by one of `room` tokens with the first `kept` of the present ones."""
        if held is None and kept:
            held = self.since(self.first)[:, :, :kept]
        # A tensor of inference mode could not be written outside of it.
        with torch.inference_mode(False):
            buffer = like.new_empty(*like.shape[:2], room, like.shape[3])
        if held is not None:
            buffer[:, :, :kept] = held
        self._buffer = buffer
        return buffer


class RecentBranches:
    """What one layer of a cache holds of its branches beside the summaries.

    Attributes:
        compress: Keys and values of the tokens of the last incomplete compression block.
        window: Keys and values of the last tokens of the window; empty if they are shared.
    """

    def __init__(self) -> None:
        self.compress = (RecentTokens(), RecentTokens())
        self.window = (RecentTokens(), RecentTokens())

    def append(self, branches: Branches, at: int, dtype: torch.dtype) -> None:
        """Add the tokens of a call from token `at` on."""
        pairs = [
            *zip(self.compress, (branches.compress_k, branches.compress_v), strict=True),
            *zip(self.window, (branches.window_k, branches.window_v), strict=True),
        ]
        for recent, x in pairs:
            if x is not None:
                recent.append(x.to(dtype), at)

    def hold(self, like: Tensor, stop: int, *, window: bool) -> list[Tensor]:
        """Make room for the tokens before `stop`; return the buffers, see `RecentTokens.hold`.

        Args:
            like: (B, G, any, D), for shape, type and device.
            stop: One past the last token.
            window: Whether the window is separate.

        Returns:
            Keys and values of the compression and, with `window`, of the window.
        """
        held = (*self.compress, *(self.window if window else ()))
        return [recent.hold(like, stop) for recent in held]

    def extend(self, stop: int) -> None:
        """Count the tokens before `stop` that were written to the buffers."""
        for recent in (*self.compress, *self.window):
            recent.extend(stop)

    def truncate(self, stop: int) -> None:
        """Drop the tokens from `stop` on."""
        for recent in (*self.compress, *self.window):
            recent.truncate(stop)

    def release(self, compress: int, window: int) -> None:
        """Drop the compression's tokens before `compress` and the window's before `window`."""
        for recent in self.compress:
            recent.release(compress)
        for recent in self.window:
            recent.release(window)

    def state(self) -> list[tuple[int, Tensor]]:
        """Return the first token and the tokens (B, G, n, D) of all that is held."""
        held = [recent for recent in (*self.compress, *self.window) if recent.stop]
        return [(recent.first, recent.since(recent.first)) for recent in held]

    def restore(self, state: list[tuple[int, Tensor]]) -> None:
        """Hold a copy of what `state` gave of another cache."""
        for recent, (first, x) in zip((*self.compress, *self.window), state, strict=False):
            recent.restore(first, x)

    @property
    def nbytes(self) -> int:
        """Bytes of all that is held."""
        return sum(recent.nbytes for recent in (*self.compress, *self.window))

"""The public operation: validate, resolve the implementation, call it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from torch import Tensor

from nsa_kernels import blockwise
from nsa_kernels.errors import UnsupportedError
from nsa_kernels.reference import nsa_reference
from nsa_kernels.settings import AttentionSettings


class Impl(Enum):
    """The implementations of `nsa_attention`."""

    REFERENCE = "reference"
    BLOCKWISE = "blockwise"


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionResult:
    """What `nsa_attention` returns.

    Attributes:
        out: (B, H, T, D).
        blocks: (B, G, U, n) selected blocks of each tile of queries, -1 where there are fewer;
            None where every key was attended to.
        mass: (B, H, T, N) attention mass of each selection block, if asked for.
    """

    out: Tensor
    blocks: Tensor | None
    mass: Tensor | None = None


def nsa_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    settings: AttentionSettings,
    *,
    summary_k: Tensor | None = None,
    summary_v: Tensor | None = None,
    gates: Tensor | None = None,
    impl: Impl | None = None,
    return_mass: bool = False,
) -> AttentionResult:
    """Attend by Native Sparse Attention; the queries are the last T of S positions.

    Args:
        q: (B, H, T, D).
        k: (B, G, S, D).
        v: (B, G, S, D).
        settings: What to attend to.
        summary_k: (B, G, C, D), the compression of the keys; their means when None.
        summary_v: (B, G, C, D), the compression of the values; their means when None.
        gates: (B, H, T, 3), order compression, selection, window; for `gated` and it alone.
        impl: The implementation; chosen by `settings` when None. An explicit one is never
            replaced by another.
        return_mass: Whether to return the attention mass of each block.

    Raises:
        ValueError: If shapes do not go together.
        UnsupportedError: If the implementation asked for cannot do this.

    Source: Yuan et al. 2025, eqs. 5 to 12.
    """
    _validate(q, k, v, settings, gates)
    if not (impl is None or isinstance(impl, Impl)):
        raise TypeError(f"impl is {impl!r}; valid are {[str(one) for one in Impl]} or None")
    if impl is None:
        impl = Impl.BLOCKWISE if settings.combine == "union" else Impl.REFERENCE
    if impl is Impl.REFERENCE:
        out, chosen, mass = nsa_reference(
            q, k, v, settings, summary_k=summary_k, summary_v=summary_v, gates=gates
        )
        return AttentionResult(out=out, blocks=chosen, mass=mass if return_mass else None)
    if settings.combine != "union":
        raise UnsupportedError("the blockwise implementation has combine='union' only")
    blocks: Tensor | None = None
    if settings.covers(k.shape[2]):
        out = blockwise.dense_attention(q, k, v)
    else:
        if summary_k is None:
            summary_k = blockwise.mean_summaries(k, settings)
        blocks = blockwise.select_blocks(q, summary_k, k.shape[2], settings)
        out = blockwise.union_attention(q, k, v, blocks, settings)
    return AttentionResult(
        out=out,
        blocks=blocks,
        mass=blockwise.block_mass(q, k, blocks, settings) if return_mass else None,
    )


def _validate(
    q: Tensor, k: Tensor, v: Tensor, settings: AttentionSettings, gates: Tensor | None
) -> None:
    """Raise ValueError with the received shapes where they do not go together."""
    if q.ndim != 4 or k.ndim != 4 or v.ndim != 4:
        raise ValueError(f"q, k, v have {q.ndim}, {k.ndim}, {v.ndim} dims; each needs 4")
    if k.shape[:3] != v.shape[:3] or q.shape[0] != k.shape[0] or q.shape[3] != k.shape[3]:
        raise ValueError(
            f"shapes do not agree: q {tuple(q.shape)}, k {tuple(k.shape)}, v {tuple(v.shape)}"
        )
    if q.shape[1] % k.shape[1]:
        raise ValueError(f"{q.shape[1]} query heads are no multiple of {k.shape[1]} groups")
    if not 0 < q.shape[2] <= k.shape[2]:
        raise ValueError(f"{q.shape[2]} queries cannot be the last of {k.shape[2]} positions")
    wanted = (*q.shape[:3], 3)
    if settings.combine == "gated" and (gates is None or tuple(gates.shape) != wanted):
        got = None if gates is None else tuple(gates.shape)
        raise ValueError(f"gates are {got}; combine='gated' needs {wanted}")
    if settings.combine == "union" and gates is not None:
        raise ValueError("gates were given; combine='union' has none")

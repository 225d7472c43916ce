"""Data of `nsa bench kernels`: shapes, points, checks, measurements and the report."""

from __future__ import annotations

from dataclasses import dataclass, field

MODES = ("forward", "backward", "decode")
"""Forward; forward and backward together; one decode step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """A way to run NSA.

    Attributes:
        union: Whether it is the mode that the shipped model reads in, one softmax over blocks
            that 64 queries share, rather than the paper's three gated branches.
        recorded: Whether queries attend to the blocks that a model's queries selected, rather
            than to those that random queries select.
        graph: Whether it runs in a CUDA graph, without the host's time.
    """

    union: bool = False
    recorded: bool = False
    graph: bool = False


NSA = {
    "nsa": Variant(),
    "nsa-graph": Variant(graph=True),
    "nsa-recorded": Variant(recorded=True),
    "nsa-recorded-graph": Variant(recorded=True, graph=True),
    "nsa-union": Variant(union=True),
    "nsa-union-graph": Variant(union=True, graph=True),
}
"""The variants of NSA, by name."""

DENSE = ("cudnn", "flash", "fa3")
"""Dense attention by cuDNN and by FlashAttention-2, both through PyTorch's SDPA, and by
FlashAttention-3 where it is installed."""

ATTENTIONS = (*NSA, *DENSE)

GRAPH_LENGTH = 16_384
"""Tokens up to which passes are also measured in a CUDA graph: above, the host's time is hidden
behind the device's."""

UNSTEADY = 1.2
"""A ratio of p80 to p20 above which something else may run on the device."""

FAILED = "failed the check"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """The heads of one attention layer.

    Attributes:
        heads: Query heads (H).
        groups: Key/value groups (G).
        dim: Head dim of queries and keys (D).
        value_dim: Head dim of values (Dv).
    """

    heads: int
    groups: int
    dim: int
    value_dim: int


SHAPES = {
    "paper-gqa": Shape(heads=64, groups=4, dim=128, value_dim=128),
    "paper": Shape(heads=64, groups=4, dim=192, value_dim=128),
    "qwen2.5-0.5b": Shape(heads=14, groups=2, dim=64, value_dim=64),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A point to measure: a mode of MODES, a length in tokens and a batch size."""

    mode: str
    length: int
    batch: int = 1

    def __str__(self) -> str:
        many = f", batch {self.batch}" if self.batch > 1 else ""
        return f"{self.mode} at {self.length:,} tokens{many}"


def attentions(point: Point, *, fa3: bool) -> list[str]:
    """The attentions to measure at a point; `fa3` says whether FlashAttention-3 is installed."""
    if point.mode == "decode":
        return ["nsa", "cudnn", "flash"]
    graphs = point.length <= GRAPH_LENGTH
    wanted = [name for name, variant in NSA.items() if graphs or not variant.graph]
    return [*wanted, "cudnn", "flash", *(["fa3"] if fa3 and point.mode == "forward" else [])]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """Result of comparing the kernels with the fp64 reference.

    Attributes:
        errors: Relative error of the output and, for backward, of each gradient.
        allowed: Largest allowed error of each.
        agreement: Share of the reference's selected blocks that the kernels also selected.
        passed: Whether a speed may be reported.
    """

    errors: dict[str, float]
    allowed: dict[str, float]
    agreement: float
    passed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """The times of one attention at one point.

    Attributes:
        point: What was measured.
        attention: One of ATTENTIONS.
        p20_ms: 20th percentile in milliseconds; None without a speed.
        p50_ms: Median in milliseconds.
        p80_ms: 80th percentile in milliseconds.
        host_ms: Median time until the host has launched a call, in milliseconds.
        extra_memory_bytes: Peak of forward and backward beyond inputs, output and gradients.
        note: Reason for a missing speed, or a remark on the measurement.
    """

    point: Point
    attention: str
    p20_ms: float | None = None
    p50_ms: float | None = None
    p80_ms: float | None = None
    host_ms: float | None = None
    extra_memory_bytes: int | None = None
    note: str = ""

    @property
    def unsteady(self) -> bool:
        """Whether the times differ so much that something else may run on the device."""
        if self.p20_ms is None or self.p80_ms is None:
            return False
        return self.p80_ms > UNSTEADY * self.p20_ms


@dataclass(kw_only=True)
class Report:
    """The results so far.

    Attributes:
        setup: Device, versions, commit, shape and settings, by name.
        rows: The measurements, in order.
        checks: The checks, in order, each with its point and the variant of NSA.
        stopped: Reason for an early stop, or an empty string.
    """

    setup: dict[str, str]
    rows: list[Measurement] = field(default_factory=list)
    checks: list[tuple[Point, str, Check]] = field(default_factory=list)
    stopped: str = ""

    @property
    def failed(self) -> list[Point]:
        """The points that failed a check."""
        return [point for point, _, check in self.checks if not check.passed]

    def ratio(self, point: Point, attention: str) -> float | None:
        """Time of the fastest dense attention over that of a variant of NSA, if both are known."""
        times = {
            row.attention: row.p50_ms
            for row in self.rows
            if row.point == point and row.p50_ms is not None
        }
        dense = [times[name] for name in DENSE if name in times]
        if not dense or attention not in NSA or attention not in times:
            return None
        return min(dense) / times[attention]

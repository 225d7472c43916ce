"""What `nsa bench kernels` measures: shapes, points, checks and the report."""

from __future__ import annotations

from dataclasses import dataclass, field

MODES = ("forward", "backward", "decode")
"""Forward; forward and backward together; one decode step."""


ATTENTIONS = ("nsa", "cudnn", "flash")
"""NSA; dense attention by cuDNN and by FlashAttention-2, both through PyTorch's SDPA."""


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
    """Something to measure: `mode`, one of MODES, at a `length` in tokens, for a `batch`."""

    mode: str
    length: int
    batch: int = 1

    def __str__(self) -> str:
        many = f", batch {self.batch}" if self.batch > 1 else ""
        return f"{self.mode} at {self.length:,} tokens{many}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """How the kernels' results compare with the fp64 reference.

    Attributes:
        errors: Relative error of the output and, backward, of each gradient.
        allowed: The largest error allowed of each.
        agreement: Share of the reference's selected blocks that the kernels selected too.
        passed: Whether a speed may be shown.
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
        p20_ms: Milliseconds that a fifth of the runs stayed under; None where there is no speed.
        p50_ms: The median, in milliseconds.
        p80_ms: Milliseconds that four fifths of the runs stayed under.
        extra_memory_bytes: Peak of forward and backward beyond inputs, output and gradients.
        note: Why there is no speed, or what stands beside it.
    """

    point: Point
    attention: str
    p20_ms: float | None = None
    p50_ms: float | None = None
    p80_ms: float | None = None
    extra_memory_bytes: int | None = None
    note: str = ""


@dataclass(kw_only=True)
class Report:
    """What was found so far.

    Attributes:
        setup: Device, versions, commit, shape and settings, by name.
        rows: The measurements, in order.
        checks: The checks, in order.
        stopped: Why not all was measured, or an empty string.
    """

    setup: dict[str, str]
    rows: list[Measurement] = field(default_factory=list)
    checks: list[tuple[Point, Check]] = field(default_factory=list)
    stopped: str = ""

    @property
    def failed(self) -> list[Point]:
        """The points that did not pass the check."""
        return [point for point, check in self.checks if not check.passed]

    def ratio(self, point: Point) -> float | None:
        """Time of the faster dense attention over NSA's; None where one is not known."""
        times = {
            row.attention: row.p50_ms
            for row in self.rows
            if row.point == point and row.p50_ms is not None
        }
        dense = [median for attention, median in times.items() if attention != "nsa"]
        return min(dense) / times["nsa"] if dense and "nsa" in times else None

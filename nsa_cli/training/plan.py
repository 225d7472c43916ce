"""Settings of `nsa train`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nsa_models.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingPlan:
    """Settings of a training run.

    Attributes:
        out: Folder for the adapter, the log and the state that a later run resumes.
        phi_shapes: Block lengths and strides of the compressors φ to distill, in tokens; the
            second stage uses the first.
        hidden: Inner width of φ.
        lengths: Lengths of the training examples, in tokens.
        attention: `nsa`, or `dense` to train on the same examples without selection.
        lessons: `reading` for texts of all `lengths`, or `checks` of answers to short texts.
        answer_seconds: Duration of self-answering, before the stages; the model's correct
            answers replace the data's. 0 uses only the answers of earlier runs.
        distill_seconds: Duration of the first stage; 0 resumes from an earlier run.
        tune_seconds: Duration of the second stage; 0 stops before it.
        select_count: Blocks selected during training, for reading and answering.
        answer_blocks: Blocks that answers attend to after training; None for the whole text.
        rank: Rank of the low-rank changes.
        rate: Learning rate of the low-rank changes.
        seed: Seed of the examples.
        device: `auto`, `cpu` or `cuda`.
    """

    out: Path
    phi_shapes: tuple[tuple[int, int], ...] = ((32, 16),)
    hidden: int = 128
    lengths: tuple[int, ...] = (4096, 8192, 16384)
    attention: str = "nsa"
    lessons: str = "reading"
    answer_seconds: float = 0.0
    distill_seconds: float = 120.0
    tune_seconds: float = 420.0
    select_count: int = 16
    answer_blocks: int | None = None
    rank: int = 16
    rate: float = 2e-4
    seed: int = 0
    device: str = "auto"

    @property
    def sparse(self) -> bool:
        """Whether the model learns to select blocks."""
        return self.attention == "nsa"

    def settings(self) -> dict[str, Any]:
        """The attention settings during training, as fields of `NSAConfig`."""
        if not self.sparse:
            return {"select_count": None, "answer_select_count": None}
        block, stride = self.phi_shapes[0]
        return {
            "compress_block": block,
            "compress_stride": stride,
            "answer_compress_block": block,
            "answer_compress_stride": stride,
            "compress_hidden": self.hidden,
            "select_count": self.select_count,
            "answer_select_count": self.select_count,
        }

    def distilled(self, block: int, stride: int) -> Path:
        """The file of a distilled φ."""
        return self.out / f"distilled-{block}-{stride}-{self.hidden}.safetensors"

    def record(self) -> dict[str, str]:
        """The plan as adapter.json records it; the file calls `phi_shapes` kinds."""
        fields = {
            "kinds" if key == "phi_shapes" else key: value for key, value in asdict(self).items()
        }
        return {key: str(value) for key, value in fields.items() if key != "out"}


def parse_phi_shapes(texts: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """Block lengths and strides from texts such as 32/16.

    Raises:
        UsageError: If a text has another form.
    """
    shapes = []
    for text in texts:
        block, _, stride = text.partition("/")
        if not (block.isdigit() and stride.isdigit()):
            raise UsageError(f"--phi: {text!r} is not LENGTH/STRIDE", hint="use a form like 32/16")
        shapes.append((int(block), int(stride)))
    return tuple(shapes)

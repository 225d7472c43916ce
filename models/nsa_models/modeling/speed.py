"""How fast this CPU multiplies by the weights of a model in each format.

Reading multiplies many rows by the weights and is bound by arithmetic; decoding multiplies one row
and is bound by reading the weights. Two cores with AVX2 decode the default model twice as fast in
int8 as in bf16, whose products they emulate; a CPU with AMX may read faster in bf16.
"""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nsa_models.configuration.config import NSAConfig
from nsa_models.modeling.int8 import Int8Linear
from nsa_models.modeling.linear import Linear

AS_STORED = "none"
"""Name of the format without quantization."""

SEGMENT_ROWS = 1024
"""Rows of the product that stands for reading."""

ANSWER_TOKENS = (2048, 64)
"""Tokens that are read and decoded for an answer: the passages, and two or three sentences."""

_LEAST_BYTES = 96 << 20
"""Least bytes of stored weights that one row is multiplied by, more than CPUs cache."""

_MOST_ROUNDS = 20

_MOST_SECONDS = 0.1
"""Time after which no further round begins; the first of two includes set-up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FormatSpeed:
    """The speed of one format.

    Attributes:
        token_seconds: Time of all products of one token that is decoded.
        reading_seconds: Time of all products of one token that is read, among many.
    """

    token_seconds: float
    reading_seconds: float

    @property
    def answer_seconds(self) -> float:
        """Time of the products of an answer."""
        read, decoded = ANSWER_TOKENS
        return read * self.reading_seconds + decoded * self.token_seconds


def shapes(config: NSAConfig) -> list[tuple[int, int]]:
    """Return (outputs, inputs) of the largest projections of a layer: those of the MLP."""
    width, inner = config.hidden_size, config.intermediate_size
    return [(inner, width), (width, inner)]


def measure_formats(config: NSAConfig, dtype: torch.dtype) -> dict[str, FormatSpeed]:
    """Measure each format with products in the shapes of a model, within about a second.

    Args:
        config: Configuration of the model.
        dtype: Type of the weights as stored.

    Returns:
        The speed of `AS_STORED` and of `int8`, by name.
    """
    with torch.inference_mode():
        stored = [_projection(*shape, dtype) for shape in shapes(config)]
        copies = -(-_LEAST_BYTES // sum(each.weight.nbytes for each in stored))
        formats = {
            AS_STORED: [_Copies(each, copies) for each in stored],
            "int8": [_Copies(Int8Linear(each), copies) for each in stored],
        }
        decoding = _least_seconds(formats, 1, dtype)
        reading = _least_seconds(formats, SEGMENT_ROWS, dtype)
    layer, head = _values(config)
    measured = sum(each.weight.numel() for each in stored)
    return {
        name: FormatSpeed(
            token_seconds=decoding[name] * (layer + head) / measured,
            reading_seconds=reading[name] * layer / (measured * SEGMENT_ROWS),
        )
        for name in formats
    }


class _Copies:
    """Copies of a projection, used in turn, so that no product finds its weights in a cache."""

    def __init__(self, projection: nn.Module, count: int) -> None:
        assert isinstance(projection.weight, Tensor)
        self.width = projection.weight.shape[1]
        self._copies = [projection, *(copy.deepcopy(projection) for _ in range(count - 1))]

    def seconds(self, x: Tensor) -> float:
        """Return the time of a product with the next copy."""
        self._copies.append(used := self._copies.pop(0))
        began = time.perf_counter()
        used(x)
        return time.perf_counter() - began


def _projection(outputs: int, inputs: int, dtype: torch.dtype) -> Linear:
    linear = Linear(inputs, outputs, bias=False, device="meta", dtype=dtype)
    values = torch.linspace(-1, 1, inputs).expand(outputs, inputs).to(dtype).contiguous()
    linear.weight = nn.Parameter(values, requires_grad=False)
    return linear


def _values(config: NSAConfig) -> tuple[int, int]:
    """Return the numbers of weights in the projections of all layers and in the output one."""
    assert config.head_dim is not None
    width, dim = config.hidden_size, config.head_dim
    heads = 2 * config.num_attention_heads + 2 * config.num_key_value_heads
    layer = width * dim * heads + 3 * width * config.intermediate_size
    return config.num_hidden_layers * layer, config.vocab_size * width


def _least_seconds(
    formats: dict[str, list[_Copies]], rows: int, dtype: torch.dtype
) -> dict[str, float]:
    """Return the sum of the least times of a number of rows through each projection, by format.

    Formats alternate, so that other load affects them alike, and the least times of single products
    count, which load interrupts least. One thread is measured as well as all: where other programs
    use the cores, threads wait for each other, and what they measure says nothing of the formats.
    """
    widths = {each.width for projections in formats.values() for each in projections}
    inputs = {
        width: torch.linspace(-1, 1, rows * width).to(dtype).view(rows, width) for width in widths
    }
    least = {name: [float("inf")] * len(projections) for name, projections in formats.items()}
    threads = torch.get_num_threads()
    try:
        for count in sorted({1, threads}):
            torch.set_num_threads(count)
            began = time.perf_counter()
            for number in range(_MOST_ROUNDS):
                for name, projections in formats.items():
                    for index, each in enumerate(projections):
                        taken = each.seconds(inputs[each.width])
                        least[name][index] = min(least[name][index], taken)
                if number and time.perf_counter() - began > _MOST_SECONDS:
                    break
    finally:
        torch.set_num_threads(threads)
    return {name: sum(each) for name, each in least.items()}

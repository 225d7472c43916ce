"""A measurement of `nsa bench read`, and the token counts that all measurements share."""

from __future__ import annotations

from typing import Any

PrefillRow = dict[str, Any]

QUESTION_TOKENS = 32
ANSWER_TOKENS = {"cpu": 17, "cuda": 129}
WARM_TOKENS = {"cpu": 64, "cuda": 140_000}
"""Tokens prefilled before a measurement; on CUDA enough to reach the kernels for long texts."""


def speed_fields(
    request: dict[str, Any], seconds: float, first: float, again: float, speed: float
) -> PrefillRow:
    """The fields of a measurement that any implementation can fill.

    Args:
        request: Length, attention and settings of the measurement.
        seconds: Duration of the prefill.
        first: Seconds from the end of the prefill to the first token of an answer.
        again: Seconds from a second question to its first token.
        speed: Decoded tokens per second.
    """
    return {
        "length": request["length"],
        "attention": request["attention"],
        "quantization": request["quantization"],
        "random_weights": request["random_weights"],
        "prefill_tokens_per_second": round(request["length"] / seconds, 1),
        "prefill_seconds": round(seconds, 2),
        "first_token_seconds": round(seconds + first, 2),
        "second_first_token_seconds": round(again, 4),
        "decode_tokens_per_second": round(speed, 2),
    }

"""One row of `nsa bench read`."""

from __future__ import annotations

from typing import Any

PrefillRow = dict[str, Any]


QUESTION_TOKENS = 32


ANSWER_TOKENS = {"cpu": 17, "cuda": 129}


WARM_TOKENS = {"cpu": 64, "cuda": 140_000}
"""Tokens that are read beforehand: on CUDA past those from which on NSA's kernels are others."""


def row(
    request: dict[str, Any], seconds: float, first: float, again: float, speed: float
) -> PrefillRow:
    """What any measurement tells.

    Args:
        request: As `measure` takes it.
        seconds: That reading took.
        first: From the end of reading to the first token of an answer, in seconds.
        again: From a second question to its first token, in seconds.
        speed: Tokens of the answer per second.
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

"""Raised figures: exponents, and the marks of notes."""

from __future__ import annotations

EXPONENT = "^"


def mark_before(before: str, raised: str) -> str:
    """The separator before a raised text, so that 10³ is not read as 103.

    Args:
        before: The text before it; its last character counts.
        raised: The raised text.

    Returns:
        `EXPONENT` between two figures, else an empty string.
    """
    figure = raised[:1].isdigit() or raised[:1] in ("-", "−", "–")
    return EXPONENT if figure and before[-1:].isdigit() else ""

"""Version of the rules that say whether a passage supports an answer. It imports nothing."""

from __future__ import annotations

SUPPORT_RULES = 6
"""Bump when `claims`, `polarity`, `roles`, `agents`, `nearest`, `second_value`, `asked_parts`,
`yes_or_no` or `states_result` give the same answer another mark, decline it, or quote another
sentence for it."""

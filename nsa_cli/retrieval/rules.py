"""Version of the rules that say whether a passage supports an answer. It imports nothing."""

from __future__ import annotations

SUPPORT_RULES = 7
"""Bump when `claims`, `polarity`, `roles`, `agents`, `nearest`, `second_value`, `asked_parts`,
`yes_or_no`, `declining`, `rates`, `states_result` or the verifier's bounds give the same answer
another mark, decline it, compute with it, or quote another sentence for it."""

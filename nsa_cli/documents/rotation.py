"""Rotated logs in the order in which they were written: the oldest first."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TypeVar

from nsa_cli.documents.compressed import SUFFIXES

_COMPRESSED = "(?:" + "|".join(re.escape(suffix) for suffix in sorted(SUFFIXES)) + ")?"
_NUMBERED = re.compile(rf"(.+)\.(\d{{1,4}}){_COMPRESSED}", re.DOTALL)
_DATED = re.compile(rf"(.+?)[-._](\d{{4}}-?\d\d-?\d\d[\dT_.:-]*?){_COMPRESSED}", re.DOTALL)
_PLAIN = re.compile(rf"(.+?){_COMPRESSED}", re.DOTALL)

T = TypeVar("T")


def in_order(items: Sequence[T], name: Callable[[T], str]) -> list[T]:
    """Put the parts of each rotated log in order; everything else stays where it is.

    `app.log.2.gz`, `app.log.1`, `app.log` is one log, and so is `app.log-20260101`, `app.log`.
    Parts come together, at the place of the first of them.

    Args:
        items: What to order.
        name: The path of an item.
    """
    names = [name(item) for item in items]
    bases = {_base(each) for each in names if _rank(each) is not None}
    groups: dict[str, list[T]] = {}
    for item, each in zip(items, names, strict=True):
        base = _base(each)
        groups.setdefault(f"log {base}" if base in bases else f"one {each}", []).append(item)
    ordered: list[T] = []
    for key, group in groups.items():
        rotated = key.startswith("log ")
        ordered += sorted(group, key=lambda item: _age(name(item))) if rotated else group
    return ordered


def _rank(name: str) -> int | str | None:
    """The number or date of a rotated part; None for other files."""
    if found := _NUMBERED.fullmatch(name):
        return int(found[2])
    found = _DATED.fullmatch(name)
    return found[2] if found else None


def _base(name: str) -> str:
    found = _NUMBERED.fullmatch(name) or _DATED.fullmatch(name) or _PLAIN.fullmatch(name)
    assert found is not None, name
    return found[1]


def _age(name: str) -> tuple[int, int, str]:
    """Sorts the oldest first: dates rising, then numbers falling, then the log itself."""
    rank = _rank(name)
    if isinstance(rank, str):
        return (0, 0, rank)
    return (1, -rank, "") if rank is not None else (2, 0, "")

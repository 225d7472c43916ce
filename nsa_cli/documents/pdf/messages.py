"""Warnings about the pages of a PDF."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence


def about_pages(numbers: Sequence[int], what: str, *, past: bool = False) -> tuple[str, ...]:
    """Name some pages and what they have, or how they were read: `pages 3-5, 9 have no text`."""
    if not numbers:
        return ()
    one = len(numbers) == 1
    verb = ("was" if one else "were") if past else ("has" if one else "have")
    return (f"{named(numbers)} {verb} {what}",)


def named(numbers: Sequence[int]) -> str:
    """Page numbers in words: `page 3`, `pages 3-5, 9`."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][-1] == number - 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    parts = ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)
    return f"page{'' if len(numbers) == 1 else 's'} {parts}"


def about_hidden(words: Mapping[int, Counter[str]]) -> tuple[str, ...]:
    """Say which pages have hidden text that was left out, how much and why."""
    if not words:
        return ()
    total: Counter[str] = Counter()
    for each in words.values():
        total.update(each)
    count = total.total()
    reasons = ", ".join(reason for reason, _ in total.most_common())
    what = f"{count} word{'' if count == 1 else 's'} of hidden text ({reasons})"
    return tuple(
        f"{warning}, left out; --hidden reads it" for warning in about_pages(sorted(words), what)
    )


def about_unreadable(shares: Mapping[int, float], *, ocr: bool) -> tuple[str, ...]:
    """Say which pages have glyphs without a meaning, and their share of the characters."""
    if not shares:
        return ()
    largest = max(shares.values())
    some = f"{'' if len(shares) == 1 else 'up to '}{largest:.0%} unreadable characters"
    how_much = "no readable text" if largest > 0.95 else some
    remedy = "" if ocr else "; --ocr reads what the page shows"
    return about_pages(sorted(shares), f"{how_much} (fonts without a mapping to Unicode){remedy}")


def about_fields(counts: Mapping[int, int]) -> tuple[str, ...]:
    """Say which pages have form fields that cannot be read."""
    return tuple(
        f"page {number} has {count} form field{'' if count == 1 else 's'} that cannot be read"
        for number, count in sorted(counts.items())
    )


def about_damaged(causes: Mapping[int, str]) -> tuple[str, ...]:
    """Say which pages are damaged beyond reading, with the first cause."""
    if not causes:
        return ()
    numbers = sorted(causes)
    one = len(numbers) == 1
    verbs = "is damaged and was" if one else "are damaged and were"
    return (f"{named(numbers)} {verbs} not read ({causes[numbers[0]]})",)

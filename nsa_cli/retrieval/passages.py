"""Scored blocks become passages of the document."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from nsa_cli.context.tokens import Text
from nsa_cli.documents import Document
from nsa_cli.results import Passage

_CLOSE_BLOCKS = 4


_CLOSE_MARGIN = 1


_CLOSE_SIZE = 64
"""Tokens of the blocks that these two count; of smaller ones there are more."""


CLOSE_TOKENS = 1024
"""A text up to this long is answered from directly: a closer look would take in all of it."""


_LINE_REACH = 400
"""Characters by which a passage is widened at most to take in a line whole."""


def look(scores: Tensor, text: Text, document: Document, size: int) -> list[Passage]:
    """The passages that a question lights on.

    Args:
        scores: (N,), from `OpenText.scores`.
        text: What was read.
        document: Where it comes from.
        size: Tokens of a block.
    """
    per, ends = blocks_per(size), set[int]()
    if text.document_tokens > CLOSE_TOKENS and document.pieces[-1].page is None:
        # The end of a log is where things went wrong: it is taken in.
        ends = set(range(len(scores) - 2 * per, len(scores)))
    runs = best_runs(scores, _CLOSE_BLOCKS * per, _CLOSE_MARGIN * per, ends)
    if not runs and text.document_tokens <= CLOSE_TOKENS:
        return [Passage(start=0, end=len(document.text), score=1.0)]
    return passages_of(runs, text, document, size)


def blocks_per(size: int) -> int:
    """Blocks of a size that take the place of one of `_CLOSE_SIZE`."""
    return max(1, _CLOSE_SIZE // size)


def passages_of(
    runs: Sequence[tuple[int, int, float]], text: Text, document: Document, size: int
) -> list[Passage]:
    """Runs of blocks as passages of the document, with shares of the scores.

    Args:
        runs: First block, one past the last, and score of each, in the order of the text.
        text: What was read.
        document: Where it comes from.
        size: Tokens of a block.
    """
    weights = shares([score for _, _, score in runs])
    return _passages(
        [
            (span[0], span[1], weight)
            for (first, stop, _), weight in zip(runs, weights, strict=True)
            if (span := text.span(first * size, min(stop * size, len(text.ids)))) is not None
        ],
        document.text,
    )


def _passages(spans: Sequence[tuple[int, int, float]], text: str) -> list[Passage]:
    """Widen spans to whole lines, unless these are very long, and merge those that touch."""
    passages: list[Passage] = []
    for start, end, score in spans:
        start = max(text.rfind("\n", 0, start) + 1, start - _LINE_REACH)
        newline = text.find("\n", end)
        end = min(newline if newline >= 0 else len(text), end + _LINE_REACH)
        if passages and start <= passages[-1].end:
            last = passages.pop()
            start, end, score = last.start, max(end, last.end), score + last.score
        passages.append(Passage(start=start, end=end, score=score))
    return passages


def weigh(passages: Sequence[Passage], mass: Tensor, text: Text, size: int = 64) -> list[Passage]:
    """Add to each passage's share of the question's attention that of the answer's.

    Args:
        passages: From `look`.
        mass: (N,) from the answer, over the blocks of `text`.
        text: What the answer was decoded from.
        size: Tokens of a block.
    """
    found = [0.0] * len(passages)
    for block, value in enumerate(mass.tolist()):
        own = text.characters[block * size : (block + 1) * size]
        for number, passage in enumerate(passages):
            inside = (own >= passage.start) & (own < passage.end)
            found[number] += value * float(inside.mean()) if len(own) else 0.0
    return [
        Passage(start=p.start, end=p.end, score=(p.score + share) / 2)
        for p, share in zip(passages, shares(found), strict=True)
    ]


def best_runs(
    scores: Tensor, count: int, margin: int, always: Iterable[int] = ()
) -> list[tuple[int, int, float]]:
    """The best blocks with their neighbours, merged into runs.

    Args:
        scores: (N,), zero where a block is not to be chosen.
        count: Blocks to choose at most.
        margin: Neighbours to take in on either side.
        always: Blocks to take in whatever their scores.

    Returns:
        First block, one past the last, and the sum of the scores, in the order of the text.
    """
    best = scores.topk(min(count, len(scores)))
    taken = set(always)
    for block, score in zip(best.indices.tolist(), best.values.tolist(), strict=True):
        if score > 0:
            taken.update(range(max(0, block - margin), min(len(scores), block + margin + 1)))
    runs: list[tuple[int, int, float]] = []
    for block in sorted(taken):
        first, total = block, 0.0
        if runs and runs[-1][1] == block:
            first, _, total = runs.pop()
        runs.append((first, block + 1, total + float(scores[block])))
    return runs


def shares(values: list[float]) -> list[float]:
    """Values as shares of their sum."""
    total = torch.tensor(values).sum().clamp(min=1e-12)
    return [float(value / total) for value in values]

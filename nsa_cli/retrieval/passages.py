"""Scored blocks become passages of the document."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from nsa_cli.context.tokens import TokenizedText
from nsa_cli.documents import Document
from nsa_cli.results import Passage

_TOP_BLOCKS = 4
_MARGIN_BLOCKS = 1
_BLOCK_TOKENS = 64
"""Tokens of a block in the two counts above; smaller blocks count for less."""

DIRECT_TOKENS = 1024
"""A document up to this long is answered from directly: passages would cover all of it."""

_FAR = 64
"""Characters between two tokens that are not next to each other in the document."""

_LINE_REACH = 400
"""Maximum characters that a passage is widened by to include a whole line."""


def top_passages(
    scores: Tensor, text: TokenizedText, document: Document, size: int
) -> list[Passage]:
    """Return the top passages for a question, in the order of the document.

    Args:
        scores: (N,), from `Retriever.scores`.
        text: The tokens of the document.
        document: The document.
        size: Tokens of a block.
    """
    per, ends = blocks_per(size), set[int]()
    if _has_end(text, document):
        ends = set(range(len(scores) - 2 * per, len(scores)))
    runs = best_runs(scores, _TOP_BLOCKS * per, _MARGIN_BLOCKS * per, ends)
    if not runs and text.document_tokens <= DIRECT_TOKENS:
        return [Passage(start=0, end=len(document.text), score=1.0)]
    return passages_of(runs, text, document, size)


def _has_end(text: TokenizedText, document: Document) -> bool:
    """Whether the end of a text is always read: the last lines of a log tell what went wrong."""
    return text.document_tokens > DIRECT_TOKENS and document.pieces[-1].page is None


def text_end(text: TokenizedText, document: Document, size: int) -> tuple[int, int] | None:
    """Return the characters of a text's last two blocks; None for a document with pages."""
    if not _has_end(text, document):
        return None
    blocks = -(-len(text.ids) // size) - 2 * blocks_per(size)
    return text.span(max(0, blocks) * size, len(text.ids))


def blocks_per(size: int) -> int:
    """Return how many blocks of a size replace one of `_BLOCK_TOKENS`."""
    return max(1, _BLOCK_TOKENS // size)


def passages_of(
    runs: Sequence[tuple[int, int, float]], text: TokenizedText, document: Document, size: int
) -> list[Passage]:
    """Turn runs of blocks into passages of the document, with their shares of the scores.

    Args:
        runs: First block, one past the last, and score of each, in the order of the text.
        text: The tokens of the document.
        document: The document.
        size: Tokens of a block.
    """
    weights = shares([score for _, _, score in runs])
    return widened(
        [
            (span[0], span[1], weight)
            for (first, stop, _), weight in zip(runs, weights, strict=True)
            if (span := text.span(first * size, min(stop * size, len(text.ids)))) is not None
        ],
        document.text,
    )


def widened(spans: Sequence[tuple[int, int, float]], text: str) -> list[Passage]:
    """Widen spans to whole lines, unless these are very long, and merge those that touch.

    Args:
        spans: First character, one past the last, and score of each, in the order of the text.
        text: The text.
    """
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


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerAttention:
    """Attention that the tokens of an answer gave the text it was decoded from.

    Attributes:
        mass: (N,) over the blocks of `text`.
        text: The text.
        size: Tokens of a block.
    """

    mass: Tensor
    text: TokenizedText
    size: int


def add_answer_attention(passages: Sequence[Passage], attention: AnswerAttention) -> list[Passage]:
    """Score passages by the mean of the question's and the answer's share of attention.

    Args:
        passages: From `top_passages`, scored by the question's attention.
        attention: The answer's attention.
    """
    size, characters = attention.size, attention.text.characters
    found = [0.0] * len(passages)
    for block, value in enumerate(attention.mass.tolist()):
        own = characters[block * size : (block + 1) * size]
        for number, passage in enumerate(passages):
            inside = (own >= passage.start) & (own < passage.end)
            found[number] += value * float(inside.mean()) if len(own) else 0.0
    return [
        replace(passage, score=(passage.score + share) / 2)
        for passage, share in zip(passages, shares(found), strict=True)
    ]


def attended_passages(attention: AnswerAttention, document: Document) -> list[Passage]:
    """Return the passages that an answer attended to most, in the order of the document.

    Their scores are 0: see `add_answer_attention`.

    Args:
        attention: The answer's attention to pages.
        document: The document.
    """
    size, characters = attention.size, attention.text.characters
    best = attention.mass.topk(min(_TOP_BLOCKS, len(attention.mass)))
    spans = []
    for block, mass in zip(best.indices.tolist(), best.values.tolist(), strict=True):
        own = characters[block * size : (block + 1) * size]
        own = own[own >= 0]
        if mass > 0 and len(own) > 1:
            # A block may have the end of one page and the beginning of another.
            # Pages of two context windows can overlap: then the second begins earlier.
            steps = np.diff(own)
            parts = np.split(own, np.flatnonzero((steps > _FAR) | (steps < 0)) + 1)
            longest = max(parts, key=len)
            spans.append((int(longest[0]), int(longest[-1]), 0.0))
    return widened(sorted(spans), document.text)


def merge_passages(passages: Sequence[Passage], others: Sequence[Passage]) -> list[Passage]:
    """Merge two lists of passages in the order of the document; overlapping ones become one."""
    merged: list[Passage] = []
    for passage in sorted([*passages, *others], key=lambda each: each.start):
        if merged and passage.start <= merged[-1].end:
            last = merged.pop()
            passage = Passage(
                start=last.start,
                end=max(last.end, passage.end),
                score=last.score + passage.score,
            )
        merged.append(passage)
    return merged


def best_runs(
    scores: Tensor, count: int, margin: int, always: Iterable[int] = ()
) -> list[tuple[int, int, float]]:
    """Return the best blocks with their neighbors, merged into runs.

    Args:
        scores: (N,), zero for a block that must not be chosen.
        count: Maximum blocks to choose.
        margin: Neighbors to include on either side.
        always: Blocks to include regardless of their scores.

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
    """Return values as shares of their sum."""
    total = torch.tensor(values).sum().clamp(min=1e-12)
    return [float(value / total) for value in values]

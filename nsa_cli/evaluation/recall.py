"""Recall and loss of models trained from scratch, and their comparison on the same texts.

A right answer is one that greedy decoding gives: each of its tokens is the likeliest one after the
tokens before it, so that one forward pass checks all answers of a text.

Letters: R rows, T tokens.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from nsa_models.tasks.recall import RecallText
    from nsa_models.training.shards import TokenDocuments
    from nsa_models.training.token_losses import TokenLosses

Row = dict[str, Any]
"""A text of a measure, or a range of its positions: the sum of its scores, and their number."""

LOSS = "loss"
_SAMPLES = 10_000
_TEXT = ("measure", "tokens", "depth", "number")
_ABOVE_CHANCE = 0.15


@dataclass(frozen=True, slots=True, kw_only=True)
class TextName:
    """Which text of a measure it is.

    Attributes:
        measure: A task of `nsa_models.tasks.recall`.
        tokens: T.
        depth: Depth of the fact; None if it is random.
        number: Number of the text among those of its measure, T and depth.
    """

    measure: str
    tokens: int
    depth: float | None
    number: int

    def row(self) -> Row:
        """Return the name as the beginning of a row."""
        return {name: getattr(self, name) for name in _TEXT}


def recall_rows(
    losses: TokenLosses,
    texts: Sequence[tuple[TextName, RecallText]],
    *,
    tokens_at_once: int = 65_536,
) -> Iterator[Row]:
    """Yield a row for each text: right answers as `score`, all as `count`, and the chance.

    Args:
        losses: The model.
        texts: The texts, those of one length together.
        tokens_at_once: Most tokens of a pass.
    """
    import torch

    from nsa_models.cache.kv_cache import NoCache

    model, device = losses.model, losses.model.device
    for tokens, group in itertools.groupby(texts, key=lambda each: len(each[1].ids)):
        same, most = list(group), max(1, tokens_at_once // tokens)
        for start in range(0, len(same), most):
            part = same[start : start + most]
            ids = torch.from_numpy(np.stack([text.ids for _, text in part]))
            with (
                torch.no_grad(),
                torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"),
            ):
                x, _ = model.hidden_states(ids.to(device), NoCache())
                for row, (name, text) in enumerate(part):
                    places = [n for answer in text.answers for n in range(*answer)]
                    before = torch.tensor(places, device=device) - 1
                    likeliest = model.logits(x[row, before][None])[0].argmax(-1).cpu().numpy()
                    right = dict(zip(places, likeliest == text.ids[places], strict=True))
                    score = sum(all(right[n] for n in range(*answer)) for answer in text.answers)
                    count = len(text.answers)
                    yield {**name.row(), "score": score, "count": count, "chance": text.chance}


def loss_rows(
    losses: TokenLosses,
    documents: TokenDocuments,
    *,
    tokens: int,
    limit: int,
    edges: Sequence[int],
) -> Iterator[Row]:
    """Yield a row for each range of positions of each document: the sum of its losses in nats.

    Args:
        losses: The model.
        documents: Documents; those with more than T tokens are measured, from their beginning.
        tokens: T.
        limit: Most documents.
        edges: Bounds of the ranges, from 0 to T.
    """
    import torch

    from nsa_models.cache.kv_cache import NoCache

    device = losses.model.device
    long = [n for n, length in enumerate(documents.lengths) if length > tokens][:limit]
    for document in long:
        ids = torch.from_numpy(documents.tokens(document, 0, tokens + 1))[None].to(device)
        with torch.no_grad():
            _, found = losses.losses(ids[:, :-1], ids[:, 1:], NoCache())
        name = TextName(measure=LOSS, tokens=tokens, depth=None, number=document).row()
        for first, stop in itertools.pairwise(edges):
            score = float(found[0, first:stop].double().sum())
            yield {**name, "first": first, "score": score, "count": stop - first, "chance": None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two models on the same texts.

    Attributes:
        texts: Number of texts.
        scores: Mean score of each model; for a loss, nats a token.
        chance: Mean score of a guess; None for a loss.
        difference: First minus second.
        low: Lower end of its 95 % interval, by bootstrap over texts.
        high: Upper end of it.
    """

    texts: int
    scores: tuple[float, float]
    chance: float | None
    difference: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """`ahead`, `level` or `behind` for the first model, or that the measure does not count."""
        if self.chance is not None and max(self.scores) - self.chance < _ABOVE_CHANCE:
            return "not counted"
        if self.low <= 0.0 <= self.high:
            return "level"
        return "ahead" if (self.difference > 0) == (self.chance is not None) else "behind"


def compare(first: Sequence[Row], second: Sequence[Row], *, seed: int = 0) -> Comparison:
    """Compare two models by their rows of one measure.

    Args:
        first: Rows of the first model.
        second: Rows of the second model for the same texts, in any order.
        seed: Seed of the bootstrap.

    Raises:
        ValueError: If there are no rows, or the texts differ.

    Source: Efron and Tibshirani 1993, "An Introduction to the Bootstrap".
    """
    one, other = _by_text(first), _by_text(second)
    if not one or one.keys() != other.keys():
        raise ValueError(f"{len(one)} and {len(other)} texts are not pairs")
    names = sorted(one, key=repr)
    found = np.array([[rows[name][0] for name in names] for rows in (one, other)])
    counts = np.array([one[name][1] for name in names])
    drawn = np.random.default_rng(seed).integers(len(names), size=(_SAMPLES, len(names)))
    differences = (found[0] - found[1])[drawn].sum(1) / counts[drawn].sum(1)
    low, high = np.quantile(differences, [0.025, 0.975])
    chances = [row["chance"] for row in first]
    scores = found.sum(1) / counts.sum()
    return Comparison(
        texts=len(names),
        scores=(float(scores[0]), float(scores[1])),
        chance=None if None in chances else float(np.mean(chances)),
        difference=float(scores[0] - scores[1]),
        low=float(low),
        high=float(high),
    )


def _by_text(rows: Sequence[Row]) -> dict[tuple[Any, ...], tuple[float, int]]:
    """Return the sum of the scores of each text, and their number."""
    found: dict[tuple[Any, ...], tuple[float, int]] = {}
    for row in rows:
        name = tuple(row[each] for each in _TEXT)
        score, count = found.get(name, (0.0, 0))
        found[name] = score + row["score"], count + row["count"]
    return found

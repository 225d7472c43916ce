"""Training of low-rank changes that act on questions about a text, and not on the text.

Each text is prefilled without gradients by the unchanged model; many short questions about it are
rows of one batch that attend to its keys and values.

Letters: C texts, R rows (questions), T tokens, S keys, H query heads, G groups, D head dim.

Source: Greenewald et al. 2025, "Activated LoRA", arXiv 2504.12397.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.bias import causal_lower_right

from nsa_kernels.settings import AttentionSettings
from nsa_models.cache.kv_cache import Compressor, NoCache
from nsa_models.modeling.low_rank import LowRankChanges
from nsa_models.modeling.model import NSALanguageModel
from nsa_models.tokenization.ids import TokenIds
from nsa_models.training.stage import Hooks, Schedule, Stage, TrainingProgress

_DENSE = AttentionSettings(select_count=None)

_SHORT_ROW = 112
"""Tokens up to which a row is short: requests for expressions have more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextQuestions:
    """A text with questions, each answered on its own.

    Attributes:
        text: (T,) tokens of the text.
        rows: Tokens of each question with its answer.
        answers: How many tokens at the end of each row are the answer's.
    """

    text: TokenIds
    rows: tuple[TokenIds, ...]
    answers: tuple[int, ...]

    @property
    def ids(self) -> TokenIds:
        """All tokens."""
        return np.concatenate([self.text, *self.rows])


class _Prefilled(NoCache):
    """Attention over texts whose keys and values are kept, layer by layer."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[tuple[Tensor, Tensor]] = []

    def attend(
        self,
        layer: int,  # noqa: ARG002
        q: Tensor,
        k: Tensor,
        v: Tensor,
        settings: AttentionSettings,  # noqa: ARG002
        gates: Tensor | None,  # noqa: ARG002
        return_mass: bool,  # noqa: ARG002
        compress: Compressor | None = None,  # noqa: ARG002
    ) -> tuple[Tensor, Tensor | None]:
        """Attend causally; padding follows a text, so that no token of it is seen."""
        self.kept.append((k, v))
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True), None


class _AfterTexts(NoCache):
    """Attention of rows, each to one of the prefilled texts and to itself.

    Args:
        kept: Keys and values (C, G, S, D) of each layer.
        lengths: Tokens of each text.
        counts: Rows about each text; the rows follow the order of the texts.
    """

    def __init__(
        self, kept: list[tuple[Tensor, Tensor]], lengths: Sequence[int], counts: Sequence[int]
    ) -> None:
        super().__init__()
        self._kept, self._lengths, self._counts = kept, lengths, counts

    def positions(self, tokens: int, device: torch.device) -> Tensor:
        """Return positions (R, 1, T), from the length of each row's text."""
        counts = torch.tensor(self._counts, device=device)
        first = torch.tensor(self._lengths, device=device).repeat_interleave(counts)
        return first[:, None, None] + torch.arange(tokens, device=device)

    def attend(
        self,
        layer: int,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        settings: AttentionSettings,  # noqa: ARG002
        gates: Tensor | None,  # noqa: ARG002
        return_mass: bool,  # noqa: ARG002
        compress: Compressor | None = None,  # noqa: ARG002
    ) -> tuple[Tensor, Tensor | None]:
        """Attend to the text's keys and causally to the row's own; padding follows a row."""
        outs, first = [], 0
        for number, (length, count) in enumerate(zip(self._lengths, self._counts, strict=True)):
            if not count:
                continue
            rows = slice(first, first + count)
            keys, values = (
                torch.cat(
                    [kept[number, :, :length].to(own.dtype).expand(count, -1, -1, -1), own], 2
                )
                for kept, own in zip(self._kept[layer], (k[rows], v[rows]), strict=True)
            )
            mask = causal_lower_right(q.shape[2], keys.shape[2])
            outs.append(
                F.scaled_dot_product_attention(
                    q[rows], keys, values, attn_mask=mask, enable_gqa=True
                )
            )
            first += count
        return torch.cat(outs), None


def train_changes(
    model: NSALanguageModel,
    changes: LowRankChanges,
    batches: Iterator[Sequence[TextQuestions]],
    schedule: Schedule,
    hooks: Hooks,
) -> TrainingProgress:
    """Train changes on the answers to questions; the model itself stays as it is.

    Args:
        model: The model, without gradients.
        changes: Changes whose matrices take gradients.
        batches: The texts of each step.
        schedule: Duration and rate.
        hooks: Reports and saves.
    """
    parameters = [each for each in changes.matrices.values() if each.requires_grad]
    stage = Stage(model, schedule, [(parameters, schedule.rate)], hooks)  # type: ignore[list-item]
    return stage.run(batches, lambda batch: question_losses(model, changes, batch))  # type: ignore[arg-type]


def question_losses(
    model: NSALanguageModel, changes: LowRankChanges, texts: Sequence[TextQuestions]
) -> dict[str, Tensor]:
    """Return the mean loss of the answers' tokens, and the share of answers that are right.

    Args:
        model: The model.
        changes: Its changes, switched on for the questions.
        texts: Texts with questions.
    """
    device = model.device
    prefilled = _Prefilled()
    found: list[tuple[Tensor, Tensor]] = []
    with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
        with torch.no_grad():
            padded = _padded([each.text for each in texts]).to(device)
            model.hidden_states(padded, prefilled, _DENSE)
        for some in _by_length(texts):  # short rows without the padding of the long ones
            found += _pass_losses(model, changes, texts, some, prefilled)
    losses = torch.cat([loss for loss, _ in found])
    right = torch.stack([wrong == 0 for _, wrong in found]).float().mean()
    return {"loss answer": losses.mean(), "answers right": right}


def _by_length(texts: Sequence[TextQuestions]) -> list[list[list[int]]]:
    """The rows of each text by number, up to `_SHORT_ROW` tokens and longer; no empty pass."""
    parts: list[list[list[int]]] = [[], []]
    for each in texts:
        for part, is_long in zip(parts, (False, True), strict=True):
            part.append(
                [n for n, row in enumerate(each.rows) if (len(row) > _SHORT_ROW) == is_long]
            )
    return [part for part in parts if any(part)]


def _pass_losses(
    model: NSALanguageModel,
    changes: LowRankChanges,
    texts: Sequence[TextQuestions],
    some: Sequence[Sequence[int]],
    prefilled: _Prefilled,
) -> list[tuple[Tensor, Tensor]]:
    """The losses of each row's answer, and how many of its tokens are wrong.

    Args:
        model: The model.
        changes: Its changes.
        texts: The texts.
        some: Rows of each text, by number.
        prefilled: Has the keys and values of the texts.
    """
    pairs = [
        (each.rows[n], each.answers[n]) for each, own in zip(texts, some, strict=True) for n in own
    ]
    ids = _padded([row for row, _ in pairs]).to(model.device)
    lengths, counts = [len(each.text) for each in texts], [len(own) for own in some]
    with changes.active():
        x, _ = model.hidden_states(ids, _AfterTexts(prefilled.kept, lengths, counts), _DENSE)
    width = ids.shape[1]
    places = [
        np.arange(len(row) - answer, len(row)) + number * width
        for number, (row, answer) in enumerate(pairs)
    ]
    targets = torch.from_numpy(np.concatenate(places)).to(model.device)
    logits = model.logits(x.flatten(0, 1)[None, targets - 1])[0].float()
    gold = ids.flatten()[targets]
    losses = F.cross_entropy(logits, gold, reduction="none")
    wrong = logits.argmax(dim=-1) != gold
    sizes = [answer for _, answer in pairs]
    return list(zip(losses.split(sizes), (each.sum() for each in wrong.split(sizes)), strict=True))


def _padded(rows: Sequence[TokenIds]) -> Tensor:
    """Rows of token ids as one tensor (R, T), padded at the end."""
    length = max(map(len, rows))
    padded = np.zeros((len(rows), length), np.int64)
    for number, row in enumerate(rows):
        padded[number, : len(row)] = row
    return torch.from_numpy(padded)

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

from nsa_kernels.settings import AttentionSettings
from nsa_models.cache.kv_cache import Compressor, NoCache
from nsa_models.modeling.low_rank import LowRankChanges
from nsa_models.modeling.model import NSALanguageModel
from nsa_models.tokenization.ids import TokenIds
from nsa_models.training.stage import Hooks, Schedule, Stage, TrainingProgress

_DENSE = AttentionSettings(select_count=None)


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
        lengths: (C,) tokens of each text.
        text_of: (R,) the text of each row.
    """

    def __init__(self, kept: list[tuple[Tensor, Tensor]], lengths: Tensor, text_of: Tensor) -> None:
        super().__init__()
        self._kept, self._lengths, self._text_of = kept, lengths, text_of
        self._mask: Tensor | None = None

    def positions(self, tokens: int, device: torch.device) -> Tensor:
        """Return positions (R, 1, T), from the length of each row's text."""
        own = torch.arange(tokens, device=device)
        return self._lengths[self._text_of][:, None, None] + own

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
        """Attend to the text's keys without padding, and causally to the row's own."""
        text_k, text_v = self._kept[layer]
        k = torch.cat([text_k[self._text_of].to(k.dtype), k], dim=2)
        v = torch.cat([text_v[self._text_of].to(v.dtype), v], dim=2)
        groups, tokens = k.shape[1], q.shape[2]
        heads = q.shape[1] // groups
        if self._mask is None:
            self._mask = self._visible(text_k.shape[2], tokens).repeat(1, 1, heads, 1)
        rows = q.unflatten(1, (groups, heads)).flatten(2, 3)  # (R, G, H / G * T, D)
        out = F.scaled_dot_product_attention(rows, k, v, attn_mask=self._mask)
        return out.unflatten(2, (heads, tokens)).flatten(1, 2), None

    def _visible(self, keys: int, tokens: int) -> Tensor:
        """Which keys a token sees: (R, 1, T, S) booleans."""
        device, lengths = self._lengths.device, self._lengths[self._text_of]
        text = torch.arange(keys, device=device) < lengths[:, None]
        own = torch.ones(tokens, tokens, dtype=torch.bool, device=device).tril()
        rows = len(lengths)
        return torch.cat(
            [text[:, None].expand(rows, tokens, keys), own.expand(rows, tokens, tokens)], dim=2
        )[:, None]


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
    cuda = device.type == "cuda"
    lengths = torch.tensor([len(each.text) for each in texts], device=device)
    rows = [row for each in texts for row in each.rows]
    text_of = torch.tensor(
        [number for number, each in enumerate(texts) for _ in each.rows], device=device
    )
    ids = _padded(rows).to(device)
    prefilled = _Prefilled()
    with torch.autocast(device.type, torch.bfloat16, enabled=cuda):
        with torch.no_grad():
            model.hidden_states(_padded([x.text for x in texts]).to(device), prefilled, _DENSE)
        with changes.active():
            after = _AfterTexts(prefilled.kept, lengths, text_of)
            x, _ = model.hidden_states(ids, after, _DENSE)
        places, targets, answer_of = _targets(texts, ids.shape[1])
        logits = model.logits(x.flatten(0, 1)[None, places.to(device)])[0]
    targets = ids.flatten()[targets.to(device)]
    losses = F.cross_entropy(logits.float(), targets, reduction="none")
    wrong = (logits.argmax(dim=-1) != targets).float()
    wrong_of = torch.zeros(len(rows), device=device).index_add(0, answer_of.to(device), wrong)
    return {"loss answer": losses.mean(), "answers right": (wrong_of == 0).float().mean()}


def _padded(rows: Sequence[TokenIds]) -> Tensor:
    """Rows of token ids as one tensor (R, T), padded at the end."""
    length = max(map(len, rows))
    padded = np.zeros((len(rows), length), np.int64)
    for number, row in enumerate(rows):
        padded[number, : len(row)] = row
    return torch.from_numpy(padded)


def _targets(texts: Sequence[TextQuestions], width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Places that predict the answers' tokens, places of these, and the row of each."""
    places, rows = list[np.ndarray](), list[np.ndarray]()
    pairs = [
        (len(row), answer)
        for each in texts
        for row, answer in zip(each.rows, each.answers, strict=True)
    ]
    for number, (length, answer) in enumerate(pairs):
        places.append(np.arange(length - answer, length) + number * width)
        rows.append(np.full(answer, number))
    targets = torch.from_numpy(np.concatenate(places))
    return targets - 1, targets, torch.from_numpy(np.concatenate(rows))

"""Forward pass of a training example: text and question in one call, without a cache.

Letters: B batch, T tokens, S keys, H query heads, G key/value groups, D head dim, P positions,
V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from nsa_kernels.settings import AttentionSettings
from nsa_models.cache.kv_cache import Compressor, NoCache
from nsa_models.modeling.model import NSALanguageModel

Observer = Callable[[int, Tensor, Tensor], None]
"""Called with a layer's number, queries (B, H, T, D) and keys (B, G, S, D), both rotated."""


class ExampleAttention(NoCache):
    """Attention of a training example.

    Args:
        question: Position of the first token with the answer settings; None without a question.
        answer: Attention settings of the question and the answer, with `question`.
        observe: Called before each layer's attention.
    """

    def __init__(
        self,
        question: int | None = None,
        answer: AttentionSettings | None = None,
        observe: Observer | None = None,
    ) -> None:
        self._question, self._answer, self._observe = question, answer, observe

    def attend(
        self,
        layer: int,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        settings: AttentionSettings,
        gates: Tensor | None,
        return_mass: bool,
        compress: Compressor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Attend with two settings; return the mass of the question and the answer."""
        if self._observe is not None:
            self._observe(layer, q, k)
        parts = [(0, q.shape[2], settings)]
        if self._question is not None and self._answer is not None:
            parts = [(0, self._question, settings), (self._question, q.shape[2], self._answer)]
        outs, mass = [], None
        for start, end, part in parts:
            gate = None if gates is None else gates[:, :, start:end]
            keys, values = k[:, :, :end], v[:, :, :end]
            out, mass = super().attend(
                layer, q[:, :, start:end], keys, values, part, gate, return_mass, compress
            )
            outs.append(out)
        return torch.cat(outs, dim=2), mass


def logits_at(
    model: NSALanguageModel,
    input_ids: Tensor,
    positions: Tensor,
    settings: AttentionSettings,
    attention: NoCache | None = None,
) -> Tensor:
    """Return logits (P, V) at the given positions.

    Args:
        model: The model.
        input_ids: (B, T).
        positions: (P,) counted through the rows of the batch.
        settings: Attention settings.
        attention: Attention of each layer; plain attention with `settings` when None.
    """
    x, _ = model.hidden_states(input_ids, attention or NoCache(), settings)
    if not len(positions):
        return x.new_empty(0, model.config.vocab_size)
    return model.logits(x.flatten(0, 1)[None, positions])[0]

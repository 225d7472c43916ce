"""The losses of packed rows, and the compiled parts of a model.

Letters: R rows, T tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from nsa_models.cache.kv_cache import NoCache
from nsa_models.modeling.model import NSADecoderLayer, NSALanguageModel
from nsa_models.training.choice_loss import TaughtAttention
from nsa_models.training.cross_entropy import (
    SoftmaxLosses,
    chunked_cross_entropy,
    softmax_losses,
)
from nsa_models.training.packed_attention import PackedAttention
from nsa_models.training.rows import PackedBatch


class TokenLosses(nn.Module):
    """A language model that returns the losses of packed rows.

    Args:
        model: The model.
        chunk: Positions whose logits are in memory.
        choice: Weight of the loss of the choice of blocks, see `choice_loss`; it adds to gradients
            only. Rows of several documents have none.
        choice_queries: Queries of a row with that loss.

    Attributes:
        full: Whether the selection of `gated` attention takes all blocks while gradients are
            computed, in rows of one document.
    """

    def __init__(
        self,
        model: NSALanguageModel,
        chunk: int,
        *,
        choice: float = 0.0,
        choice_queries: int = 512,
    ) -> None:
        super().__init__()
        self.model, self._chunk = model, chunk
        self._choice, self._choice_queries = choice, choice_queries
        self.full = False
        self.softmax: SoftmaxLosses = softmax_losses

    def forward(self, batch: PackedBatch) -> tuple[Tensor, Tensor]:
        """Return the sum of the losses and the loss of each position (R, T)."""
        if batch.whole:
            return self.losses(batch.ids, batch.targets, NoCache())
        return self.losses(
            batch.ids, batch.targets, PackedAttention(batch.lengths, batch.ids.device)
        )

    def losses(self, ids: Tensor, targets: Tensor, attention: NoCache) -> tuple[Tensor, Tensor]:
        """Return the sum of the losses and the loss of each position (R, T).

        Args:
            ids: (R, T) token ids.
            targets: (R, T) the next tokens.
            attention: Attention within each row; within each document of all rows together if it
                is packed.
        """
        model, device = self.model, ids.device
        shape = ids.shape
        taught: TaughtAttention | None = None
        whole = type(attention) is NoCache and attention.packing is None
        if (self._choice or self.full) and whole and torch.is_grad_enabled():
            queries = self._choice_queries if self._choice else 0
            attention = taught = TaughtAttention(queries, full=self.full)
        if isinstance(attention, PackedAttention) or attention.packing is not None:
            ids = ids.flatten()[None]
        cuda = device.type == "cuda"
        with torch.autocast(device.type, torch.bfloat16, enabled=cuda):
            x, _ = model.hidden_states(ids, attention)
            x = model.model.norm(x)
        if model.config.logit_scale != 1.0:
            x = x * model.config.logit_scale
        total, losses = chunked_cross_entropy(
            *(x.flatten(0, 1), model.lm_head.weight, targets.flatten()),
            chunk=self._chunk,
            dtype=torch.bfloat16 if cuda else torch.float32,
            softmax=self.softmax,
        )
        choice = None if taught is None else taught.take_loss()
        if choice is not None:
            total = total + self._choice * (choice - choice.detach())
        return total, losses.view(shape)


def compile_parts(
    losses: TokenLosses,
    backend: str | Callable[..., Any] = "inductor",
    *,
    dynamic: bool | None = None,
) -> None:
    """Compile all but the attention: projections, rotation, norms, MLPs and the softmax.

    Compression, selection and attention have Triton kernels, and stay as they are.

    Args:
        losses: The model with its losses.
        backend: A backend of `torch.compile`.
        dynamic: Whether one compilation serves all lengths; None compiles for one length first.
    """
    compile_layers(losses.model, backend, dynamic=dynamic)
    losses.softmax = torch.compile(softmax_losses, backend=backend, dynamic=dynamic)


def compile_layers(
    model: NSALanguageModel,
    backend: str | Callable[..., Any] = "inductor",
    *,
    dynamic: bool | None = None,
) -> None:
    """Compile the projections, rotation, norms and MLPs of a model; see `compile_parts`."""
    options: dict[str, Any] = {"backend": backend, "dynamic": dynamic}
    for layer in model.model.layers:
        if isinstance(layer, NSADecoderLayer):
            layer.input_layernorm.compile(**options)
        # One compilation serves all layers: their weights are inputs of it.
        for part, name in ((layer.self_attn, "project"), (layer, "add")):
            setattr(part, name, torch.compile(getattr(part, name), **options))
    model.model.norm.compile(**options)

"""The model with the interface of transformers: `from_pretrained`, `generate`, `save_pretrained`.

Importing this module registers the model with `AutoModelForCausalLM`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, GenerationMixin, PreTrainedModel, initialization
from transformers.utils import ModelOutput

from nsa_kernels.settings import AttentionSettings
from nsa_models.cache.layer_cache import LayerCache
from nsa_models.configuration.config import NSAConfig
from nsa_models.configuration.pretrained import NSAPretrainedConfig, pretrained
from nsa_models.modeling.branches import LinearPhi, MLPPhi
from nsa_models.modeling.compression import Compression
from nsa_models.modeling.model import NSALanguageModel
from nsa_models.transformers_generation import Generation, check_mask


@dataclass
class NSACausalLMOutput(ModelOutput):
    """Output of `NSAForCausalLM`.

    Attributes:
        loss: Mean cross-entropy of the next token, with `labels`.
        logits: (B, T or `last_logits`, V); None without positions.
        mass: (L, B, H, T, N) attention mass of each selection block, with `return_mass`.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    mass: Tensor | None = None


class NSAForCausalLM(Generation, NSALanguageModel, PreTrainedModel, GenerationMixin):
    """`NSALanguageModel` with the interface of transformers' models."""

    config_class = NSAPretrainedConfig
    base_model_prefix = "model"
    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}  # noqa: RUF012

    def __init__(self, config: NSAConfig) -> None:
        config = pretrained(config)
        PreTrainedModel.__init__(self, config)
        self.build(config)
        self.post_init()  # type: ignore[operator]

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        *,
        cache: LayerCache | None = None,
        settings: AttentionSettings | None = None,
        labels: Tensor | None = None,
        last_logits: int | None = None,
        return_mass: bool = False,
        return_dict: bool | None = None,
    ) -> NSACausalLMOutput:
        """Run the model over the next tokens; see `NSALanguageModel.forward`.

        Args:
            input_ids: (B, T).
            attention_mask: (B, S), all ones.
            cache: Cache of the previous tokens, extended in place.
            settings: Attention settings; the prefill settings when None.
            labels: (B, T) the ids themselves, -100 at positions without a loss.
            last_logits: Number of positions, from the end, with logits; all when None.
            return_mass: Whether to return every layer's attention mass per block.
            return_dict: Not False: tuples are not supported.

        Raises:
            ModelError: If the attention mask hides a token.
        """
        assert return_dict is not False
        check_mask(attention_mask)
        found = super().forward(
            input_ids,
            cache=cache,
            settings=settings,
            last_logits=last_logits,
            return_mass=return_mass,
        )
        output = NSACausalLMOutput(logits=found.logits, mass=found.mass)
        if labels is not None:
            assert output.logits is not None
            logits = output.logits[:, :-1].flatten(0, 1).float()
            output.loss = F.cross_entropy(logits, labels[:, 1:].flatten())
        return output

    def save_pretrained(self, *args: Any, **options: Any) -> None:
        """Write a folder that `AutoModelForCausalLM.from_pretrained` reads, adapter merged."""
        weights = self.retrieval_head_weights
        self.config.retrieval_head_weights = None if weights is None else weights.tolist()
        super().save_pretrained(*args, **options)

    def _init_weights(self, module: nn.Module) -> None:
        """Initialize the weights of a module that a checkpoint does not contain."""
        super()._init_weights(module)
        if isinstance(module, LinearPhi):
            initialization.copy_(module.weight, module.mean())
        elif isinstance(module, (Compression, MLPPhi)):
            initialization.zeros_(module.position)

    def get_input_embeddings(self) -> nn.Module:
        """Return the token embedding."""
        embedding: nn.Module = self.model.embed_tokens
        return embedding

    def get_output_embeddings(self) -> nn.Module:
        """Return the projection to logits."""
        return self.lm_head


AutoModelForCausalLM.register(NSAPretrainedConfig, NSAForCausalLM, exist_ok=True)

"""The model as one of transformers: `from_pretrained`, `generate`, `save_pretrained`.

Importing this makes `AutoModelForCausalLM` read its folders.
"""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers import AutoModelForCausalLM, GenerationMixin, PreTrainedModel

from nsa_models.configuration.config import NSAConfig
from nsa_models.modeling.model import NSALanguageModel
from nsa_models.transformers_generation import Generation


class NSAForCausalLM(Generation, NSALanguageModel, PreTrainedModel, GenerationMixin):
    """`NSALanguageModel` with what transformers' models have."""

    config_class = NSAConfig
    base_model_prefix = "model"
    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}  # noqa: RUF012

    def __init__(self, config: NSAConfig) -> None:
        PreTrainedModel.__init__(self, config)
        self.build(config)
        self.post_init()  # type: ignore[operator]

    def save_pretrained(self, *args: Any, **options: Any) -> None:
        """Write a folder that `AutoModelForCausalLM.from_pretrained` reads, an adapter merged."""
        self.config.evidence = None if self.evidence is None else self.evidence.tolist()
        super().save_pretrained(*args, **options)

    def get_input_embeddings(self) -> nn.Module:
        """The token embedding."""
        embedding: nn.Module = self.model.embed_tokens
        return embedding

    def get_output_embeddings(self) -> nn.Module:
        """The projection to logits."""
        return self.lm_head


AutoModelForCausalLM.register(NSAConfig, NSAForCausalLM, exist_ok=True)

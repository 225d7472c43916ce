"""Initial weights that follow from the seed and a parameter's name.

Twins with different attention have the same weights where they have the same parameters.
"""

from __future__ import annotations

import hashlib
import math

import torch
from torch import nn

from nsa_models.configuration.config import NSAConfig
from nsa_models.modeling.branches import LinearPhi, MLPPhi
from nsa_models.modeling.compression import Compression
from nsa_models.modeling.model import NSALanguageModel
from nsa_models.modeling.norm import RMSNorm

_INTO_RESIDUAL = ("o_proj.weight", "down_proj.weight")
"""Projections whose output is added to the residual stream."""


def initial_model(config: NSAConfig, seed: int, device: torch.device) -> NSALanguageModel:
    """Return a model in fp32 with initial weights, ready to train.

    Norms are 1, biases 0, and other weights normal with the configuration's standard deviation,
    divided by sqrt(2 L) where they add to the residual stream of L layers. A learned φ begins as
    the mean, an MLP of fewer than 2 D hidden units excepted: a block whose summary is noise is
    chosen by chance, and what is never chosen teaches nothing.
    """
    model = NSALanguageModel(config)
    if config.tie_word_embeddings:
        model.lm_head.weight = model.model.embed_tokens.weight
    zero = {
        id(parameter)
        for module in model.modules()
        if isinstance(module, Compression)
        for parameter in module.outer.parameters()
    }
    ones = {id(module.weight) for module in model.modules() if isinstance(module, RMSNorm)}
    means = {
        id(module.weight): module.mean()
        for module in model.modules()
        if isinstance(module, LinearPhi)
    }
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if (mean := means.get(id(parameter))) is not None:
                parameter.copy_(mean)
            elif id(parameter) in ones:
                parameter.fill_(1.0)
            elif id(parameter) in zero or parameter.ndim < 2 or name.endswith(".position"):
                parameter.zero_()
            else:
                deviation = config.initializer_range
                if name.endswith(_INTO_RESIDUAL):
                    deviation /= math.sqrt(2 * config.num_hidden_layers)
                _draw(parameter, f"{seed} {name}", deviation)
    for module in model.modules():
        if isinstance(module, MLPPhi):
            module.begin_as_mean()
    return model.to(device).train()


def _draw(parameter: nn.Parameter, key: str, deviation: float) -> None:
    """Fill a parameter on the CPU with normal numbers that follow from the key."""
    digest = hashlib.sha256(key.encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
    parameter.normal_(std=deviation, generator=generator)

"""Projections of one input as one matrix product: a decoding step is bound by its kernels' number.

The weights of the projections become parts of one tensor, so that they take no more memory.

Letters: B batch, T tokens.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nsa_models.modeling.linear import Linear
from nsa_models.modeling.model import MLP, NSAAttention, NSALanguageModel


class MergedProjections:
    """One product for several projections.

    Args:
        layers: The projections by name, with inputs of one width; their weights become views.

    Attributes:
        names: Names of the projections in order.
        sizes: Their numbers of outputs.
        weight: (sum of the sizes, width).
        bias: (sum of the sizes,), or None if no projection has one.
    """

    def __init__(self, layers: Mapping[str, nn.Module]) -> None:
        parts = [layer for layer in layers.values() if isinstance(layer, nn.Linear)]
        self.names = tuple(layers)
        self.sizes = [layer.out_features for layer in parts]
        self.weight = torch.cat([layer.weight.detach() for layer in parts])
        self.bias: Tensor | None = None
        if any(layer.bias is not None for layer in parts):
            self.bias = torch.cat(
                [
                    layer.weight.new_zeros(layer.out_features)
                    if layer.bias is None
                    else layer.bias.detach()
                    for layer in parts
                ]
            )
        for layer, view in zip(parts, self.weight.split(self.sizes), strict=True):
            layer.weight = nn.Parameter(view, requires_grad=False)

    def __call__(self, x: Tensor) -> dict[str, Tensor]:
        """Project x (B, T, width) to (B, T, out) of each projection by name."""
        outs = F.linear(x, self.weight, self.bias).split(self.sizes, dim=-1)
        return dict(zip(self.names, outs, strict=True))


def merge_projections(model: NSALanguageModel) -> int:
    """Merge the projections of each attention and MLP for inference; return their number before.

    A group of projections stays as it is if one of them has another class, for example int8
    weights. Merge after the weights are loaded and converted: later
    changes of a weight's type or device are not seen.
    """
    merged = 0
    for module in model.model.layers.modules():
        if not isinstance(module, (NSAAttention, MLP)):
            continue
        layers = module.projections()
        if all(type(each) is Linear for each in layers.values()):
            module.merged = MergedProjections(layers)
            merged += len(layers)
    return merged

"""PyTorch's AdamW, or Muon for the matrices of layers, over the parameters of a model."""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import nn

from nsa_models.errors import UsageError
from nsa_models.training.pretrain_settings import PretrainSettings

RATE_OF_PHI = 0.1
"""Learning rate of φ, as a share of the other parameters' rate.

φ's matrices have l * D inputs, and as the mean of l = 32 tokens a norm of 1 / sqrt(32). An update
of the usual size changes them ten times as much, relatively, as a projection of 640 inputs whose
norm is 1, and φ would be noise after some ten steps.
"""

_PHI = re.compile(r"\.phi_[kv]\.")


def make_optimizers(
    model: nn.Module, settings: PretrainSettings, device: torch.device
) -> list[torch.optim.Optimizer]:
    """Return the optimizers of a model's parameters.

    Matrices have weight decay; norms and biases have none. Each group has its share of the learning
    rate as `rate_share`.

    Raises:
        UsageError: If the installed PyTorch lacks Muon, or Muon would get shards of matrices.
    """
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    muon = [(name, p) for name, p in named if settings.optimizer == "muon" and _for_muon(name, p)]
    taken = {id(parameter) for _, parameter in muon}
    others = [(name, p) for name, p in named if id(p) not in taken]
    optimizers: list[torch.optim.Optimizer] = []
    if muon:
        optimizers.append(_muon(_groups(muon), settings))
    groups = [
        *_groups([(name, p) for name, p in others if p.ndim >= 2], settings.weight_decay),
        *_groups([(name, p) for name, p in others if p.ndim < 2], 0.0),
    ]
    optimizers.append(
        torch.optim.AdamW(
            groups,
            lr=settings.rate,
            betas=(settings.beta1, settings.beta2),
            fused=device.type == "cuda",
            capturable=settings.cuda_graphs and device.type == "cuda",
        )
    )
    return optimizers


def _groups(
    named: list[tuple[str, nn.Parameter]], weight_decay: float | None = None
) -> list[dict[str, Any]]:
    """Return groups of parameters by their share of the learning rate, without empty ones."""
    groups = []
    for share, of_phi in ((1.0, False), (RATE_OF_PHI, True)):
        parameters = [p for name, p in named if bool(_PHI.search(name)) == of_phi]
        if parameters:
            group: dict[str, Any] = {"params": parameters, "rate_share": share}
            groups.append(group if weight_decay is None else group | {"weight_decay": weight_decay})
    return groups


def _for_muon(name: str, parameter: nn.Parameter) -> bool:
    """Whether Muon updates a parameter: the matrices of layers, without embedding and logits."""
    return parameter.ndim == 2 and ".layers." in name and not name.endswith(".position")


def _muon(groups: list[dict[str, Any]], settings: PretrainSettings) -> torch.optim.Optimizer:
    if not hasattr(torch.optim, "Muon"):
        raise UsageError(f"PyTorch {torch.__version__} has no Muon", hint="set optimizer to adamw")
    if settings.parallel == "fsdp":
        raise UsageError(
            "Muon needs whole matrices, and fsdp shards them", hint="set parallel to ddp"
        )
    from nsa_models.training.muon import BatchedMuon

    return BatchedMuon(
        groups,
        lr=settings.rate,
        weight_decay=settings.weight_decay,
        adjust_lr_fn="match_rms_adamw",  # so that AdamW's learning rate fits
    )

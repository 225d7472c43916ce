"""PyTorch's AdamW, or Muon for the matrices of layers, over the parameters of a model."""

from __future__ import annotations

import torch
from torch import nn

from nsa_models.errors import UsageError
from nsa_models.training.pretrain_settings import PretrainSettings


def make_optimizers(
    model: nn.Module, settings: PretrainSettings, device: torch.device
) -> list[torch.optim.Optimizer]:
    """Return the optimizers of a model's parameters.

    Matrices have weight decay; norms and biases have none.

    Raises:
        UsageError: If the installed PyTorch lacks Muon, or Muon would get shards of matrices.
    """
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    muon = [p for name, p in named if settings.optimizer == "muon" and _for_muon(name, p)]
    taken = {id(parameter) for parameter in muon}
    others = [p for _, p in named if id(p) not in taken]
    optimizers: list[torch.optim.Optimizer] = []
    if muon:
        optimizers.append(_muon(muon, settings))
    groups = [
        {"params": [p for p in others if p.ndim >= 2], "weight_decay": settings.weight_decay},
        {"params": [p for p in others if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizers.append(
        torch.optim.AdamW(
            [group for group in groups if group["params"]],
            lr=settings.rate,
            betas=(settings.beta1, settings.beta2),
            fused=device.type == "cuda",
            capturable=settings.cuda_graphs and device.type == "cuda",
        )
    )
    return optimizers


def _for_muon(name: str, parameter: nn.Parameter) -> bool:
    """Whether Muon updates a parameter: the matrices of layers, without embedding and logits."""
    return parameter.ndim == 2 and ".layers." in name and not name.endswith(".position")


def _muon(parameters: list[nn.Parameter], settings: PretrainSettings) -> torch.optim.Optimizer:
    if not hasattr(torch.optim, "Muon"):
        raise UsageError(f"PyTorch {torch.__version__} has no Muon", hint="set optimizer to adamw")
    if settings.parallel == "fsdp":
        raise UsageError(
            "Muon needs whole matrices, and fsdp shards them", hint="set parallel to ddp"
        )
    from nsa_models.training.muon import BatchedMuon

    return BatchedMuon(
        parameters,
        lr=settings.rate,
        weight_decay=settings.weight_decay,
        adjust_lr_fn="match_rms_adamw",  # so that AdamW's learning rate fits
    )

"""The optimizer of a timed step. Its rate is constant and tiny, so that the weights stay where they are."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from nfbench.catalog.models import Recipe
from nfbench.records import Optimizer

TIMING_RATE = 1e-6
_SGD_DECAY = {"nfnet": 2e-5, "bn-resnet": 1e-4, "efficientnet": 2e-5}


def parameter_groups(net: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Two groups: weights, decayed; gains, biases and other vectors once their size-1 dimensions are squeezed, not."""
    weights, vectors = list[nn.Parameter](), list[nn.Parameter]()
    for p in net.parameters():
        if p.requires_grad:
            (vectors if p.squeeze().ndim <= 1 else weights).append(p)
    groups = [{"params": weights, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def optimizer_name(kind: Optimizer, recipe: Recipe) -> str:
    """The optimizer that `build_optimizer` makes, with its implementation."""
    return "rmsproptf" if (kind, recipe) == ("recipe", "efficientnet") else "sgd fused"


def build_optimizer(
    net: nn.Module, kind: Optimizer, recipe: Recipe, rate: float = TIMING_RATE
) -> torch.optim.Optimizer:
    """The optimizer of a timed step, at the constant rate ``rate``.

    ``sgd`` is Nesterov SGD with momentum 0.9 and weight decay 2e-5 for every family, ``recipe`` what the family was
    published with: the same for NF nets, decay 1e-4 for BN-ResNets, and RMSProp (Tan and Le 2019) for EfficientNets.
    """
    if optimizer_name(kind, recipe) == "rmsproptf":
        from timm.optim.rmsprop_tf import RMSpropTF

        return RMSpropTF(parameter_groups(net, 1e-5), lr=rate, alpha=0.9, eps=1e-3, momentum=0.9)
    decay = _SGD_DECAY[recipe if kind == "recipe" else "nfnet"]
    return torch.optim.SGD(parameter_groups(net, decay), lr=rate, momentum=0.9, nesterov=True, fused=True)

"""The optimizer of a timed step, and which parameters it decays.

The rate of a timed step is constant and tiny, so that the weights stay where they are.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from nfbench.catalog.models import RecipeName
from nfbench.catalog.recipes import RECIPES
from nfbench.errors import UnsupportedWorkload
from nfbench.records import Optimizer

TIMING_RATE = 1e-6
_WEIGHTED = (nn.modules.conv._ConvNd, nn.Linear, nn.Bilinear, nn.Embedding)
UNFUSED = "its fused one takes no complex parameters"
_FUSED = ("cpu", "cuda")
"""The devices for which torch has a fused SGD in every version that nfbench runs on."""


def decayed_names(net: nn.Module) -> frozenset[str]:
    """The names of the parameters that weight decay falls on: weights of convolutions and linear layers, the
    classifier's among them, and other tensors with two sides or more.

    Gains, biases, SkipInit's gains, the parameters of normalization layers and whatever else is a vector once its
    size-1 dimensions are squeezed have none (Brock et al. 2021, appendix A; google-deepmind/deepmind-research, nfnets).
    """
    found = set()
    for prefix, owner in net.named_modules():
        for leaf, p in owner.named_parameters(recurse=False):
            weight = leaf == "weight" and isinstance(owner, _WEIGHTED)
            never = "bias" in leaf or "norm" in type(owner).__name__.lower()
            if weight or (not never and sum(d > 1 for d in p.shape) > 1):
                found.add(f"{prefix}.{leaf}" if prefix else leaf)
    return frozenset(found)


def parameter_groups(net: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Two groups of the parameters that train, in the net's order: ``decayed`` and ``not decayed``, by their ``name``.

    A group without a parameter is left out.

    Raises:
        UnsupportedWorkload: no parameter trains.
    """
    names = decayed_names(net)
    trained = [(name, p) for name, p in net.named_parameters() if p.requires_grad]
    groups = [
        {"name": "decayed", "params": [p for name, p in trained if name in names], "weight_decay": weight_decay},
        {"name": "not decayed", "params": [p for name, p in trained if name not in names], "weight_decay": 0.0},
    ]
    if not trained:
        raise UnsupportedWorkload(
            "The net has no parameter that trains.",
            why="requires_grad is off on all of them.",
            try_="requires_grad_(True) on what is to be trained; `nfbench flops` needs none",
        )
    return [group for group in groups if group["params"]]


def fusible(net: nn.Module) -> bool:
    """Whether torch's fused optimizers take all that trains: not so complex parameters."""
    return all(p.is_floating_point() for p in net.parameters() if p.requires_grad)


def decay_of(kind: Optimizer, recipe: RecipeName) -> float:
    """The weight decay: the family's own for ``recipe``, for ``sgd`` the NF nets' for all, so that steps compare."""
    return RECIPES[recipe if kind == "recipe" else "nfnet"].weight_decay


def optimizer_name(kind: Optimizer, recipe: RecipeName, device: str = "cpu") -> str:
    """The optimizer that `build_optimizer` makes, with its implementation."""
    if (kind, recipe) == ("recipe", "efficientnet"):
        return "rmsproptf"
    return "sgd fused" if device in _FUSED else "sgd foreach"


def build_optimizer(
    net: nn.Module, kind: Optimizer, recipe: RecipeName, rate: float = TIMING_RATE
) -> torch.optim.Optimizer:
    """The optimizer of a timed step, at the constant rate ``rate``.

    ``sgd`` is Nesterov SGD with momentum 0.9 and weight decay 2e-5 for every family, ``recipe`` what the family was
    published with: the same for NF nets, decay 1e-4 for BN-ResNets, and RMSProp (Tan and Le 2019) for EfficientNets.
    SGD is torch's fused one where the device has it.
    """
    groups = parameter_groups(net, decay_of(kind, recipe))
    device = groups[0]["params"][0].device.type
    if optimizer_name(kind, recipe) == "rmsproptf":
        from timm.optim.rmsprop_tf import RMSpropTF

        return RMSpropTF(groups, lr=rate, alpha=0.9, eps=1e-3, momentum=0.9)
    fused = device in _FUSED and fusible(net)
    return torch.optim.SGD(groups, lr=rate, momentum=0.9, nesterov=True, fused=fused, foreach=not fused)

"""Adaptive gradient clipping, and how many units it clips.

Until nfbench has its own, the clip is timm's ``adaptive_clip_grad``: one norm for each output unit of a weight, the
threshold λ · max(‖W‖, 1e-3) (Brock et al. 2021, equation 3).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from timm.utils.agc import adaptive_clip_grad, unitwise_norm
from torch import Tensor, nn

from nfbench.nets.build import head_names

EPS = 1e-3


def agc_parameters(net: nn.Module) -> list[nn.Parameter]:
    """All parameters that are clipped: every one but the classifier's weight, which is found by its name."""
    head = {name for name in head_names(net) if name.endswith("weight")}
    return [p for name, p in net.named_parameters() if p.requires_grad and name not in head]


def clip(parameters: Sequence[Tensor], clipping: float) -> None:
    """Clip the gradients of ``parameters`` in place at ``clipping`` (λ) times each unit's weight norm."""
    adaptive_clip_grad(parameters, clip_factor=clipping, eps=EPS)


def clipped_share(parameters: Iterable[Tensor], clipping: float) -> float | None:
    """The share of units, 0 to 1, whose gradient `clip` would shorten; None where no parameter has a gradient."""
    clipped = units = 0
    for p in parameters:
        if p.grad is None:
            continue
        limit = unitwise_norm(p.detach()).clamp(min=EPS).mul(clipping)
        over = unitwise_norm(p.grad.detach()) > limit
        clipped += int(over.sum())
        units += over.numel()
    return clipped / units if units else None

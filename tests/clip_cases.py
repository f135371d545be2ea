"""Parameters with gradients to clip, on any device, and what the clip owes them, computed without nfbench."""

from __future__ import annotations

import torch
from torch import Tensor, nn

EPS = 1e-3


def twin(parameters: list[nn.Parameter]) -> list[nn.Parameter]:
    """Parameters with gradients of their own and the same weights, which no clip touches."""
    found = []
    for p in parameters:
        other = nn.Parameter(p.detach())
        other.grad = None if p.grad is None else p.grad.clone()
        found.append(other)
    return found


def units_of(p: Tensor) -> int:
    """How many units a parameter has: one, where it is a vector once its size-1 dimensions are squeezed."""
    return 1 if sum(d > 1 for d in p.shape) <= 1 else p.shape[0]


def ratio(p: Tensor, gradient: Tensor) -> Tensor:
    """‖G‖ / max(‖W‖, eps) of each unit, (units,) in float64."""
    w, g = (x.detach().double().contiguous().view(units_of(p), -1) for x in (p, gradient))
    return (g**2).sum(1).sqrt() / (w**2).sum(1).sqrt().clamp(min=EPS)


class Whole:
    """The clipped parameters of a net with their gradients, and each unit's ratio of norms."""

    def __init__(self, parameters: list[nn.Parameter]) -> None:
        self.parameters = [p for p in parameters if p.grad is not None]
        self.ratios = [ratio(p, p.grad) for p in self.parameters if p.grad is not None]
        every = torch.cat(self.ratios)
        self.alive = every[every > 0]
        assert len(self.alive) > 0.8 * len(every)

    def scaled(self, clipping: float, share: str) -> tuple[list[nn.Parameter], float]:
        """Twins whose gradients, scaled as a whole, have no, about half or all living units over the limit, and the
        factor that did it."""
        # no unit lies on the limit, where rounding decides: it is in the widest gap of the middle tenth
        middle = self.alive.sort().values[len(self.alive) * 9 // 20 : len(self.alive) * 11 // 20 + 2]
        wide = middle.diff().argmax()
        half = middle[wide : wide + 2].mean()
        bound = {"none": 1.5 * self.alive.max(), "half": half, "all": 0.5 * self.alive.min()}[share]
        found, factor = twin(self.parameters), float(clipping / bound)
        for p in found:
            assert p.grad is not None
            p.grad.mul_(factor)
        return found, factor

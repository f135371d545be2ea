"""The share that each image of a batch has in its update, with and without adaptive gradient clipping.

With ℓ_j the loss of image j over the size of the batch and g = ∇ Σ_j ℓ_j, image i's share is AGC(g) − AGC(g − ∇ℓ_i),
what the update would lack without its term, all statistics staying as they are; without the clip it is ∇ℓ_i itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nfbench.nets.agc import adaptive_clip_grad_, units
from nfbench.nets.train_step import LABEL_SMOOTHING


@dataclass(frozen=True)
class Batch:
    """Images (N, 3, px, px) and the classes (N,) they have."""

    images: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.images)

    def take(self, indices: Sequence[int]) -> Batch:
        """The images of these indices, in this order; one may come twice."""
        return Batch(self.images[indices], self.targets[indices])

    def beside(self, i: int, others: Batch) -> Batch:
        """Image i in its place, with ``others`` around it."""
        images, targets = others.images.clone(), others.targets.clone()
        images[i], targets[i] = self.images[i], self.targets[i]
        return Batch(images, targets)

    def losses(self, module: nn.Module) -> Tensor:
        """The loss of each image, (N,), as in training."""
        return F.cross_entropy(module(self.images), self.targets, reduction="none", label_smoothing=LABEL_SMOOTHING)


class Shares:
    """The shares that the images of one batch have in its update. ``clipping`` is λ, None for no clip."""

    def __init__(
        self, module: nn.Module, batch: Batch, parameters: Sequence[nn.Parameter], clipping: float | None
    ) -> None:
        self.parameters, self.clipping = parameters, clipping
        self.terms = batch.losses(module) / len(batch)
        self.whole = [] if clipping is None else gradient_of(self.terms.sum(), parameters, retain_graph=True)

    def change(self, i: int, other: Shares, j: int) -> list[float]:
        """How far the share of image j of ``other`` is from that of image i: without the clip and, if any, with it."""
        own, others = self._own(i), other._own(j)
        without = distance(others, own)
        if self.clipping is None:
            return [without]
        return [without, distance(other._clipped(others), self._clipped(own))]

    def clipped(self) -> float:
        """The share of units, 0 to 1, that the clip shortens in the whole batch's gradient."""
        assert self.clipping is not None
        for p, g in zip(self.parameters, self.whole, strict=True):
            p.grad = g
        found = units(self.parameters, self.clipping)
        for p in self.parameters:
            p.grad = None
        return found.clipped / found.units

    def _own(self, i: int) -> list[Tensor]:
        return gradient_of(self.terms[i], self.parameters, retain_graph=True)

    def _clipped(self, own: Sequence[Tensor]) -> Iterator[Tensor]:
        # one tensor at a time: units are clipped each for itself, and a large net's gradients fill the memory
        for p, g, o in zip(self.parameters, self.whole, own, strict=True):
            yield self._clip(p, g) - self._clip(p, g - o)

    def _clip(self, parameter: nn.Parameter, gradient: Tensor) -> Tensor:
        assert self.clipping is not None
        parameter.grad = clipped = gradient.clone()
        adaptive_clip_grad_(parameter, self.clipping)
        parameter.grad = None
        return clipped


def gradient_of(loss: Tensor, parameters: Sequence[nn.Parameter], retain_graph: bool = False) -> list[Tensor]:
    """One gradient a parameter, of its shape; zeros where the loss does not depend on it."""
    return list(torch.autograd.grad(loss, parameters, retain_graph=retain_graph, materialize_grads=True))


def distance(after: Iterable[Tensor], before: Iterable[Tensor]) -> float:
    """The relative change of all tensors together; 0 where zeros stay zeros."""
    pairs = ((float((a - b).norm()), float(b.norm())) for a, b in zip(after, before, strict=True))
    changes, norms = zip(*pairs, strict=True)
    return math.hypot(*changes) / max(math.hypot(*norms), torch.finfo(torch.float32).tiny)

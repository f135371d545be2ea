"""Sharpness-aware minimization (Foret et al. 2021, arXiv 2010.01412), as Brock et al. 2021 use it for NFNet-F5 and F6.

An update takes the gradient not at the weights W but at W + ε, with ε = ρ · g / ‖g‖ and g a gradient at W. They compute
g on a fifth of the batch only, which keeps the cost of the second pass down.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

LEAST_NORM = 1e-12


def ascent_images(images: int, fraction: float) -> int:
    """How many of ``images`` the ascent sees: ⌈fraction · images⌉."""
    # 0.28 · 25 is a little above 7 in floating point, and is 7
    return max(1, min(images, math.ceil(round(fraction * images, 9))))


class Sam:
    """Moves the weights of ``net`` up its gradient and exactly back again, without a synchronization.

    ``radius`` is ρ, the Euclidean length of ε over all parameters that train.

    Raises:
        ValueError: no parameter of the net trains.
    """

    def __init__(self, net: nn.Module, radius: float) -> None:
        self.net, self.radius = net, radius
        self.parameters = [p for p in net.parameters() if p.requires_grad]
        if not self.parameters:
            raise ValueError("SAM moves the weights that train, and of this net none does: set requires_grad on some.")
        self.norms = [m for m in net.modules() if isinstance(m, _BatchNorm)]
        self.kept: list[Tensor] = []
        self.moving: list[str] | None = None

    @contextlib.contextmanager
    def buffers_kept(self) -> Iterator[None]:
        """Around forward and backward: batch norms normalize with the batch and leave their running statistics as they
        are; other buffers that move, such as the vectors of spectral norm, are put back.

        Which do is looked for once: they are those whose version, which torch counts, has changed.
        """
        tracked = [m.track_running_stats for m in self.norms]
        for m in self.norms:
            m.track_running_stats = False
        names = [name for name, _ in self.net.named_buffers()] if self.moving is None else self.moving
        buffers = [self.net.get_buffer(name) for name in names]
        before = [(buffer._version, buffer.clone()) for buffer in buffers]
        try:
            yield
        finally:
            for m, track in zip(self.norms, tracked, strict=True):
                m.track_running_stats = track
        self.moving = []
        for name, buffer, (version, copy) in zip(names, buffers, before, strict=True):
            now = self.net.get_buffer(name)
            if now is not buffer or now._version != version:
                self.moving.append(name)
                now.copy_(copy)

    @torch.no_grad()
    def ascend(self, gradients: list[Tensor], guarded: bool = False) -> None:
        """W + ρ · g / ‖g‖, with ``gradients`` of all parameters that train, in their order; any factor cancels.

        They are overwritten. ``guarded``, for gradients of a scaled loss in fp16: where they overflow the weights stay,
        since on weights that are NaN batch norms would spoil their running statistics for good.
        """
        weights = [p.detach() for p in self.parameters]
        if self.kept:
            torch._foreach_copy_(self.kept, weights)
        else:
            self.kept = [w.clone() for w in weights]
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
        factor = self.radius / norm.clamp(min=LEAST_NORM)
        if guarded:
            factor = torch.where(norm.isfinite(), factor, 0.0)
            for g in gradients:
                g.nan_to_num_(0.0, 0.0, 0.0)
        torch._foreach_mul_(gradients, factor)
        torch._foreach_add_(weights, gradients)

    @torch.no_grad()
    def restore(self) -> None:
        """The weights as they were before `ascend`, bit for bit."""
        torch._foreach_copy_([p.detach() for p in self.parameters], self.kept)

    def forget(self) -> None:
        """Let go of the copy of the weights, and of which buffers move."""
        self.kept, self.moving = [], None

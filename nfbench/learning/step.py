"""The timed training step, fed with real batches: the same code trains that `step-time` times."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from nfbench.nets import agc
from nfbench.nets.agc_units import Units, unitwise_norm
from nfbench.nets.ranked_step import RankedStep
from nfbench.nets.train_step import TrainStep


class LearningStep(TrainStep):
    """A `TrainStep` whose inputs are given, and whose loss, clipped units and gradient norms are kept on the device.

    ``total`` is the mean loss of the last update over all of its passes, ``skipped`` the updates that fp16 skipped.
    Where ``looking`` is set, the next update's gradient norm is taken before and after the clip.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.scaler is not None:
            # a scale that only falls would end where gradients underflow
            self.scaler = torch.amp.GradScaler(self.device.type)
        self.total = self.loss
        self.looking = False
        self.norms: list[tuple[Tensor, Tensor]] = []
        self.counts: list[Tensor] = []
        self.units = sum(unitwise_norm(p.detach()).numel() for p in self.clipped)
        self.skipped = torch.zeros((), dtype=torch.int64, device=self.device)

    def feed(self, images: Tensor, targets: Tensor) -> None:
        """The batch of the next update: images of shape (batch, 3, px, px), targets of classes or of their shares."""
        self.inputs, self.targets = list(images.split(self.micro_batch)), list(targets.split(self.micro_batch))

    def update(self, stamp: Callable[[], None], passes: int) -> None:
        """As that of `TrainStep`, with a look at the clip."""
        self._ascend_batch(stamp, passes)
        for index in range(passes):
            self._pass(stamp, index, passes)
        self._gather(stamp)
        self._watched()
        stamp()
        self._finish(stamp)

    def _apply(self) -> None:
        scale = None if self.scaler is None else getattr(self.scaler, "_scale", None)
        before = scale.clone() if isinstance(scale, Tensor) else None
        super()._apply()
        if before is not None and scale is not None:
            # read off the scale's own tensor: GradScaler.get_scale would wait for the device
            self.skipped = self.skipped + (scale < before).sum()

    def _pass(self, stamp: Callable[[], None], index: int, passes: int) -> None:
        super()._pass(stamp, index, passes)
        self.total = self.loss if index == 0 else self.total + self.loss

    def _watched(self) -> None:
        if not self.looking:
            self._counted(self.clip())
            return
        self.looking = False
        gradients = [p.grad for p in self.net.parameters() if p.grad is not None]
        before = norm(gradients)
        if self.impl == "timm" and self.clipped:
            # timm's function does not say what it clips
            shares = agc.units(self.clipped, self.clipping or 0.0, "timm")
            self.counts.append(torch.tensor(self.units * shares.clipped / max(1, shares.units)))
        self._counted(self.clip())
        self.norms.append((before, norm(gradients)))

    def _counted(self, found: object) -> None:
        if isinstance(found, Units):
            self.counts.append(found.clipped)

    def taken(self) -> tuple[list[float], list[float], list[float]]:
        """Since it was last asked: gradient norms before and after the clip, and shares of clipped units. Waits."""
        norms, counts = self.norms, self.counts
        self.norms, self.counts = [], []
        shares = (torch.stack(counts).double() / max(1, self.units)).tolist() if counts else []
        return [float(a) for a, _ in norms], [float(b) for _, b in norms], shares

    def taken_skipped(self) -> int:
        """The skipped updates since it was last asked. Waits."""
        found = int(self.skipped)
        self.skipped = torch.zeros_like(self.skipped)
        return found


class RankedLearningStep(RankedStep, LearningStep):
    """A `LearningStep` on one of several ranks, each of which is given its share of the batch; ``total`` is of that."""


def norm(gradients: Sequence[Tensor]) -> Tensor:
    """The Euclidean norm of all gradients together, 0-d."""
    total: Tensor = torch.linalg.vector_norm(torch.stack(torch._foreach_norm([g.detach() for g in gradients])))
    return total

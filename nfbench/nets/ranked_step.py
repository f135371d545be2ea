"""The timed step on one of several ranks: torch's DistributedDataParallel around the net, reduced once an update."""

from __future__ import annotations

import contextlib
import gc
import inspect
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from nfbench.nets.train_step import TrainStep
from nfbench.records import Layout, Reading

BUCKET_BYTES = 25 * 2**20
"""What DistributedDataParallel reduces at a time."""


_BUFFERS = next(
    name
    for name in ("forward_sync_buffers", "broadcast_buffers")
    if name in inspect.signature(DistributedDataParallel.__init__).parameters
)
"""What torch calls it: newer ones warn of the older name."""


class RankedStep(TrainStep):
    """A `TrainStep` of a share of the batch, with `LearningStep` behind it one that learns.

    Its ``batch`` is this rank's share. The gradients are averaged over the ranks within the backward of the last pass
    (`no_sync` before it), so that the clip and the update see those of the whole batch. An ascent of SAM stays on its
    rank. Where ``broadcast_buffers`` rank 0's buffers, such as running statistics, are taken over before an update.

    Gradients are tensors of their own, not views of torch's buckets (``gradient_as_bucket_view``), in which they begin
    anywhere: the clip's kernels read fastest what begins on 16 bytes.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.plain = self.model
        self.reducing, self.eagerly = True, False
        self.ddp: DistributedDataParallel | None = None
        self.buffers: list[Tensor] = []

    def arrange(self, layout: Layout, micro_batch: int) -> None:
        super().arrange(layout, micro_batch)
        # kernels of 1 × 1 have strides with a choice: what torch warns of there lies in memory alike
        warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
        # weights must lie where they stay: buckets are laid out like them
        buffers: dict[str, Any] = {_BUFFERS: self.workload.broadcast_buffers}
        device_ids = None if self.device.type == "cpu" else [self.device]
        self.ddp = DistributedDataParallel(self.net, device_ids=device_ids, **buffers)
        self.model = self.ddp if self.eagerly else self.compiled(self.ddp)

    @contextlib.contextmanager
    def eager(self) -> Iterator[None]:
        self.eagerly = True
        try:
            yield
        finally:
            self.eagerly = False

    def alone(self, stamp: Callable[[], None], passes: int) -> None:
        """As `update`, without reducing anything over the ranks."""
        self.reducing = False
        try:
            self.update(stamp, passes)
        finally:
            self.reducing = True

    def gradient_bytes(self) -> int:
        """The bytes of all gradients."""
        return sum(p.numel() * p.element_size() for p in self.net.parameters() if p.requires_grad)

    def reduce(self) -> None:
        """All-reduce as many bytes as the gradients have, in buckets of the size that they come in."""
        if not self.buffers:
            whole, rest = divmod(self.gradient_bytes(), BUCKET_BYTES)
            sizes = [BUCKET_BYTES] * whole + [rest] * (rest > 0)
            self.buffers = [torch.zeros(-(-size // 4), device=self.device) for size in sizes]
        for work in [dist.all_reduce(buffer, async_op=True) for buffer in self.buffers]:
            work.wait()

    def inspect(self, count_operators: bool) -> list[Reading]:
        # the gradients that are looked into are those of all ranks' images
        return [
            msgspec.structs.replace(r, values=tuple((v or 0) * self.workload.world_size for v in r.values))
            if r.name == "inspected_images"
            else r
            for r in super().inspect(count_operators)
        ]

    def _pass(self, stamp: Callable[[], None], index: int, passes: int) -> None:
        assert self.ddp is not None
        last = self.reducing and index == passes - 1
        with contextlib.nullcontext() if last else self.ddp.no_sync():
            super()._pass(stamp, index, passes)

    def _ascent_gradient(self, index: int, images: int, weight: float = 1.0) -> list[Tensor]:
        with self._without_ranks():
            return super()._ascent_gradient(index, images, weight)

    def saved_bytes(self) -> int | None:
        with self._without_ranks():
            return super().saved_bytes()

    @contextlib.contextmanager
    def _without_ranks(self) -> Iterator[None]:
        reduced, self.model = self.model, self.net if self.eagerly else self.plain
        try:
            yield
        finally:
            self.model = reduced

    def _let_go(self) -> None:
        # its hooks on the weights go with it, and it is in a cycle
        self.ddp, self.model, self.buffers = None, self.plain, []
        gc.collect()
        super()._let_go()

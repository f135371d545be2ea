"""Batches of a set that is read image by image, through timm's loader."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from nfbench.learning.feed import mixed_seed, seed_all, test_order
from nfbench.nets.train_step import FORMATS
from nfbench.records import Layout


class Streaming:
    """A set that is read image by image through timm's loader, in worker processes.

    RandAugment works image by image, so it takes this way whatever the set's size.

    Args:
        transforms: of training and of test images, from PIL to a tensor, or to uint8 where ``prefetch``.
        workers: processes of the loader; 0 reads in this one.
        rank: of ``ranks``, each of which takes its share of a training batch, and some of the test batches.
    """

    def __init__(
        self,
        train: Any,
        test: Any,
        *,
        device: torch.device,
        batch: int,
        test_batch: int,
        px: int,
        test_px: int,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        transforms: tuple[Any, Any],
        layout: Layout,
        seed: int,
        workers: int,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        from timm.data.loader import create_loader

        self.device, self.layout, self.seed = device, layout, seed
        self.sets = (train, test)
        common: dict[str, Any] = {
            "mean": _three(mean),
            "std": _three(std),
            "num_workers": workers,
            "device": device,
            "use_prefetcher": device.type == "cuda",
            "pin_memory": device.type == "cuda",
            # a worker that lives on would hold on to random numbers of earlier epochs
            "persistent_workers": False,
        }
        self.rank, self.ranks = rank, ranks
        # its sampler gives rank r every n-th image of one order from the r-th on: together they see the same batches
        training: dict[str, Any] = {"is_training": True, "distributed": ranks > 1}
        self.loader = create_loader(train, (3, px, px), batch // ranks, **training, **common)
        batches = test_order(len(test)).split(test_batch)[rank::ranks]
        shuffled: Any = torch.utils.data.Subset(test, [int(i) for order in batches for i in order])
        self.test_loader = create_loader(shuffled, (3, test_px, test_px), test_batch, is_training=False, **common)
        train.transform, test.transform = transforms
        self.updates = len(train) // batch

    def train(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        if self.ranks > 1:
            self.loader.sampler.set_epoch(mixed_seed(self.seed, epoch))
        return self._on_device(self.loader, mixed_seed(self.seed, epoch, self.rank))

    def test(self) -> Iterator[tuple[Tensor, Tensor]]:
        return self._on_device(self.test_loader, 0)

    def unreadable(self) -> list[str]:
        for pictures in self.sets:
            pictures.check()
        return sorted(name for pictures in self.sets for name in pictures.unreadable())

    def _on_device(self, loader: Any, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        # workers and the sampler draw their seeds from torch's; without workers timm augments with all three
        seed_all(seed)
        for images, labels in loader:
            images = images.to(self.device, non_blocking=True)
            if images.is_cuda:
                # older loaders of timm fill a freed batch's memory on a stream of their own, which waits for nobody
                images.record_stream(torch.cuda.current_stream(self.device))
            yield (
                images.contiguous(memory_format=FORMATS[self.layout]),
                labels.to(self.device, torch.int64, non_blocking=True),
            )


def _three(values: tuple[float, ...]) -> tuple[float, ...]:
    return values * 3 if len(values) == 1 else values

"""Batches: of a set that stays on the device, cropped and flipped there, or of one that streams through timm's loader.

A feed's order and augmentation follow from the seed and the epoch alone, so that a run can go on from any epoch.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nfbench.learning.data import Arrays, Data
from nfbench.records import Layout

FORMATS = {"nchw": torch.contiguous_format, "nhwc": torch.channels_last}
RESIDENT_SHARE = 0.2
"""Share of the device's memory that a set may take as uint8 and still stay there."""

CROP_PAD = 8
"""A crop is moved by up to an eighth of the side, with the border reflected: 4 pixels of 32."""


class Feed(Protocol):
    """Where batches come from: images of shape (n, 3, px, px), float32, normalized; labels of shape (n,), int64."""

    updates: int
    """Batches of an epoch of training; what is left of the set is dropped."""

    def train(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of an epoch."""

    def test(self) -> Iterator[tuple[Tensor, Tensor]]:
        """The test set in an order that stays the same; a label of -1 marks an image that could not be read."""

    def unreadable(self) -> list[str]:
        """Names of the images that could not be read so far.

        Raises:
            BadData: more than 1 % of the set could not.
        """


class Resident:
    """A set on the device. Each image is cropped and flipped by itself, a batch in a few operations.

    Args:
        data: arrays in training and test.
        device: where they stay.
        batch: images of a training batch; ``test_batch`` those of a test batch.
        px: the side to which training images are resized, bilinearly; ``test_px`` that of test images.
        mean, std: of pixels from 0 to 1, a value a channel.
        augment: whether training images are cropped and flipped.
        seed: of order, crops and flips.
    """

    def __init__(
        self,
        data: Data,
        *,
        device: torch.device,
        batch: int,
        test_batch: int,
        px: int,
        test_px: int,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        augment: bool,
        layout: Layout,
        seed: int,
    ) -> None:
        assert isinstance(data.train, Arrays) and isinstance(data.test, Arrays)
        self.device, self.batch, self.test_batch = device, batch, test_batch
        self.px, self.test_px, self.augment, self.layout, self.seed = px, test_px, augment, layout, seed
        self.images, self.labels = _to(data.train, device)
        self.test_images, self.test_labels = _to(data.test, device, _test_order(len(data.test.labels)))
        self.mean, self.std = (
            torch.tensor(v, dtype=torch.float32, device=device).view(1, -1, 1, 1) for v in (mean, std)
        )
        self.updates = len(self.labels) // batch

    def train(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        generator = torch.Generator().manual_seed(mixed_seed(self.seed, epoch))
        used = self.updates * self.batch
        order = torch.randperm(len(self.labels), generator=generator)[:used].to(self.device)
        shifts = flips = None
        if self.augment:
            reach = max(1, self.images.shape[-1] // CROP_PAD)
            shifts = torch.randint(-reach, reach + 1, (2, used), generator=generator).to(self.device)
            flips = torch.randint(2, (used,), generator=generator).bool().to(self.device)
        for start in range(0, used, self.batch):
            part = slice(start, start + self.batch)
            which = order[part]
            if shifts is None or flips is None:
                images = self.images[which]
            else:
                images = cropped(self.images, which, shifts[:, part], flips[part])
            yield self._ready(images, self.px), self.labels[which]

    def test(self) -> Iterator[tuple[Tensor, Tensor]]:
        for images, labels in zip(
            self.test_images.split(self.test_batch), self.test_labels.split(self.test_batch), strict=True
        ):
            yield self._ready(images, self.test_px), labels

    def unreadable(self) -> list[str]:
        return []

    def _ready(self, images: Tensor, px: int) -> Tensor:
        x = images.float().div_(255)
        side = x.shape[-2:]
        if side != (px, px):
            smaller = px < max(side)
            x = F.interpolate(x, size=(px, px), mode="bilinear", align_corners=False, antialias=smaller)
        # of gray images each channel may have a mean of its own
        x = x.sub(self.mean).div_(self.std)
        return x.expand(-1, 3, -1, -1).contiguous(memory_format=FORMATS[self.layout])


def cropped(images: Tensor, which: Tensor, shifts: Tensor, flips: Tensor) -> Tensor:
    """Images ``which`` of ``images``, shape (N, C, H, W), each moved by its own shift and flipped or not.

    ``shifts`` of shape (2, n) are rows and columns of pixels; what comes in at the border is reflected. ``flips`` of
    shape (n,) mirror left to right. One gather, whatever the batch.
    """
    height, width = images.shape[-2:]
    rows = _reflected(torch.arange(height, device=images.device) + shifts[0][:, None], height)
    columns = _reflected(torch.arange(width, device=images.device) + shifts[1][:, None], width)
    columns = torch.where(flips[:, None], columns.flip(1), columns)
    channels = torch.arange(images.shape[1], device=images.device)
    return images[
        which[:, None, None, None], channels[:, None, None], rows[:, None, :, None], columns[:, None, None, :]
    ]


class Streaming:
    """A set that is read image by image through timm's loader, in worker processes.

    RandAugment works image by image, so it takes this way whatever the set's size.

    Args:
        transforms: of training and of test images, from PIL to a tensor, or to uint8 where ``prefetch``.
        workers: processes of the loader; 0 reads in this one.
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
        self.loader = create_loader(train, (3, px, px), batch, is_training=True, **common)
        shuffled: Any = torch.utils.data.Subset(test, _test_order(len(test)).tolist())
        self.test_loader = create_loader(shuffled, (3, test_px, test_px), test_batch, is_training=False, **common)
        train.transform, test.transform = transforms
        self.updates = len(train) // batch

    def train(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        return self._on_device(self.loader, mixed_seed(self.seed, epoch))

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


def stays(data: Data, memory: int | None) -> bool:
    """Whether a set stays on a device with that many bytes of memory."""
    if not isinstance(data.train, Arrays) or not isinstance(data.test, Arrays):
        return False
    return memory is None or data.train.images.nbytes + data.test.images.nbytes <= RESIDENT_SHARE * memory


def default_workers() -> int:
    """Worker processes for a set that streams: one less than the cores, at most 16."""
    return max(1, min(16, (os.cpu_count() or 1) - 1))


def mixed_seed(seed: int, epoch: int) -> int:
    """A seed for an epoch, other than those of other seeds' epochs."""
    return (seed * 1_000_003 + epoch + 1) % 2**63


def seed_all(seed: int) -> None:
    """Seed torch, NumPy and Python: timm mixes with the second and augments with the third."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)


def _test_order(images: int) -> Tensor:
    # a set that is sorted by class would make one-class batches, whose statistics are no batch's
    return torch.randperm(images, generator=torch.Generator().manual_seed(0))


def _to(arrays: Arrays, device: torch.device, order: Tensor | None = None) -> tuple[Tensor, Tensor]:
    images, labels = torch.from_numpy(arrays.images), torch.from_numpy(arrays.labels)
    if order is not None:
        images, labels = images[order], labels[order]
    return images.permute(0, 3, 1, 2).contiguous().to(device), labels.to(device)


def _three(values: tuple[float, ...]) -> tuple[float, ...]:
    return values * 3 if len(values) == 1 else values


def _reflected(places: Tensor, length: int) -> Tensor:
    """Places beyond either end of a line of ``length`` pixels, mirrored at its first and last pixel."""
    last = max(length - 1, 1)
    return (last - (places.abs() - last).abs()).clamp_(0, length - 1)

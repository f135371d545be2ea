"""Batches of a set that stays on the device as uint8, cropped and flipped there."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import torch
import torch.nn.functional as F
from torch import Tensor

from nfbench.learning.data import Arrays, Data
from nfbench.learning.feed import mixed_seed, test_order
from nfbench.nets.train_step import FORMATS
from nfbench.records import Layout

CROP_PAD = 8
"""A crop is moved by up to an eighth of the side, with the border reflected: 4 pixels of 32."""


class Resident:
    """A set on the device. Each image is cropped and flipped by itself, a batch in a few operations.

    Args:
        data: arrays in training and test.
        device: where they stay.
        batch: images of a training batch, of all ``ranks``; ``test_batch`` those of a test batch.
        px: the side to which training images are resized, bilinearly; ``test_px`` that of test images.
        mean, std: of pixels from 0 to 1, a value a channel.
        augment: whether training images are cropped and flipped.
        seed: of order, crops and flips.
        rank: which share of each training batch, and which of the test batches, this process takes.
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
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        assert isinstance(data.train, Arrays) and isinstance(data.test, Arrays)
        self.device, self.batch, self.test_batch = device, batch, test_batch
        self.px, self.test_px, self.augment, self.layout, self.seed = px, test_px, augment, layout, seed
        self.images, self.labels = _to(data.train, device)
        self.test_images, self.test_labels = _to(data.test, device, test_order(len(data.test.labels)))
        self.mean, self.std = (
            torch.tensor(v, dtype=torch.float32, device=device).view(1, -1, 1, 1) for v in (mean, std)
        )
        self.updates = len(self.labels) // batch
        self.rank, self.ranks = rank, ranks

    def train(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        generator = torch.Generator().manual_seed(mixed_seed(self.seed, epoch))
        used = self.updates * self.batch
        order = torch.randperm(len(self.labels), generator=generator)[:used].to(self.device)
        shifts = flips = None
        if self.augment:
            reach = max(1, self.images.shape[-1] // CROP_PAD)
            shifts = torch.randint(-reach, reach + 1, (2, used), generator=generator).to(self.device)
            flips = torch.randint(2, (used,), generator=generator).bool().to(self.device)
        share = self.batch // self.ranks
        for start in range(self.rank * share, used, self.batch):
            part = slice(start, start + share)
            which = order[part]
            if shifts is None or flips is None:
                images = self.images[which]
            else:
                images = cropped(self.images, which, shifts[:, part], flips[part])
            yield self._ready(images, self.px), self.labels[which]

    def test(self) -> Iterator[tuple[Tensor, Tensor]]:
        batches = zip(self.test_images.split(self.test_batch), self.test_labels.split(self.test_batch), strict=True)
        for images, labels in islice(batches, self.rank, None, self.ranks):
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


def _to(arrays: Arrays, device: torch.device, order: Tensor | None = None) -> tuple[Tensor, Tensor]:
    images, labels = torch.from_numpy(arrays.images), torch.from_numpy(arrays.labels)
    if order is not None:
        images, labels = images[order], labels[order]
    return images.permute(0, 3, 1, 2).contiguous().to(device), labels.to(device)


def _reflected(places: Tensor, length: int) -> Tensor:
    """Places beyond either end of a line of ``length`` pixels, mirrored at its first and last pixel."""
    last = max(length - 1, 1)
    return (last - (places.abs() - last).abs()).clamp_(0, length - 1)

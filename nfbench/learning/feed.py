"""Where a run's batches come from: a set that stays on the device as uint8, or one that is read image by image.

Order and augmentation follow from the seed and the epoch alone, so that a run can go on from any epoch.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from itertools import islice
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
import torch.nn.functional as F
import torchvision.transforms as tv
from timm.data.auto_augment import rand_augment_transform
from timm.data.loader import create_loader
from timm.data.transforms_factory import create_transform
from torch import Tensor

from nfbench.errors import BadData
from nfbench.learning.data import Arrays, Data
from nfbench.nets.train_step import FORMATS
from nfbench.records import Layout, Training

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


class BatchPlan(NamedTuple):
    """How a set is dealt in batches, and what they are like.

    ``batch`` are the images of a training batch, of all ``ranks``; ``test_batch`` those of a test batch. Training
    images are ``px`` wide and high, test images ``test_px``. ``mean`` and ``std`` are of pixels from 0 to 1, a value a
    channel. ``seed`` is that of order and augmentation; ``rank`` says which share of each training batch, and which of
    the test batches, this process takes.
    """

    device: torch.device
    batch: int
    test_batch: int
    px: int
    test_px: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    layout: Layout
    seed: int
    rank: int = 0
    ranks: int = 1


class Resident:
    """A set of arrays on the device. Each image is resized bilinearly, cropped and flipped by itself, a batch in a few
    operations; ``augment`` says whether training images are cropped and flipped."""

    def __init__(self, data: Data, plan: BatchPlan, *, augment: bool) -> None:
        assert isinstance(data.train, Arrays) and isinstance(data.test, Arrays)
        self.plan, self.augment = plan, augment
        self.images, self.labels = _to(data.train, plan.device)
        self.test_images, self.test_labels = _to(data.test, plan.device, test_order(len(data.test.labels)))
        self.mean, self.std = (
            torch.tensor(values, dtype=torch.float32, device=plan.device).view(1, -1, 1, 1)
            for values in (plan.mean, plan.std)
        )
        self.updates = len(self.labels) // plan.batch

    def train(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        plan = self.plan
        generator = torch.Generator().manual_seed(mixed_seed(plan.seed, epoch))
        used = self.updates * plan.batch
        order = torch.randperm(len(self.labels), generator=generator)[:used].to(plan.device)
        shifts = flips = None
        if self.augment:
            reach = max(1, self.images.shape[-1] // CROP_PAD)
            shifts = torch.randint(-reach, reach + 1, (2, used), generator=generator).to(plan.device)
            flips = torch.randint(2, (used,), generator=generator).bool().to(plan.device)
        share = plan.batch // plan.ranks
        for start in range(plan.rank * share, used, plan.batch):
            part = slice(start, start + share)
            which = order[part]
            if shifts is None or flips is None:
                images = self.images[which]
            else:
                images = cropped(self.images, which, shifts[:, part], flips[part])
            yield self._ready(images, plan.px), self.labels[which]

    def test(self) -> Iterator[tuple[Tensor, Tensor]]:
        plan = self.plan
        batches = zip(self.test_images.split(plan.test_batch), self.test_labels.split(plan.test_batch), strict=True)
        for images, labels in islice(batches, plan.rank, None, plan.ranks):
            yield self._ready(images, plan.test_px), labels

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
        return x.expand(-1, 3, -1, -1).contiguous(memory_format=FORMATS[self.plan.layout])


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


class Streaming:
    """A set that is read image by image through timm's loader, in worker processes.

    RandAugment works image by image, so it takes this way whatever the set's size.

    Args:
        transforms: of training and of test images, from PIL to a tensor, or to uint8 on a GPU, whose loader normalizes.
        workers: processes of the loader; 0 reads in this one.
    """

    def __init__(self, train: Any, test: Any, plan: BatchPlan, *, transforms: tuple[Any, Any], workers: int) -> None:
        self.plan, self.sets = plan, (train, test)
        on_gpu = plan.device.type == "cuda"
        common: dict[str, Any] = {
            "mean": _three(plan.mean),
            "std": _three(plan.std),
            "num_workers": workers,
            "device": plan.device,
            "use_prefetcher": on_gpu,
            "pin_memory": on_gpu,
            # a worker that lives on would hold on to random numbers of earlier epochs
            "persistent_workers": False,
        }
        # its sampler gives rank r every n-th image of one order from the r-th on: together they see the same batches
        training: dict[str, Any] = {"is_training": True, "distributed": plan.ranks > 1}
        self.loader = create_loader(train, (3, plan.px, plan.px), plan.batch // plan.ranks, **training, **common)
        batches = test_order(len(test)).split(plan.test_batch)[plan.rank :: plan.ranks]
        shuffled: Any = torch.utils.data.Subset(test, [int(i) for order in batches for i in order])
        side = plan.test_px
        self.test_loader = create_loader(shuffled, (3, side, side), plan.test_batch, is_training=False, **common)
        train.transform, test.transform = transforms
        self.updates = len(train) // plan.batch

    def train(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        seed, rank = self.plan.seed, self.plan.rank
        if self.plan.ranks > 1:
            self.loader.sampler.set_epoch(mixed_seed(seed, epoch))
        return self._on_device(self.loader, mixed_seed(seed, epoch, rank))

    def test(self) -> Iterator[tuple[Tensor, Tensor]]:
        return self._on_device(self.test_loader, 0)

    def unreadable(self) -> list[str]:
        for pictures in self.sets:
            pictures.check()
        return sorted(name for pictures in self.sets for name in pictures.unreadable())

    def _on_device(self, loader: Any, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        # workers and the sampler draw their seeds from torch's; without workers timm augments with all three
        seed_all(seed)
        device = self.plan.device
        try:
            for images, labels in loader:
                for prefetched in (images, labels):
                    if prefetched.is_cuda:
                        # timm fills a freed batch's memory on its own stream, which in older versions waits for nobody
                        prefetched.record_stream(torch.cuda.current_stream(device))
                yield (
                    images.to(device, non_blocking=True).contiguous(memory_format=FORMATS[self.plan.layout]),
                    labels.to(device, torch.int64, non_blocking=True),
                )
        except BadData:
            # torch turns a worker's error into a text with a traceback; this process says it in its words
            self.unreadable()
            raise


def _three(values: tuple[float, ...]) -> tuple[float, ...]:
    return values * 3 if len(values) == 1 else values


def folder_transforms(training: Training, px: int, prefetch: bool) -> tuple[Any, Any]:
    """For training and for test images of a folder: random resized crop and flip, and timm's evaluation crop."""
    common: dict[str, Any] = {
        "interpolation": training.interpolation,
        "mean": training.mean,
        "std": training.std,
        "use_prefetcher": prefetch,
    }
    test = create_transform(
        training.test_px, is_training=False, crop_pct=training.crop_pct, crop_mode=training.crop_mode, **common
    )
    train = create_transform(
        px,
        is_training=True,
        no_aug=training.augment == "none",
        color_jitter=0.0,
        auto_augment=randaugment(training),
        **common,
    )
    return train, test


def array_transforms(training: Training, px: int, prefetch: bool) -> tuple[Any, Any]:
    """For training and for test images of a small set: resized, moved by up to an eighth of the side, flipped."""
    end: list[Any] = [tv.PILToTensor()] if prefetch else [tv.ToTensor(), tv.Normalize(training.mean, training.std)]
    steps: list[Any] = [tv.Resize((px, px))]
    if training.augment != "none":
        steps += [tv.RandomCrop(px, padding=max(1, px // CROP_PAD), padding_mode="reflect"), tv.RandomHorizontalFlip()]
    if (words := randaugment(training)) is not None:
        gray = tuple(round(255 * m) for m in training.mean)
        # one value would fill the red channel alone
        steps.append(rand_augment_transform(words, {"img_mean": gray * (3 // len(gray))}))
    return tv.Compose([*steps, *end]), tv.Compose([tv.Resize((training.test_px, training.test_px)), *end])


def randaugment(training: Training) -> str | None:
    """RandAugment as timm spells it, every layer applied to every image; None where there is none."""
    if training.randaugment_layers is None:
        return None
    magnitude = training.randaugment_magnitude or 0
    # without mmax timm takes what is over 10 for 10
    return f"rand-n{training.randaugment_layers}-m{magnitude}-mmax{max(10, magnitude)}-p1.0"


def stays(data: Data, memory: int | None) -> bool:
    """Whether a set stays on a device with that many bytes of memory."""
    if not isinstance(data.train, Arrays) or not isinstance(data.test, Arrays):
        return False
    return memory is None or data.train.images.nbytes + data.test.images.nbytes <= RESIDENT_SHARE * memory


def default_workers() -> int:
    """Worker processes for a set that streams: one less than the cores, at most 16."""
    return max(1, min(16, (os.cpu_count() or 1) - 1))


def mixed_seed(seed: int, epoch: int, rank: int = 0) -> int:
    """A seed for an epoch, other than those of other seeds' epochs and of other ranks."""
    return (seed * 1_000_003 + epoch + 1 + rank * 613_651_369) % 2**63


def seed_all(seed: int) -> None:
    """Seed torch, NumPy and Python: timm mixes with the second and augments with the third."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)


def test_order(images: int) -> Tensor:
    """The order of a test set, always the same."""
    # a set that is sorted by class would make one-class batches, whose statistics are no batch's
    return torch.randperm(images, generator=torch.Generator().manual_seed(0))

"""What a run's batches come from, and the seeds that its order and augmentation follow from.

They follow from the seed and the epoch alone, so that a run can go on from any epoch.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from nfbench.learning.data import Arrays, Data

RESIDENT_SHARE = 0.2
"""Share of the device's memory that a set may take as uint8 and still stay there."""


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

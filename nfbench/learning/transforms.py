"""What the loader does to each image: timm's transforms for photographs, torchvision's for the small sets."""

from __future__ import annotations

from typing import Any

import torchvision.transforms as tv
from timm.data.auto_augment import rand_augment_transform
from timm.data.transforms_factory import create_transform

from nfbench.learning.resident import CROP_PAD
from nfbench.records import Training


def of_folder(training: Training, px: int, prefetch: bool) -> tuple[Any, Any]:
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


def of_arrays(training: Training, px: int, prefetch: bool) -> tuple[Any, Any]:
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

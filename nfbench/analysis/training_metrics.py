"""Arithmetic on stored training runs: metrics are functions of one `Result` of `accuracy`, all in SI units.

Shares are 0 to 1. A metric is absent (None) where what it needs is. What a run reached counts only where it is `ok`,
since its schedule ends there; a rate too, since the images of an epoch that was broken off have no time.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from nfbench.records import Result


def final_top1(result: Result) -> float | None:
    """Top-1 after the last epoch."""
    return last("top1")(result)


def best_top1(result: Result) -> float | None:
    """The highest top-1 of any epoch. The test set chose the epoch, so it flatters."""
    found = result.reading("top1")
    ended = result.status == "ok" and result.run.epochs > 0
    return max(found.finite) if ended and found and found.finite else None


def batch_gap(result: Result) -> float | None:
    """Top-1 with the test batches' own statistics less that with the running ones, after the last epoch."""
    batch, running = last("batch_top1")(result), final_top1(result)
    return None if batch is None or running is None else batch - running


def training_flops(result: Result) -> float | None:
    """FLOPs of forward and backward by count: 2 · train MACs of an image · images, with SAM those of its ascent too."""
    macs, images = result.value("train_macs"), result.value("images_seen")
    if not macs or not images:
        return None
    ascent = 0.0
    if result.run.sam != "none" and result.resolved is not None:
        passed = result.resolved.micro_batch if result.run.sam_scope == "micro-batch" else result.run.batch
        # 0.2 · 15 is a little above 3 in floating point, and is 3
        ascent = max(1, math.ceil(round(result.run.sam_fraction * passed, 9))) / passed
    return 2 * macs * images * (1 + ascent)


def wall_time(result: Result) -> float | None:
    """Seconds from the first update to the end of the last epoch: training, evaluation, checkpoints."""
    if (measured := result.value("wall_time")) is not None:
        return measured
    times = [sum(r.finite) for name in ("train_time", "evaluation_time") if (r := result.reading(name)) is not None]
    return sum(times) or None


def throughput(result: Result) -> float | None:
    """Training images per second of training time, data included."""
    images, time = result.value("images_seen"), _train_time(result)
    return images / time if images and time else None


def train_step_time(result: Result) -> float | None:
    """Seconds of one update, data included: the training time over the updates."""
    updates, time = result.value("updates"), _train_time(result)
    return time / updates if updates and time else None


def image_energy(result: Result) -> float | None:
    """Joules of one training image on all ranks, over the epochs whose energy is known of each of them."""
    ranks, per_epoch = result.each("energy"), epoch_images(result)
    if not per_epoch or len(ranks) != result.run.world_size:
        return None
    energies = [
        sum(v for v in epoch if v is not None)
        for epoch in zip(*(r.values for r in ranks), strict=False)
        if None not in epoch
    ]
    return sum(energies) / (len(energies) * per_epoch) or None if energies else None


def data_share(result: Result) -> float | None:
    """The share of the training time that went into making batches."""
    data, train = result.reading("data_time"), result.reading("train_time")
    if data is None or train is None:
        return None
    both = [(d, t) for d, t in zip(data.values, train.values, strict=False) if d is not None and t is not None]
    whole = sum(t for _, t in both)
    return sum(d for d, _ in both) / whole if whole > 0 else None


def time_to(result: Result, target: float) -> float | None:
    """Seconds of training until a top-1 of ``target`` (0 to 1) is held; None if it is not.

    It is held from the end of the first epoch on that is followed by no epoch below ``target``.
    """
    epoch, train = _held_from(result, target), result.reading("train_time")
    times = [] if epoch is None or train is None else train.values[: epoch + 1]
    return sum(t for t in times if t is not None) if times and None not in times else None


def updates_to(result: Result, target: float) -> float | None:
    """Updates until a top-1 of ``target`` is held, as for `time_to`."""
    epoch, updates, train = _held_from(result, target), result.value("updates"), result.reading("train_time")
    each = updates / len(train.values) if updates and train is not None and result.status == "ok" else None
    return None if epoch is None or each is None else each * (epoch + 1)


def images_to(result: Result, target: float) -> float | None:
    """Training images, each as often as it was seen, until a top-1 of ``target`` is held, as for `time_to`."""
    epoch, images = _held_from(result, target), epoch_images(result)
    return None if epoch is None or images is None else images * (epoch + 1)


def _held_from(result: Result, target: float) -> int | None:
    top1 = result.reading("top1")
    below = [] if top1 is None else [place for place, top in enumerate(top1.values) if top is None or top < target]
    first = below[-1] + 1 if below else 0
    return first if top1 is not None and first < len(top1.values) else None


def epoch_images(result: Result) -> float | None:
    """Training images of one epoch; absent where the run broke off in the midst of one."""
    images, train = result.value("images_seen"), result.reading("train_time")
    return images / len(train.values) if result.status == "ok" and images and train and train.values else None


def last(name: str) -> Callable[[Result], float | None]:
    """The metric that is a reading of each epoch, after the last."""

    def read(result: Result) -> float | None:
        found = result.reading(name)
        return found.at(-1) if result.status == "ok" and found is not None else None

    return read


def _train_time(result: Result) -> float | None:
    """Seconds of all epochs, each of the slowest rank."""
    ranks = [r.values for r in result.each("train_time")] if result.status == "ok" else []
    slowest = [max((t for t in epoch if t is not None), default=None) for epoch in zip(*ranks, strict=False)]
    times = [t for t in slowest if t is not None]
    return sum(times) or None if len(times) == len(slowest) else None

"""What reducing the gradients over the ranks takes: by itself, and of a step that does without."""

from __future__ import annotations

import itertools
from typing import cast

from nfbench.devices.base import Device, Reduced, Steps
from nfbench.measuring.window import SOURCES, Window, no_collection
from nfbench.records import Reading, Sampling, reading

MOST, LEAST = 20, 3
SHARE = 0.05
"""Of the cap on the whole timing, for each of the two."""
FIRST = 2
"""Reductions that only make connections and buffers."""


def communication(device: Device, steps: Steps, passes: int, step_time: float, sampling: Sampling) -> list[Reading]:
    """`all_reduce` (s), of as many bytes as the gradients have and of nothing else; `unsynchronized_step` (s), of
    updates of ``passes`` passes whose gradients stay on their rank; `gradient_bytes` (B).

    The weights of the ranks are no longer the same afterwards. With ``sync_batch`` the statistics of the batches are
    still exchanged in both passes.
    """
    world, source = device.world, SOURCES[device.machine.device]
    reduced = cast(Reduced, steps)
    with no_collection():
        once = _reductions(device, reduced, FIRST)[-1]
        reductions = _reductions(device, reduced, world.agree(_fitting(once, sampling)))
        window = Window(device, cast(Steps, _Alone(reduced)), passes, passes)
        window.block(world.agree(_fitting(step_time, sampling)))
    return [
        reading("gradient_bytes", "B", "step", "count", [reduced.gradient_bytes()]),
        reading("all_reduce", "s", "step", source, reductions),
        reading("unsynchronized_step", "s", "step", source, window.step),
    ]


def _fitting(seconds: float, sampling: Sampling) -> int:
    return max(LEAST, min(MOST, int(SHARE * sampling.max_time / max(seconds, 1e-6))))


def _reductions(device: Device, steps: Reduced, count: int) -> list[float]:
    recorder = device.recorder(1 + count)
    device.synchronize()
    # who comes late is not what is timed here
    device.world.barrier()
    recorder.stamp()
    for _ in range(count):
        steps.reduce()
        recorder.stamp()
    device.synchronize()
    times = recorder.times()
    return [b - a for a, b in itertools.pairwise(times)]


class _Alone:
    """Steps whose update reduces nothing."""

    def __init__(self, steps: Reduced) -> None:
        self.phases, self.update = steps.phases, steps.alone

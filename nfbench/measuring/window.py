"""The timed window: blocks of steps, and the raw times that they leave.

::

    [ stamp · step · stamp · step · … · stamp ]  sync  [ … ]
              └ refill: kept apart
"""

from __future__ import annotations

import gc
import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from nfbench.analysis.stats import Estimate, composed, median
from nfbench.devices.base import Device, Steps
from nfbench.records import MAX_KEPT_STEPS, Reading, Scope, reading

SOURCES = {"cuda": "cuda events", "cpu": "perf_counter", "fake": "fake"}
"""Where the stamps of each kind of device come from."""


@contextmanager
def no_collection() -> Iterator[None]:
    """Python's garbage collector is off inside, whatever happens."""
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class Window:
    """Times updates of ``passes`` micro-batches on a device and keeps every raw value.

    Where ``passes`` is less than ``accumulation_steps`` the whole step is composed from what was timed.
    """

    def __init__(self, device: Device, steps: Steps, passes: int, accumulation_steps: int) -> None:
        self.device, self.steps = device, steps
        self.passes, self.accumulation_steps = passes, accumulation_steps
        self.composed = passes < accumulation_steps
        self.step: list[float] = []
        self.refill: list[float] = []
        self.forward: list[list[float]] = []
        self.backward: list[list[float]] = []
        self.clip: list[float] = []
        self.update: list[float] = []
        self.tail: list[float] = []
        self.block_time: list[float] = []

    def block(self, steps: int, refills: int = 1) -> None:
        """Time ``steps`` updates after ``refills`` that do not count. Synchronizes before and after."""
        recorder = self.device.recorder(1 + (steps + refills) * (2 * self.passes + 2))
        stamp, update, passes = recorder.stamp, self.steps.update, self.passes
        self.device.synchronize()
        stamp()
        for _ in range(steps + refills):
            update(stamp, passes)
        launched = self.device.now()
        self.device.synchronize()
        closed = self.device.now()
        times = recorder.times()
        self.tail.append(closed - launched)
        self.block_time.append(times[-1])
        self._file(times, refills)

    def _file(self, times: Sequence[float], refills: int) -> None:
        stamps = 2 * self.passes + 2
        for update, start in enumerate(range(0, len(times) - 1, stamps)):
            marks = times[start : start + stamps + 1]
            spans = [b - a for a, b in itertools.pairwise(marks)]
            if update < refills:
                self.refill.append(marks[-1] - marks[0])
                continue
            self.step.append(marks[-1] - marks[0])
            self.forward.append(spans[0:-2:2])
            self.backward.append(spans[1:-2:2])
            self.clip.append(spans[-2])
            self.update.append(spans[-1])

    def micro_steps(self) -> list[list[float]]:
        """Seconds of each pass of each update, forward and backward together."""
        return [
            [f + b for f, b in zip(fs, bs, strict=True)] for fs, bs in zip(self.forward, self.backward, strict=True)
        ]

    def estimate(self) -> Estimate:
        """The step time with its interval, from those of the times so far that `readings` keeps."""
        every = self._every()
        if not self.composed:
            return median(self.step[::every])
        passes = self.micro_steps()[::every]
        return composed(
            [p[0] for p in passes],
            [t for p in passes for t in p[1:]],
            [c + u for c, u in zip(self.clip[::every], self.update[::every], strict=True)],
            self.accumulation_steps,
        )

    def _every(self) -> int:
        """Every n-th update is kept, so that at most 1,000 values of a quantity are."""
        values = len(self.step) * (self.passes if self.composed else 1)
        return max(1, -(-values // MAX_KEPT_STEPS))

    def readings(self, source: str, tail: bool) -> list[Reading]:
        """The raw times. Of many steps every n-th is kept, the same ones of each quantity, at most 1,000."""
        every = self._every()

        def seconds(name: str, values: Sequence[float], scope: Scope = "step") -> Reading:
            return reading(name, "s", scope, source, values)

        def flat(values: list[list[float]]) -> list[float]:
            return [t for update in values[::every] for t in update]

        found = [reading("steps", "1", "window", "count", [len(self.step)])]
        if self.composed:
            found += [
                reading("passes", "1", "step", "count", [self.passes]),
                seconds("forward", flat(self.forward), "micro_step"),
                seconds("backward", flat(self.backward), "micro_step"),
            ]
        else:
            found += [
                seconds("step_time", self.step[::every]),
                seconds("refill", self.refill[:MAX_KEPT_STEPS]),
                seconds("forward", [sum(f) for f in self.forward[::every]]),
                seconds("backward", [sum(b) for b in self.backward[::every]]),
            ]
        found += [
            seconds("clip", self.clip[::every]),
            seconds("update", self.update[::every]),
            seconds("block_time", self.block_time[:MAX_KEPT_STEPS], "block"),
        ]
        if tail:
            found.append(reading("tail", "s", "block", "host clock", self.tail[:MAX_KEPT_STEPS]))
        return found

"""The timed window: blocks of steps, and the raw times that they leave.

::

    [ stamp · step · stamp · step · … · stamp ]  sync  [ … ]
              └ refill: kept apart
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import cast

from nfbench.analysis.stats import Estimate, composed, composed_parts, median
from nfbench.devices.base import Device, Reduced, Steps
from nfbench.records import MAX_KEPT_STEPS, Phase, Reading, Sampling, Scope, reading
from nfbench.units import no_collection

SOURCES = {"cuda": "cuda events", "cpu": "perf_counter", "fake": "fake"}
"""Where the stamps of each kind of device come from."""
MOST_REDUCTIONS, LEAST_REDUCTIONS = 20, 3
REDUCING_SHARE = 0.05
"""Of the cap on the whole timing, for reductions and for steps without."""
FIRST_REDUCTIONS = 2
"""Those that only make connections and buffers."""


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
        phases = steps.phases
        self.each: dict[Phase, list[list[float]]] = {phase: [] for phase in phases.each}
        self.once: dict[Phase, list[float]] = {phase: [] for phase in (*phases.head, *phases.tail)}
        self.stamps = len(phases.head) + passes * len(phases.each) + len(phases.tail)
        self.tail: list[float] = []
        self.block_time: list[float] = []

    def block(self, steps: int, refills: int = 1) -> None:
        """Time ``steps`` updates after ``refills`` that do not count. Synchronizes before and after."""
        recorder = self.device.recorder(1 + (steps + refills) * self.stamps)
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
        for update, start in enumerate(range(0, len(times) - 1, self.stamps)):
            marks = times[start : start + self.stamps + 1]
            if update < refills:
                self.refill.append(marks[-1] - marks[0])
                continue
            self.step.append(marks[-1] - marks[0])
            self._phases([b - a for a, b in itertools.pairwise(marks)])

    def _phases(self, spans: Sequence[float]) -> None:
        """Sort the spans of one update into its phases; one that comes twice in a pass or an update is added up."""
        head, each, tail = self.steps.phases
        body = spans[len(head) : len(spans) - len(tail)]
        for phase, times in self.each.items():
            of = [i for i, name in enumerate(each) if name == phase]
            times.append([sum(body[start + i] for i in of) for start in range(0, len(body), len(each))])
        ends = [*zip(head, spans, strict=False), *zip(tail, spans[len(spans) - len(tail) :], strict=True)]
        for phase, once in self.once.items():
            once.append(sum(span for name, span in ends if name == phase))

    def micro_steps(self) -> list[list[float]]:
        """Seconds of each pass of each update, its phases together."""
        return [
            [sum(phases) for phases in zip(*update, strict=True)] for update in zip(*self.each.values(), strict=True)
        ]

    def ends(self) -> list[float]:
        """Seconds of what each update does once, such as clip and update together."""
        return [sum(phases) for phases in zip(*self.once.values(), strict=True)]

    def estimate(self) -> Estimate:
        """The step time with its interval, from those of the times so far that `readings` keeps."""
        every = self._every()
        if not self.composed:
            return median(self.step[::every])
        reduced = self.device.world.size > 1
        return composed(
            *composed_parts(self.micro_steps()[::every], self.ends()[::every], self.accumulation_steps, reduced)
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
            found.append(reading("passes", "1", "step", "count", [self.passes]))
            found += [seconds(phase, flat(times), "micro_step") for phase, times in self.each.items()]
        else:
            found += [seconds("step_time", self.step[::every]), seconds("refill", self.refill[:MAX_KEPT_STEPS])]
            found += [seconds(phase, [sum(t) for t in times[::every]]) for phase, times in self.each.items()]
        found += [seconds(phase, times[::every]) for phase, times in self.once.items()]
        found.append(seconds("block_time", self.block_time[:MAX_KEPT_STEPS], "block"))
        if tail:
            found.append(reading("tail", "s", "block", "host clock", self.tail[:MAX_KEPT_STEPS]))
        return found


def communication(device: Device, steps: Steps, passes: int, step_time: float, sampling: Sampling) -> list[Reading]:
    """Time what reducing the gradients over the ranks takes, by itself and of a step that does without.

    `all_reduce` (s), of as many bytes as the gradients have and of nothing else; `unsynchronized_step` (s), of
    updates of ``passes`` passes whose gradients stay on their rank; `gradient_bytes` (B).

    The weights of the ranks are no longer the same afterwards. With ``sync_batch`` the statistics of the batches are
    still exchanged in both passes.
    """
    world, source = device.world, SOURCES[device.machine.device]
    reduced = cast(Reduced, steps)
    with no_collection(collect=True):
        once = _reductions(device, reduced, FIRST_REDUCTIONS)[-1]
        reductions = _reductions(device, reduced, world.agree(_fitting(once, sampling)))
        window = Window(device, cast(Steps, _Alone(reduced)), passes, passes)
        window.block(world.agree(_fitting(step_time, sampling)))
    return [
        reading("gradient_bytes", "B", "step", "count", [reduced.gradient_bytes()]),
        reading("all_reduce", "s", "step", source, reductions),
        reading("unsynchronized_step", "s", "step", source, window.step),
    ]


def _fitting(seconds: float, sampling: Sampling) -> int:
    return max(LEAST_REDUCTIONS, min(MOST_REDUCTIONS, int(REDUCING_SHARE * sampling.max_time / max(seconds, 1e-6))))


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

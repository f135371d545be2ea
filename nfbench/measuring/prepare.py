"""From a workload to a built net that is ready to be timed: micro-batch, layout, first step, warm-up."""

from __future__ import annotations

import math

import msgspec

from nfbench.analysis.stats import apart, median
from nfbench.devices.base import Device, Steps
from nfbench.errors import NfbenchError
from nfbench.measuring.outcome import Watch, failure
from nfbench.measuring.stopping import block_steps, short_passes, steady, whole_steps_fit
from nfbench.measuring.window import SOURCES, Window
from nfbench.records import (
    MAX_KEPT_STEPS,
    Layout,
    Reading,
    Resolved,
    Sampling,
    StepTime,
    accumulation_steps,
    reading,
)
from nfbench.units import no_collection

TRIAL_SHARE = 0.1
WARM_UP_SHARE, MOST_WARM_UP_SHARE = 0.2, 0.4
"""Of the cap on the whole timing, for a warm-up, and for one that a device needs to settle."""
AGAIN, MOST_AGAIN, AGAIN_SHARE = 2, 1000, 0.1
"""Updates with which a net that has waited for its turn is warmed again, at least and at most, and the share of the
cap."""


class Preparation:
    """Everything that comes before the first timed window; what it has found so far stays readable if it fails.

    ``spent`` is how much of ``sampling.max_time`` it took, in seconds: the trial of the layouts and the warm-up, but no
    build, no search for a micro-batch and no first step, which may compile. ``step_time`` is what a step of ``passes``
    passes takes by the latest estimate. What hangs on a clock or on memory is rank 0's or the least of all ranks':
    otherwise some would run other updates than those that wait for them.
    """

    def __init__(self, device: Device, workload: StepTime, sampling: Sampling, seed: int, watch: Watch) -> None:
        self.device, self.workload, self.sampling = device, workload, sampling
        self.world, self.seed, self.watch = device.world, seed, watch
        self.source = SOURCES[device.machine.device]
        self.resolved: Resolved | None = None
        self.readings: list[Reading] = []
        self.notes: dict[str, str] = {}
        self.step_time = 0.0
        self.passes = 1
        self.spent = 0.0

    def run(self) -> tuple[Steps, Resolved]:
        """Build and warm up.

        Raises:
            NfbenchError: the device or the net cannot do what the workload asks.
        """
        workload = self.workload
        steps, resolved = self.build()
        if workload.layout == "best":
            self.watch.phase("trying both layouts")
            resolved = self._settle(steps, layout=self._better_layout(steps, resolved))
        else:
            self.watch.phase("first step")
            self.readings.append(self._first(steps, resolved))
            began = self.device.now()
            self._estimate(steps, resolved)
            self.spent = self.device.now() - began
        self._plan(steps, resolved)
        self._warm_up(steps)
        return steps, resolved

    def build(self) -> tuple[Steps, Resolved]:
        """Build and find the micro-batch; a layout that is still to be found is channels-last. Errors as `run`."""
        device, workload = self.device, self.workload
        self.watch.phase("building")
        resolved = device.resolve(workload)
        if self.world.size > 1:
            resolved = msgspec.structs.replace(resolved, backend=self.world.backend, nodes=self.world.nodes)
        resolved = self.resolved = msgspec.convert(self.world.agree(msgspec.to_builtins(resolved)), Resolved)
        steps = device.build(workload, resolved, self.seed)
        self.readings += steps.describe()
        if workload.micro_batch == "auto":
            self.watch.phase("finding the micro-batch")
            fits = device.fit(workload, resolved, steps, self.seed)
            resolved = self._settle(steps, micro_batch=self.world.least(fits))
        return steps, resolved

    def again(self, steps: Steps) -> None:
        """Warm a net that has waited for its turn."""
        began = self.device.now()
        seconds = min(self.device.next_warm_up, AGAIN_SHARE * self.sampling.max_time)
        updates = max(AGAIN, min(MOST_AGAIN, math.ceil(seconds / max(self.step_time, 1e-6))))
        Window(self.device, steps, self.passes, self.passes).block(self.world.agree(updates), refills=0)
        self._agree_on_spent(self.device.now() - began)

    def _agree_on_spent(self, seconds: float) -> None:
        """What later decisions hang on, and each rank's clock shows a little differently."""
        self.spent, self.step_time = self.world.agree([seconds, self.step_time])

    def _settle(self, steps: Steps, **found: object) -> Resolved:
        assert self.resolved is not None
        self.resolved = msgspec.structs.replace(self.resolved, **found)
        steps.arrange(self.resolved.layout, self.resolved.micro_batch)
        return self.resolved

    def _accumulation_steps(self, resolved: Resolved) -> int:
        return accumulation_steps(self.workload, resolved)

    def _few_passes(self, resolved: Resolved) -> int:
        """All passes of a step of two at most, else one."""
        whole = self._accumulation_steps(resolved)
        return whole if whole <= 2 else 1

    def _first(self, steps: Steps, resolved: Resolved) -> Reading:
        """The first step at its own shapes; of more than two passes only the first is run, and the name says so."""
        passes = self._few_passes(resolved)
        window = Window(self.device, steps, passes, passes)
        window.block(1, refills=0)
        name = "first_step" if passes == self._accumulation_steps(resolved) else "first_short_step"
        return reading(name, "s", "run", self.source, window.step)

    def _estimate(self, steps: Steps, resolved: Resolved) -> float:
        """Set the step time from one more update, which nothing compiles any more; return the time of a pass."""
        passes = self._few_passes(resolved)
        window = Window(self.device, steps, passes, passes)
        window.block(1, refills=0)
        one_pass, end = self.world.agree([window.micro_steps()[0][-1], window.ends()[0]])
        self.step_time = one_pass * self._accumulation_steps(resolved) + end
        return one_pass

    def _better_layout(self, steps: Steps, resolved: Resolved) -> Layout:
        """The layout that a trial of a few passes in each, A B B A, shows to be quicker beyond doubt.

        Where it shows neither, that is the device's usual one, and a note says so. A layout that fails loses where the
        other one runs, and a note says why.
        """
        times, firsts = dict[Layout, list[float]](), dict[Layout, Reading]()
        failed: Layout | None = None
        order: tuple[Layout, ...] = ("nhwc", "nchw", "nchw", "nhwc")
        arranged: Layout | None = None
        for turn, layout in enumerate(order):
            if layout == failed or (turn >= 2 and self.world.agree(self._trial_is_over(times))):
                continue
            try:
                if layout != arranged:
                    steps.arrange(layout, resolved.micro_batch)
                    arranged = layout
                if layout not in firsts:
                    firsts[layout] = self._first(steps, resolved)
                began = self.device.now()
                one_pass = self._estimate(steps, resolved)
                share = TRIAL_SHARE * self.sampling.max_time / len(order)
                window = Window(self.device, steps, 1, 1)
                window.block(max(1, min(10, int(share / max(one_pass, 1e-6)))), refills=0)
                times.setdefault(layout, []).extend(p[0] for p in window.micro_steps())
                self.spent += self.device.now() - began
            except NfbenchError:
                raise
            except Exception as error:
                # of several ranks others may wait for this one in the midst of that update
                if self.world.size > 1 or failed is not None:
                    raise
                failed, arranged = layout, None
                firsts.pop(layout, None)
                times.pop(layout, None)
                self.notes["failed_layout"] = f"{layout}: {failure(error, self.device)[1]}"
        self.readings += [
            reading(f"trial_{layout}", "s", "micro_step", self.source, values) for layout, values in times.items()
        ]
        best: Layout = min(times, key=lambda layout: median(times[layout]).value)
        if self.world.agree(len(times) == 2 and not apart(times["nhwc"], times["nchw"])):
            best = "nhwc" if self.device.machine.device != "cpu" else "nchw"
            self.notes["layout_trial"] = f"neither layout was quicker beyond doubt, so {best}, the device's usual one"
        best = self.world.agree(best)
        self.readings.append(firsts[best])
        self.step_time = self.world.agree(median(times[best]).value) * self._accumulation_steps(resolved)
        return best

    def _trial_is_over(self, times: dict[Layout, list[float]]) -> bool:
        """The second half of the trial is left out where it would take more than the trial's share of the cap."""
        last = sum(values[-1] for values in times.values())
        return self.spent + 2 * last > 2 * TRIAL_SHARE * self.sampling.max_time

    def _plan(self, steps: Steps, resolved: Resolved) -> None:
        """Whole steps where the cap holds them, else short ones from which the step is composed.

        What an update does before its passes grows with their number, so such a step is never composed.
        """
        whole = self.passes = self._accumulation_steps(resolved)
        if not steps.phases.head and not whole_steps_fit(self.step_time, whole, self.sampling.max_time):
            one_pass = self.step_time / whole
            # of several ranks the last pass reduces the gradients, so that one more is needed to stand for the others
            least = 2 if self.world.size == 1 else 3
            left = self.world.agree(self.sampling.max_time - self.spent)
            self.passes = short_passes(one_pass, left, whole, least)
            self.step_time = one_pass * self.passes

    def _warm_up(self, steps: Steps) -> None:
        """Update until the step time has settled and the device with it, for a fifth of the cap or as long as the
        device needs, at most; a longer step has had its warm-up."""
        self.watch.phase("warming up")
        began, max_time = self.device.now(), self.sampling.max_time
        least = min(self.device.first_warm_up, MOST_WARM_UP_SHARE * max_time)
        most = max(least, WARM_UP_SHARE * max_time)
        window, paces = Window(self.device, steps, self.passes, self.passes), list[tuple[float, ...]]()
        with no_collection(collect=True):
            while True:
                elapsed = self.device.now() - began
                settled = elapsed >= least and steady(window.step) and all(map(steady, zip(*paces, strict=False)))
                updates = self.world.agree(0 if settled else self._warm_up_steps(most - elapsed))
                if not updates:
                    break
                window.block(updates, refills=0)
                paces.append(self.device.pace())
                self.step_time = median(window.step[-max(3, len(window.step) // 3) :]).value
        if window.step:
            self.readings.append(reading("warm_up", "s", "step", self.source, window.step[:MAX_KEPT_STEPS]))
        self._agree_on_spent(self.spent + self.device.now() - began)

    def _warm_up_steps(self, left: float) -> int:
        """Updates of the next block of the warm-up, of which ``left`` seconds are left; 0 where none fits."""
        return 0 if left <= self.step_time else max(1, min(3 * block_steps(self.step_time, left) // 10, 100))

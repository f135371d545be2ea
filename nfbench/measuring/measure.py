"""The one verb: a workload becomes a result.

::

    resolve → build → fit → layout → first step → warm-up until steady → [ window ] → read meters → Result

`Measurement.turn` may be called again for further turns of the same built net, as interleaved rounds do.
"""

from __future__ import annotations

import msgspec

from nfbench.analysis.stats import median
from nfbench.devices.base import Device, Steps
from nfbench.errors import NfbenchError, Stop
from nfbench.measuring.lock import only_one
from nfbench.measuring.meters import meters
from nfbench.measuring.outcome import Keep, Labels, base_result, failure
from nfbench.measuring.stopping import Reason, block_steps, enough, short_passes, steady, whole_steps_fit
from nfbench.measuring.watch import Silent, Watch
from nfbench.measuring.window import Window, no_collection
from nfbench.records import MAX_KEPT_STEPS, Layout, Reading, Resolved, Result, Sampling, Status, Workload, reading

LONG_STEP = 1.0
"""Seconds from which a step outlasts any refill of the launch queue, so that none is run for nothing."""

TRIAL_SHARE = 0.1
WARM_UP_SHARE = 0.2


class Measurement:
    """One workload on one device. The cap ``sampling.max_time`` counts from the end of the first step."""

    def __init__(
        self,
        device: Device,
        workload: Workload,
        sampling: Sampling,
        keep: Keep,
        *,
        seed: int = 0,
        watch: Watch | None = None,
        labels: Labels | None = None,
    ) -> None:
        self.device, self.workload, self.sampling = device, workload, sampling
        self.keep, self.seed, self.watch = keep, seed, watch or Silent()
        self.labels = labels or Labels()
        self.resolved: Resolved | None = None
        self.steps: Steps | None = None
        self.window: Window | None = None
        self.setup: list[Reading] = []
        self.step_time = 0.0
        self.passes = 1
        self.spent = 0.0

    def turn(self, round: int = 0) -> Result:
        """Prepare where that has not been done, time one window, and hand the result to ``keep`` exactly once.

        Raises:
            NfbenchError: the workload cannot be what was asked; nothing is kept.
            Stop, KeyboardInterrupt: raised again after what was measured has been kept as `interrupted`.
        """
        result = base_result(self.device, self.workload, self.sampling, self.seed, round, self.labels)
        self.window = None
        try:
            with only_one(self.device.lock_name(), self.watch):
                result = msgspec.structs.replace(result, conditions=self.device.conditions())
                steps, resolved = self._prepared()
                result = self._window(result, steps, resolved)
        except NfbenchError:
            raise
        except (Stop, KeyboardInterrupt):
            self.keep(self._cut_short(result, "interrupted", None))
            raise
        except Exception as error:
            result = self._cut_short(result, *failure(error, self.device))
            self.watch.failed(error, result)
        self.keep(result)
        return result

    # before the window

    def _prepared(self) -> tuple[Steps, Resolved]:
        if self.steps is not None and self.resolved is not None:
            self.spent = 0.0
            return self.steps, self.resolved
        device, workload = self.device, self.workload
        self.setup = []
        self.watch.phase("building")
        resolved = self.resolved = device.resolve(workload)
        steps = device.build(workload, resolved, self.seed)
        self.setup += steps.describe()
        if workload.micro_batch == "auto":
            self.watch.phase("finding the micro-batch")
            resolved = self._settle(steps, micro_batch=device.fit(workload, resolved, steps, self.seed))
        if workload.layout == "best":
            self.watch.phase("trying both layouts")
            resolved = self._settle(steps, layout=self._better_layout(steps, resolved))
        else:
            self.watch.phase("first step")
            self.setup.append(self._first(steps, resolved, most_passes=2))
        self._plan(resolved)
        self._warm_up(steps)
        self.steps = steps
        return steps, resolved

    def _settle(self, steps: Steps, **found: object) -> Resolved:
        assert self.resolved is not None
        self.resolved = msgspec.structs.replace(self.resolved, **found)
        steps.arrange(self.resolved.layout, self.resolved.micro_batch)
        return self.resolved

    def _first(self, steps: Steps, resolved: Resolved, most_passes: int) -> Reading:
        """The first step, of ``most_passes`` at most: cut short, it is a reading of another name."""
        accumulation_steps = self.workload.batch // resolved.micro_batch
        passes = accumulation_steps if accumulation_steps <= 2 else most_passes
        window = Window(self.device, steps, passes, passes)
        window.block(1, refills=0)
        last_pass = window.micro_steps()[0][-1]
        self.step_time = last_pass * accumulation_steps + window.clip[0] + window.update[0]
        name = "first_step" if passes == accumulation_steps else "first_short_step"
        return reading(name, "s", "run", self._source, window.step)

    def _better_layout(self, steps: Steps, resolved: Resolved) -> Layout:
        """A few short updates in each layout, in the order A B B A; a layout that runs out of memory loses."""
        began, times, firsts = self.device.now(), dict[Layout, list[float]](), dict[Layout, Reading]()
        order: list[Layout] = ["nhwc", "nchw", "nchw", "nhwc"]
        arranged: Layout | None = None
        for turn, layout in enumerate(order):
            if turn >= 2 and (layout not in firsts or self._trial_is_over(began, times)):
                continue
            try:
                if layout != arranged:
                    steps.arrange(layout, resolved.micro_batch)
                    arranged = layout
                if layout not in firsts:
                    firsts[layout] = self._first(steps, resolved, most_passes=1)
                window = Window(self.device, steps, 1, 1)
                share = TRIAL_SHARE * self.sampling.max_time / len(order)
                one_pass = self.step_time * resolved.micro_batch / self.workload.batch
                window.block(max(1, min(10, int(share / max(one_pass, 1e-6)))), refills=0)
                times.setdefault(layout, []).extend(window.step)
            except Exception as error:
                if not self.device.out_of_memory(error) or layout == "nhwc":
                    raise
                firsts.pop(layout, None)
                times.pop(layout, None)
        self.spent = self.device.now() - began
        self.setup += [
            reading(f"trial_{layout}", "s", "micro_step", self._source, values) for layout, values in times.items()
        ]
        best = min(times, key=lambda layout: median(times[layout]).value)
        self.setup.append(firsts[best])
        self.step_time = median(times[best]).value * (self.workload.batch // resolved.micro_batch)
        return best

    def _trial_is_over(self, began: float, times: dict[Layout, list[float]]) -> bool:
        """The second half of the trial is left out where it would take more than the trial's share of the cap."""
        last = sum(values[-1] for values in times.values())
        return self.device.now() - began + last > 2 * TRIAL_SHARE * self.sampling.max_time

    def _plan(self, resolved: Resolved) -> None:
        """Whole steps where the cap holds them, else short ones from which the step is composed."""
        accumulation_steps = self.workload.batch // resolved.micro_batch
        self.passes = accumulation_steps
        if not whole_steps_fit(self.step_time, accumulation_steps, self.sampling.max_time):
            one_pass = self.step_time / accumulation_steps
            warm_up = 0.0 if self.spent else WARM_UP_SHARE * self.sampling.max_time
            left = self.sampling.max_time - self.spent - warm_up
            self.passes = short_passes(one_pass, left, accumulation_steps)
            self.step_time = one_pass * self.passes

    def _warm_up(self, steps: Steps) -> None:
        """Update until the step time has settled, for a fifth of the cap at most.

        A step longer than that has had its first one as warm-up.
        """
        self.watch.phase("warming up")
        began, cap = self.device.now(), WARM_UP_SHARE * self.sampling.max_time
        window = Window(self.device, steps, self.passes, self.passes)
        with no_collection():
            while True:
                left = cap - self.spent - (self.device.now() - began)
                if left <= self.step_time or steady(window.step):
                    break
                window.block(max(1, min(3 * block_steps(self.step_time, left) // 10, 100)), refills=0)
                self.step_time = median(window.step[-max(3, len(window.step) // 3) :]).value
        if window.step:
            self.setup.append(reading("warm_up", "s", "step", self._source, window.step[:MAX_KEPT_STEPS]))
        self.spent += self.device.now() - began

    # the window and after it

    def _window(self, result: Result, steps: Steps, resolved: Resolved) -> Result:
        sampling, device = self.sampling, self.device
        accumulation_steps = self.workload.batch // resolved.micro_batch
        window = self.window = Window(device, steps, self.passes, accumulation_steps)
        gauges = meters(device)
        self.watch.phase("timing")
        refills = 0 if self.step_time > LONG_STEP else 1
        device.synchronize()
        for gauge in gauges:
            gauge.start()
        began = device.now()
        busy = 1.0
        reason: Reason | None = None
        found: list[Reading] = []
        try:
            with no_collection():
                while reason is None:
                    left = sampling.max_time - self.spent - (device.now() - began)
                    window.block(block_steps(self.step_time, left, refills), refills)
                    self.step_time = median(window.step).value
                    elapsed = device.now() - began
                    estimate, left = window.estimate(), sampling.max_time - self.spent - elapsed
                    self.watch.progress(len(window.step), estimate, left)
                    reason = self._reason(window, elapsed, left)
            busy = sum(window.block_time) / (device.now() - began)
        finally:
            for gauge in gauges:
                found += gauge.stop(busy)
        throttle = {reason for gauge in gauges for reason in getattr(gauge, "throttle", ())}
        self.watch.phase("reading gradients")
        found += steps.inspect()
        loss = next((r for r in found if r.name == "loss"), None)
        return msgspec.structs.replace(
            result,
            status="ok" if loss is None or all(v is not None for v in loss.values) else "diverged",
            resolved=resolved,
            conditions=msgspec.structs.replace(result.conditions, throttle=tuple(sorted(throttle))),
            stopped_by=reason,
            composed=window.composed,
            notes={**result.notes, **steps.notes()},
            readings=(*self.setup, *found, *self._samples(window)),
        )

    def _reason(self, window: Window, elapsed: float, left: float) -> Reason | None:
        """Why to stop now. A next step that would not fit any more counts as none left."""
        least = max(self.sampling.turn_time, self.device.least_window)
        if left > self.step_time and elapsed < least:
            return None
        fits = left if left > self.step_time else 0.0
        return enough(window.estimate(), len(window.step), elapsed, fits, self.sampling)

    def _cut_short(self, result: Result, status: Status, message: str | None) -> Result:
        """What there is of a measurement that did not reach its end."""
        window = self.window
        timed = self._samples(window) if window is not None and window.step else []
        return msgspec.structs.replace(
            result,
            status=status,
            message=message,
            resolved=self.resolved,
            composed=bool(timed) and window is not None and window.composed,
            readings=(*self.setup, *timed),
        )

    def _samples(self, window: Window) -> list[Reading]:
        return window.readings(self._source, tail=self.device.machine.device == "cuda")

    @property
    def _source(self) -> str:
        return {"cuda": "cuda events", "cpu": "perf_counter", "fake": "fake"}[self.device.machine.device]


def measure(
    device: Device,
    workload: Workload,
    sampling: Sampling,
    keep: Keep,
    *,
    seed: int = 0,
    watch: Watch | None = None,
    labels: Labels | None = None,
) -> Result:
    """Measure ``workload`` once and hand the result to ``keep`` before it is returned; errors as `Measurement.turn`."""
    return Measurement(device, workload, sampling, keep, seed=seed, watch=watch, labels=labels).turn()

"""The one verb: a workload becomes a result.

::

    resolve → build → fit → layout → first step → warm-up until steady → [ window ] → read meters → Result

`Measurement.turn` may be called again for further turns of the same built net, as interleaved rounds do.

Of several ranks each runs all of this, the same updates at the same places; rank 0 keeps one result of all of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, field

import msgspec

from nfbench.analysis.stats import median
from nfbench.devices.base import Device, Steps
from nfbench.errors import NfbenchError, Stop
from nfbench.measuring.lock import only_one
from nfbench.measuring.meters import meters
from nfbench.measuring.outcome import Keep, Labels, Turn, Watch, begun, failure, merged
from nfbench.measuring.prepare import Preparation
from nfbench.measuring.stopping import Reason, block_steps, enough
from nfbench.measuring.window import SOURCES, Window, communication
from nfbench.records import MAX_KEPT_STEPS, Reading, Result, Sampling, Status, StepTime, accumulation_steps
from nfbench.units import no_collection

LONG_STEP = 1.0
"""Seconds from which a step outlasts any refill of the launch queue, so that none is run for nothing."""


@dataclass
class Measurement:
    """One workload on one device, prepared once and timed in one or more turns."""

    device: Device
    workload: StepTime
    sampling: Sampling
    keep: Keep
    _: KW_ONLY
    seed: int = 0
    watch: Watch = field(default_factory=Watch)
    labels: Labels = field(default_factory=Labels)

    def __post_init__(self) -> None:
        self.world = self.device.world
        self.prepared: Preparation | None = None
        self.steps: Steps | None = None
        self.window: Window | None = None
        self.inspected: list[Reading] | None = None

    def turn(self, round: int = 0, turn: int = 0) -> Result:
        """Prepare where that has not been done, time one window, and hand the result to ``keep`` exactly once.

        Raises:
            NfbenchError: the workload cannot be what was asked; nothing is kept. `RankFailed`: one of several ranks
                failed; its row is kept.
            Stop, KeyboardInterrupt: raised again after what was measured has been kept as `interrupted`.
        """
        return self._kept(round, turn, lambda result: self._window(result, *self._ready()))

    def counts(self, round: int = 0) -> Result:
        """What can be counted of one update, in a result without times; the rest as `turn`."""
        return self._kept(round, 0, self._counted)

    def _kept(self, round: int, turn: int, measured: Callable[[Result], Result]) -> Result:
        asked = Turn(
            workload=self.workload,
            sampling=self.sampling,
            seed=self.seed,
            round=round,
            turn=turn,
            labels=self.labels,
        )
        self.window, self.result = None, begun(self.device, asked)

        def whole() -> Result:
            self.result = msgspec.structs.replace(
                self.result, conditions=self.device.conditions(idle=self.steps is None)
            )
            return merged(self.world, measured(self.result))

        if self.prepared is None:
            # what the device refuses is said before anybody is waited for
            self.device.resolve(self.workload)
        longest = self.sampling.max_time
        return kept_once(self.device, self.device.lock_name(), self.keep, self.watch, whole, self._cut_short, longest)

    def _ready(self) -> tuple[Steps, Preparation]:
        if self.steps is None or self.prepared is None:
            self.prepared = Preparation(self.device, self.workload, self.sampling, self.seed, self.watch)
            self.steps, _ = self.prepared.run()
        else:
            self.prepared.again(self.steps)
        return self.steps, self.prepared

    def _counted(self, result: Result) -> Result:
        device = self.device
        prepared = self.prepared = Preparation(device, self.workload, self.sampling, self.seed, self.watch)
        steps, resolved = prepared.build()
        passes = min(2, accumulation_steps(self.workload, resolved))
        self.watch.phase("counting")
        device.reset_peaks()
        # the first update makes the optimizer's buffers, which later ones find
        Window(device, steps, passes, passes).block(1, refills=0)
        found = [*device.peaks(), *steps.inspect()]
        return msgspec.structs.replace(
            result,
            status="ok",
            software=device.software(self.workload.model),
            resolved=resolved,
            notes={**result.notes, **steps.notes()},
            readings=(*prepared.readings, *found),
        )

    def _window(self, result: Result, steps: Steps, prepared: Preparation) -> Result:
        device, resolved = self.device, prepared.resolved
        assert resolved is not None
        window = Window(device, steps, prepared.passes, accumulation_steps(self.workload, resolved))
        self.window = window
        gauges = meters(device)
        self.watch.phase("timing")
        device.synchronize()
        for gauge in gauges:
            gauge.start()
        began, busy = device.now(), 1.0
        reason: Reason | None = None
        found: list[Reading] = []
        try:
            with no_collection(collect=True):
                while reason is None:
                    reason = self._block(window, prepared, began)
            busy = sum(window.block_time) / (device.now() - began)
        finally:
            # the last to start stops first, so that what stopping takes is in nobody's window
            for gauge in reversed(gauges):
                found += gauge.stop(busy)
        throttle = {reason for gauge in gauges for reason in getattr(gauge, "throttle", ())}
        notes = {**result.notes, **prepared.notes, **steps.notes()}
        finite = steps.finite()
        if self.inspected is None:
            # in one turn only: meanwhile the device cools down before the other side's
            self.watch.phase("reading gradients")
            self.inspected = []
            try:
                self.inspected = steps.inspect()
                notes |= steps.notes()
            except Exception as error:
                if self.world.size > 1:
                    raise
                # the window was sound; what could not be looked into is absent
                notes["inspect"] = failure(error, device)[1]
        found += self.inspected
        if self.world.size > 1:
            self.watch.phase("timing the all-reduce")
            found += communication(device, steps, prepared.passes, prepared.step_time, self.sampling)
        loss = next((r for r in found if r.name == "loss"), None)
        return msgspec.structs.replace(
            result,
            status="ok" if finite and (loss is None or None not in loss.values) else "diverged",
            # asked for again: a factory's file, whose commit counts, is known once it has been imported
            software=device.software(self.workload.model),
            resolved=resolved,
            conditions=msgspec.structs.replace(result.conditions, throttle=tuple(sorted(throttle))),
            stopped_by=reason,
            composed=window.composed,
            notes=notes,
            readings=(*prepared.readings, *found, *self._samples(window)),
        )

    def _block(self, window: Window, prepared: Preparation, began: float) -> Reason | None:
        """Time one block and say why to stop now. A next step that would not fit any more counts as none left."""
        device, sampling = self.device, self.sampling
        cap = sampling.max_time - prepared.spent
        refills = 0 if prepared.step_time > LONG_STEP else 1
        window.block(self.world.agree(block_steps(prepared.step_time, cap - (device.now() - began), refills)), refills)
        estimate = window.estimate()
        prepared.step_time = self.world.agree(median(window.step[-MAX_KEPT_STEPS:]).value)
        elapsed = self.world.agree(device.now() - began)
        left = cap - elapsed
        self.watch.progress(len(window.step), estimate, left)
        fits = left if left > prepared.step_time else 0.0
        if fits and elapsed < max(sampling.turn_time, device.least_window):
            return None
        return self.world.agree(enough(estimate, len(window.step), elapsed, fits, sampling))

    def _cut_short(self, status: Status, message: str | None) -> Result:
        """What there is of a measurement that did not reach its end."""
        window, prepared = self.window, self.prepared
        timed = window is not None and bool(window.step)
        return msgspec.structs.replace(
            self.result,
            status=status,
            message=message,
            resolved=prepared.resolved if prepared else None,
            composed=timed and window is not None and window.composed,
            readings=(
                *(prepared.readings if prepared else ()),
                *(self._samples(window) if timed and window is not None else ()),
            ),
        )

    def _samples(self, window: Window) -> list[Reading]:
        kind = self.device.machine.device
        return window.readings(SOURCES[kind], tail=kind == "cuda")


def kept_once(
    device: Device,
    lock: str | None,
    keep: Keep,
    watch: Watch,
    measured: Callable[[], Result],
    cut_short: Callable[[Status, str | None], Result],
    longest: float = math.inf,
) -> Result:
    """What is ``measured`` while nobody else has the ``lock``, or what there is of it where that is ``cut_short``.

    ``keep`` gets it exactly once.

    Raises:
        NfbenchError: `measured` raised it, or another has had the lock for ``longest`` seconds; nothing is kept.
            `RankFailed`: one of several ranks failed; its row is kept.
        Stop, KeyboardInterrupt: raised again after what was measured has been kept.
    """
    world, failed = device.world, False
    try:
        try:
            with (
                world.on_failure(lambda status, message: keep(cut_short(status, message))),
                only_one(lock, watch, world, longest),
            ):
                result = measured()
        except NfbenchError:
            raise
        except Exception as error:
            failed, result = True, cut_short(*world.blame(*failure(error, device)))
            watch.failed(error, result)
    except (Stop, KeyboardInterrupt):
        result = cut_short(*world.blame_stop())
        keep(result)
        world.end(result)
        raise
    keep(result)
    if failed:
        world.end(result)
    return result


def measure(
    device: Device, workload: StepTime, sampling: Sampling, keep: Keep, *, seed: int = 0, watch: Watch | None = None
) -> Result:
    """Measure ``workload`` once and hand the result to ``keep`` before it is returned; errors as `Measurement.turn`."""
    return Measurement(device, workload, sampling, keep, seed=seed, watch=watch or Watch()).turn()

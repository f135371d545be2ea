"""The clip by itself: implementations in turns A B C C B A …, the gradients put back before each call.

::

    draw → [ reset · wait · stamp · clip · stamp ] … → Result       one for each implementation and turn

The clip may take the device less time than the host takes to queue it. So a device that calls are queued for waits
before each call until the host is ahead, and what the host takes is timed by itself, in calls that nothing else runs
beside. Where a call queues more than a driver's queue holds (1,024 launches on CUDA) the device waits for the host
all the same, as it does in a training step.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from nfbench.analysis.stats import mean_of_logs, median
from nfbench.analysis.store import new_id
from nfbench.devices.base import Clips, Device
from nfbench.errors import NfbenchError
from nfbench.measuring.lock import only_one
from nfbench.measuring.outcome import Keep, Labels, Turn, Watch, begun, failure
from nfbench.measuring.window import SOURCES
from nfbench.records import AgcCost, Reading, Result, Sampling, reading
from nfbench.units import no_collection

TURN = 0.1
LEAST_CALLS, MOST_CALLS = 3, 200
LEAST_TURNS, MOST_TURNS = 4, 64
SETTLING, HOST_CALLS = 3, 5
"""Calls of each turn after which an implementation prepares nothing any more, and then those that time the host."""
AHEAD = 2.0
"""How many times as long as the host takes for a call the device waits before it."""


class ClipCosts:
    """Times several implementations on the gradients of one net, interleaved.

    A turn is at least 0.1 s and three calls of each implementation. Turns end where every implementation's interval
    over them is as narrow as ``sampling.within``, or at ``sampling.max_time`` for each share of clipped units, with
    four turns at least. Every turn's result goes to ``keep`` at once.
    """

    def __init__(
        self, device: Device, sampling: Sampling, keep: Keep, watch: Watch, seed: int, labels: Labels | None = None
    ) -> None:
        self.device, self.sampling, self.keep = device, sampling, keep
        self.watch, self.seed = watch, seed
        self.labels = labels or Labels(session=new_id())
        self.built: tuple[tuple[str, str], Clips] | None = None
        self.other_load: float | None = None

    def run(self, workloads: list[AgcCost]) -> None:
        """Time the workloads, which differ in their implementation alone. One that fails leaves a row.

        Raises:
            NfbenchError: the net cannot be had.
        """
        with only_one(self.device.lock_name(), self.watch, longest=self.sampling.max_time):
            try:
                self._run(workloads)
            except NfbenchError:
                raise
            except Exception as error:
                for workload in workloads:
                    self._fail(workload, error)

    def _run(self, workloads: list[AgcCost]) -> None:
        clips = self._built(workloads[0])
        clips.draw(workloads[0].clipped)
        described = self._first_calls(clips, workloads)
        times: dict[AgcCost, list[float]] = {workload: [] for workload in described}
        if not times:
            return
        self.watch.phase("timing")
        with no_collection(collect=True):
            self._turns(clips, described, times)

    def _turns(self, clips: Clips, described: dict[AgcCost, list[Reading]], times: dict[AgcCost, list[float]]) -> None:
        calls = {workload: self._calls(clips, workload) for workload in times}
        began, turn = self.device.now(), 0
        while not self._enough(times, turn, self.device.now() - began):
            order = list(times) if turn % 2 == 0 else list(reversed(times))
            for workload in order:
                result = self._turn(clips, workload, calls[workload], turn, described[workload])
                self.keep(result)
                times[workload].append(median(result.readings[0].finite).value)
                self.watch.progress(turn + 1, mean_of_logs(times[workload]), self._left(began))
            turn += 1

    def _built(self, workload: AgcCost) -> Clips:
        place = (workload.model, workload.layout)
        if self.built is None or self.built[0] != place:
            self.watch.phase("building")
            self.built = None  # before the next net takes its memory
            self.other_load = self.device.conditions(idle=True).other_load
            self.built = place, self.device.clips(workload, self.seed)
        return self.built[1]

    def _first_calls(self, clips: Clips, workloads: list[AgcCost]) -> dict[AgcCost, list[Reading]]:
        """What each call is, counted on its first calls, which compile; one that fails leaves a row and goes."""
        found = {}
        for workload in workloads:
            try:
                found[workload] = clips.describe(workload)
                self.device.synchronize()
            except NfbenchError:
                raise
            except Exception as error:
                self._fail(workload, error)
        return found

    def _fail(self, workload: AgcCost, error: Exception) -> None:
        status, message = failure(error, self.device)
        result = msgspec.structs.replace(self._frame(workload, 0), status=status, message=message)
        self.watch.failed(error, result)
        self.keep(result)

    def _calls(self, clips: Clips, workload: AgcCost) -> int:
        one = self._times(clips, workload, LEAST_CALLS)[0][-1]
        return max(LEAST_CALLS, min(MOST_CALLS, int(TURN / max(one, 1e-6))))

    def _turn(self, clips: Clips, workload: AgcCost, calls: int, turn: int, described: list[Reading]) -> Result:
        result = self._frame(workload, turn)
        conditions = msgspec.structs.replace(self.device.conditions(), other_load=self.other_load)
        result = msgspec.structs.replace(result, conditions=conditions)
        # the first call of a turn finds the caches as another implementation left them
        times, host = self._times(clips, workload, calls + 1)
        readings = [reading("clip", "s", "step", SOURCES[self.device.machine.device], times[1:])]
        if host:
            readings.append(reading("clip_host", "s", "step", SOURCES["cpu"], host))
        return msgspec.structs.replace(result, status="ok", readings=(*readings, *described))

    def _times(self, clips: Clips, workload: AgcCost, calls: int) -> tuple[list[float], list[float]]:
        """Seconds of each of so many calls, and of the host for each of a few: none where it queues nothing."""
        device, call = self.device, clips.call(workload)
        host = self._host(clips, call) if clips.queued else []
        ahead = AHEAD * median(host).value if host else 0.0
        recorder = device.recorder(2 * calls)
        device.synchronize()
        for _ in range(calls):
            clips.reset()
            clips.wait(ahead)
            recorder.stamp()
            call()
            recorder.stamp()
        device.synchronize()
        times = recorder.times()
        return [after - before for before, after in zip(times[::2], times[1::2], strict=True)], host

    def _host(self, clips: Clips, call: Callable[[], object]) -> list[float]:
        """Seconds that the host takes to queue a call for an idle device, after calls that prepare something."""
        times = []
        for _ in range(SETTLING + HOST_CALLS):
            clips.reset()
            self.device.synchronize()
            began = self.device.now()
            call()
            times.append(self.device.now() - began)
        return times[SETTLING:]

    def _frame(self, workload: AgcCost, turn: int) -> Result:
        asked = Turn(workload=workload, sampling=self.sampling, seed=self.seed, turn=turn, labels=self.labels)
        return begun(self.device, asked)

    def _left(self, began: float) -> float:
        return self.sampling.max_time - (self.device.now() - began)

    def _enough(self, times: dict[AgcCost, list[float]], turns: int, elapsed: float) -> bool:
        if turns < LEAST_TURNS:
            return False
        if elapsed >= self.sampling.max_time or turns >= MOST_TURNS:
            return True
        estimates = [mean_of_logs(values) for values in times.values()]
        return all((e.half_width or 0.0) <= self.sampling.within * e.value for e in estimates)

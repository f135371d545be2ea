"""What touches the machine during a window and files a reading."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import ClassVar, Protocol

import psutil

from nfbench.analysis.metrics import VOIDS
from nfbench.devices import host
from nfbench.devices.base import Device
from nfbench.devices.nvml import Card
from nfbench.records import MAX_KEPT_STEPS, Reading, reading

PERIOD = 0.2
"""Seconds between two samples of clock, temperature and power."""
_LONGEST_CALL = 2.0
LEAST_TIME = 3.0
"""Seconds to which the energy counter, which moves in steps of some 20 to 100 ms, is read to a few per cent."""
LEAST_BUSY = 0.98
"""Share of the window in which the device had timed work: less would bill a pause to the steps."""


class Meter(Protocol):
    """Touches the machine during the window and files readings."""

    def start(self) -> None:
        """Just before the window, the device synchronized."""

    def stop(self, busy: float) -> list[Reading]:
        """Just after it, synchronized; ``busy`` is the share of the window in which steps were being timed."""


def meters(device: Device) -> list[Meter]:
    """The meters for ``device``: energy and clocks where NVML sees its card, others' CPU time and swap on a host."""
    gauges: list[Meter] = [Memory(device)]
    if device.machine.device != "fake":
        gauges += [Others(device.world.processes), Swap()]
    if (card := getattr(device, "card", None)) is not None:
        gauges += [Clocks(card), Energy(card)]
    return gauges


class Memory:
    """The device's peaks between start and stop."""

    def __init__(self, device: Device) -> None:
        self.device = device

    def start(self) -> None:
        self.device.reset_peaks()

    def stop(self, busy: float) -> list[Reading]:
        return self.device.peaks()


class Others:
    """Between start and stop: busy time of the host's cores, stolen time with it, less that of ``processes``: of this
    one, and of those that share its work."""

    def __init__(self, processes: Sequence[int] = ()) -> None:
        self.own = [psutil.Process(process) for process in processes or (os.getpid(),)]
        self.began = (0.0, 0.0, 0.0)

    def start(self) -> None:
        self.began = self._times()

    def stop(self, busy: float) -> list[Reading]:
        used, total, own = (b - a for a, b in zip(self.began, self._times(), strict=True))
        if total <= 0:
            return []
        return [reading("others_cpu", "1", "window", "/proc/stat", [max(0.0, used - own) / total])]

    def _times(self) -> tuple[float, float, float]:
        """Seconds that the cores were busy, all of their seconds, and the processes' own."""
        cores, own = psutil.cpu_times(), [process.cpu_times() for process in self.own]
        # the kernel counts a guest's time in its host's user time too
        total = sum(cores) - getattr(cores, "guest", 0.0) - getattr(cores, "guest_nice", 0.0)
        idle = cores.idle + getattr(cores, "iowait", 0.0)
        return total - idle, total, sum(times.user + times.system for times in own)


class Swap:
    """Files "swapped" (B) at the end of the window: memory that comes back at a disk's pace. Absent where unknown."""

    def start(self) -> None:
        return None

    def stop(self, busy: float) -> list[Reading]:
        size = host.swapped()
        return [] if size is None else [reading("swapped", "B", "window", "/proc/self/status VmSwap", [size])]


class Clocks:
    """Files "sm_clock" (Hz), "temperature" (degC), "power" (W), and "throttled", 1 where heat or the board slowed the
    card down and else 0, one value a sample.

    ``throttle`` holds every reason seen in the last window. Of a window too long to keep every sample, every second
    one is dropped and the period doubled, again and again, so that what is kept covers all of it evenly.
    """

    UNITS: ClassVar = {"sm_clock": "Hz", "temperature": "degC", "power": "W", "throttled": "1"}

    def __init__(self, card: Card, period: float = PERIOD) -> None:
        self.card, self.period = card, period
        self.throttle: set[str] = set()
        self._values: dict[str, list[float]] = {}
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self.throttle, self._values = set(), {name: [] for name in self.UNITS}
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="nfbench clocks", daemon=True)
        self._thread.start()

    def stop(self, busy: float) -> list[Reading]:
        """The readings; a quantity that the card never told has none. Returns even where a call to it hangs."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join(_LONGEST_CALL)
            self._thread = None
        kept = {name: list(values) for name, values in self._values.items() if values}
        return [reading(name, self.UNITS[name], "window", "nvml", values) for name, values in kept.items()]

    def _sample(self) -> None:
        # a thread that outlives its window must not write into the next one's
        stopped, values, throttle, period = self._stopped, self._values, self.throttle, self.period
        ask: dict[str, Callable[[], float | None]] = {
            "sm_clock": self.card.clocks,
            "temperature": self.card.temperature,
            "power": self.card.power,
        }
        while not stopped.wait(period):
            for name, call in ask.items():
                # a card that falls off the bus is the steps' failure to report, not this thread's
                with suppress(Exception):
                    value = call()
                    if value is not None:
                        values[name].append(value)
            with suppress(Exception):
                if (reasons := self.card.throttle()) is not None:
                    throttle.update(reasons)
                    values["throttled"].append(float(not VOIDS.isdisjoint(reasons)))
            if max(map(len, values.values())) >= MAX_KEPT_STEPS:
                period *= 2
                for kept in values.values():
                    del kept[::2]


class Energy:
    """Files "energy" (J), by the card's own counter, and "energy_time" (s), the time between its two readings."""

    def __init__(self, card: Card, clock: Callable[[], float] = time.perf_counter) -> None:
        self.card, self.clock = card, clock
        self._start: tuple[float, float | None] | None = None

    def start(self) -> None:
        self._start = (self.clock(), self.card.energy())

    def stop(self, busy: float) -> list[Reading]:
        """Nothing where the counter is absent or was reset, the window too short or the device idle within it."""
        end, ended = self.clock(), self.card.energy()
        (begin, began), self._start = self._start or (end, None), None
        if began is None or ended is None or ended <= began or end - begin < LEAST_TIME or busy < LEAST_BUSY:
            return []
        return [
            reading("energy", "J", "window", "nvml", [ended - began]),
            reading("energy_time", "s", "window", "nvml", [end - begin]),
        ]

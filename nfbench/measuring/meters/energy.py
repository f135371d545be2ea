"""Energy of the window: the difference of the card's own counter, where the window is long and busy enough.

The counter moves in steps of some 20 to 100 ms, so that 3 s read it to a few per cent; a window in which the device
was not given timed work almost all the time would bill that pause to the steps.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from nfbench.records import Reading, reading

LEAST_TIME = 3.0
LEAST_BUSY = 0.98


class Counts(Protocol):
    """What is asked of a `nfbench.devices.nvml.Card`."""

    def energy(self) -> float | None:
        """J since some moment in the past."""


class Energy:
    """Files "energy" (J) and "energy_time" (s), the time between the counter's two readings."""

    def __init__(self, card: Counts, clock: Callable[[], float] = time.perf_counter) -> None:
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

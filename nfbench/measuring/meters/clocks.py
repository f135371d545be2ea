"""Clock, temperature and power of the card during the window, and what throttled it, seen five times a second."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from nfbench.records import MAX_KEPT_STEPS, Reading, reading

PERIOD = 0.2
_LONGEST_CALL = 2.0


class Tells(Protocol):
    """What is asked of a `nfbench.devices.nvml.Card`; None is a quantity that cannot be read."""

    def clocks(self) -> float | None:
        """Hz."""

    def temperature(self) -> float | None:
        """°C."""

    def power(self) -> float | None:
        """W."""

    def throttle(self) -> tuple[str, ...]:
        """Names of what holds the clocks down now."""


class Clocks:
    """Files "sm_clock" (Hz), "temperature" (degC) and "power" (W), one value a sample.

    ``throttle`` holds every reason seen in the last window. Of a window too long to keep every sample, every second
    one is dropped and the period doubled, again and again, so that what is kept covers all of it evenly.
    """

    def __init__(self, card: Tells, period: float = PERIOD) -> None:
        self.card, self.period = card, period
        self.throttle: set[str] = set()
        self._values: dict[str, list[float]] = {}
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self.throttle, self._values = set(), {"sm_clock": [], "temperature": [], "power": []}
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="nfbench clocks", daemon=True)
        self._thread.start()

    def stop(self, busy: float) -> list[Reading]:
        """The readings; a quantity that the card never told has none. Returns even where a call to it hangs."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join(_LONGEST_CALL)
            self._thread = None
        units = (("sm_clock", "Hz"), ("temperature", "degC"), ("power", "W"))
        kept = {name: list(self._values.get(name, ())) for name, _ in units}
        return [reading(name, unit, "window", "nvml", kept[name]) for name, unit in units if kept[name]]

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
                throttle.update(self.card.throttle())
            if max(map(len, values.values())) >= MAX_KEPT_STEPS:
                period *= 2
                for kept in values.values():
                    del kept[::2]

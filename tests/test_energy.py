from __future__ import annotations

import pytest

from nfbench.measuring.meters.energy import Energy


class Counter:
    """A card whose counter gives these values in turn."""

    def __init__(self, *joules: float | None) -> None:
        self.joules = list(joules)

    def energy(self) -> float | None:
        return self.joules.pop(0)


def run(counter: Counter, seconds: float, busy: float) -> dict[str, tuple[str, tuple[float | None, ...]]]:
    times = iter((10.0, 10.0 + seconds))
    meter = Energy(counter, clock=lambda: next(times))
    meter.start()
    return {r.name: (r.unit, r.values) for r in meter.stop(busy) if (r.scope, r.source) == ("window", "nvml")}


def test_energy_is_the_counters_difference_with_the_time_between_its_readings() -> None:
    assert run(Counter(1000.0, 3100.0), 3.0, 0.98) == {"energy": ("J", (2100.0,)), "energy_time": ("s", (3.0,))}


@pytest.mark.parametrize(
    ("counter", "seconds", "busy"),
    [
        (Counter(1000.0, 3100.0), 2.99, 1.0),
        (Counter(1000.0, 3100.0), 5.0, 0.97),
        (Counter(None, None), 5.0, 1.0),
        (Counter(1000.0, None), 5.0, 1.0),
        (Counter(None, 3100.0), 5.0, 1.0),
        (Counter(3100.0, 1000.0), 5.0, 1.0),
        (Counter(1000.0, 1000.0), 5.0, 1.0),
    ],
    ids=["short", "idle", "absent", "lost", "found", "reset", "still"],
)
def test_energy_is_absent_rather_than_doubtful(counter: Counter, seconds: float, busy: float) -> None:
    assert run(counter, seconds, busy) == {}


def test_a_window_that_never_began_has_no_energy() -> None:
    assert Energy(Counter(5.0), clock=lambda: 1.0).stop(1.0) == []


def test_a_second_window_is_counted_on_its_own() -> None:
    times = iter((0.0, 4.0, 100.0, 105.0))
    meter = Energy(Counter(0.0, 40.0, 1000.0, 1050.0), clock=lambda: next(times))
    found = []
    for _ in range(2):
        meter.start()
        found.append({r.name: r.values[0] for r in meter.stop(1.0)})
    assert found == [{"energy": 40.0, "energy_time": 4.0}, {"energy": 50.0, "energy_time": 5.0}]

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from nfbench.devices import host
from nfbench.measuring import meters
from nfbench.measuring.meters import Clocks, Energy, Others, Swap

PERIOD = 0.001


def test_what_this_process_burns_is_not_counted_as_others() -> None:
    gauge = Others()
    gauge.start()
    end = time.process_time() + 0.2
    while time.process_time() < end:
        pass
    (found,) = gauge.stop(1.0)
    assert found.name == "others_cpu"
    assert 0 <= found.values[0] < 0.9  # type: ignore[operator]


@pytest.mark.parametrize(
    ("status", "values"),
    [
        ("Name:\tprüfung\nVmRSS:\t 500 kB\nVmSwap:\t   12 kB\n".encode("latin-1"), [(12 * 1024,)]),
        (b"VmRSS:\t 500 kB\nVmSwap:\t 0 kB\n", [(0.0,)]),
        (b"VmRSS:\t 500 kB\n", []),
        (None, []),
    ],
)
def test_what_lies_in_swap_is_read_in_bytes_and_absent_where_the_kernel_does_not_tell(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, status: bytes | None, values: list[tuple[float, ...]]
) -> None:
    monkeypatch.setattr(host, "_PROC", tmp_path)
    if status is not None:
        (tmp_path / "self").mkdir()
        (tmp_path / "self" / "status").write_bytes(status)
    gauge = Swap()
    gauge.start()
    found = gauge.stop(1.0)
    assert [r.values for r in found] == values
    assert {(r.name, r.unit) for r in found} <= {("swapped", "B")}


class Counter:
    """A card whose energy counter gives these values in turn."""

    def __init__(self, *joules: float | None) -> None:
        self.joules = list(joules)

    def energy(self) -> float | None:
        return self.joules.pop(0)


def drawn(joules: list[float | None], times: list[float], busy: float = 1.0) -> list[dict[str, float | None]]:
    """What is filed of one window after the other."""
    clock = iter(times)
    meter = Energy(Counter(*joules), clock=lambda: next(clock))
    found = []
    for _ in range(len(times) // 2):
        meter.start()
        readings = meter.stop(busy)
        assert {(r.name, r.unit, r.scope) for r in readings} <= {
            ("energy", "J", "window"),
            ("energy_time", "s", "window"),
        }
        found.append({r.name: r.values[0] for r in readings})
    return found


def test_energy_is_each_windows_difference_of_the_counter_with_the_time_between_its_readings() -> None:
    assert drawn([1000.0, 3100.0], [10.0, 13.0], busy=0.98) == [{"energy": 2100.0, "energy_time": 3.0}]
    assert drawn([0.0, 40.0, 1000.0, 1050.0], [0.0, 4.0, 100.0, 105.0]) == [
        {"energy": 40.0, "energy_time": 4.0},
        {"energy": 50.0, "energy_time": 5.0},
    ]


@pytest.mark.parametrize(
    ("joules", "seconds", "busy"),
    [
        ([1000.0, 3100.0], 2.99, 1.0),
        ([1000.0, 3100.0], 5.0, 0.97),
        ([None, None], 5.0, 1.0),
        ([1000.0, None], 5.0, 1.0),
        ([None, 3100.0], 5.0, 1.0),
        ([3100.0, 1000.0], 5.0, 1.0),
        ([1000.0, 1000.0], 5.0, 1.0),
    ],
    ids=["short", "idle", "absent", "lost", "found", "reset", "still"],
)
def test_energy_is_absent_rather_than_doubtful(joules: list[float | None], seconds: float, busy: float) -> None:
    assert drawn(joules, [0.0, seconds], busy) == [{}]


class Card:
    """Counts how often it was asked; says what throttles it in turn."""

    def __init__(self) -> None:
        self.asked = 0
        self.reasons: tuple[str, ...] = ()

    def clocks(self) -> float | None:
        self.asked += 1
        return 1e9 + self.asked

    def temperature(self) -> float | None:
        return 40.0

    def power(self) -> float | None:
        return None

    def throttle(self) -> tuple[str, ...]:
        return self.reasons


class Broken(Card):
    """A card that fell off the bus."""

    def clocks(self) -> float | None:
        raise RuntimeError("lost")

    def throttle(self) -> tuple[str, ...]:
        raise RuntimeError("lost")


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(PERIOD)


def sampling() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name == "nfbench clocks"]


def test_what_can_be_read_is_a_reading_what_cannot_has_none_and_the_thread_ends_with_the_window() -> None:
    card = Card()
    meter = Clocks(card, PERIOD)
    meter.start()
    (thread,) = sampling()
    assert thread.daemon
    until(lambda: card.asked > 5)
    found = {r.name: r for r in meter.stop(1.0)}
    assert sampling() == []
    assert set(found) == {"sm_clock", "temperature", "throttled"}
    assert {(r.scope, r.source) for r in found.values()} == {("window", "nvml")}
    assert (found["sm_clock"].unit, found["temperature"].unit) == ("Hz", "degC")
    assert found["sm_clock"].values[:3] == (1e9 + 1, 1e9 + 2, 1e9 + 3)


def test_it_samples_at_most_ten_times_a_second_and_a_shorter_window_has_no_reading() -> None:
    assert meters.PERIOD >= 0.1
    meter = Clocks(Card())
    meter.start()
    assert meter.stop(1.0) == []


def test_a_call_that_raises_ends_neither_the_thread_nor_the_other_quantities() -> None:
    meter = Clocks(Broken(), PERIOD)
    meter.start()
    time.sleep(0.05)
    assert len(sampling()) == 1
    assert [r.name for r in meter.stop(1.0)] == ["temperature"]
    assert meter.throttle == set()


def test_a_call_that_hangs_does_not_hang_the_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meters, "_LONGEST_CALL", 0.05)
    entered, release = threading.Event(), threading.Event()

    class Hanging(Card):
        def temperature(self) -> float | None:
            entered.set()
            release.wait(10)
            return 99.0

    meter = Clocks(Hanging(), PERIOD)
    meter.start()
    assert entered.wait(10)
    assert [r.name for r in meter.stop(1.0)] == ["sm_clock"]
    release.set()
    until(lambda: sampling() == [])


def test_throttling_seen_at_any_moment_is_remembered_until_the_next_window() -> None:
    card = Card()
    meter = Clocks(card, PERIOD)
    meter.start()
    for reasons in (("sw_power_cap",), ("hw_slowdown", "hw_power_brake"), ()):
        card.reasons = reasons
        seen = card.asked
        until(lambda seen=seen: card.asked > seen + 2)
    (throttled,) = [r for r in meter.stop(1.0) if r.name == "throttled"]
    assert meter.throttle == {"sw_power_cap", "hw_slowdown", "hw_power_brake"}
    # a share of the samples: its own clocks' power limit slows no card down
    assert throttled.unit == "1" and throttled.values[0] == throttled.values[-1] == 0 and 1 in throttled.values
    meter.start()
    meter.stop(1.0)
    assert meter.throttle == set()


def test_a_long_window_is_covered_evenly_by_what_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meters, "MAX_KEPT_STEPS", 8)
    card = Card()
    meter = Clocks(card, PERIOD)
    meter.start()
    until(lambda: card.asked > 20)
    for found in meter.stop(1.0):
        assert 4 <= len(found.values) <= 8

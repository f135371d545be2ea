from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from nfbench.measuring.meters import clocks
from nfbench.measuring.meters.clocks import Clocks

PERIOD = 0.001


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


def test_what_can_be_read_is_a_reading_and_what_cannot_has_none() -> None:
    card = Card()
    meter = Clocks(card, PERIOD)
    meter.start()
    until(lambda: card.asked > 5)
    found = {r.name: r for r in meter.stop(1.0)}
    assert set(found) == {"sm_clock", "temperature"}
    assert {(r.scope, r.source) for r in found.values()} == {("window", "nvml")}
    assert (found["sm_clock"].unit, found["temperature"].unit) == ("Hz", "degC")
    assert found["sm_clock"].values[:3] == (1e9 + 1, 1e9 + 2, 1e9 + 3)


def test_it_samples_at_most_ten_times_a_second() -> None:
    card = Card()
    meter = Clocks(card)
    meter.start()
    time.sleep(0.5)
    meter.stop(1.0)
    assert 1 <= card.asked <= 5


def test_the_thread_is_gone_after_the_window() -> None:
    meter = Clocks(Card(), PERIOD)
    meter.start()
    assert len(sampling()) == 1
    assert sampling()[0].daemon
    meter.stop(1.0)
    assert sampling() == []


def test_a_call_that_raises_ends_neither_the_thread_nor_the_other_quantities() -> None:
    meter = Clocks(Broken(), PERIOD)
    meter.start()
    time.sleep(0.05)
    assert len(sampling()) == 1
    assert [r.name for r in meter.stop(1.0)] == ["temperature"]
    assert sampling() == []
    assert meter.throttle == set()


def test_a_call_that_hangs_does_not_hang_the_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clocks, "_LONGEST_CALL", 0.05)
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
    meter.stop(1.0)
    assert meter.throttle == {"sw_power_cap", "hw_slowdown", "hw_power_brake"}
    meter.start()
    meter.stop(1.0)
    assert meter.throttle == set()


def test_a_long_window_is_covered_evenly_by_what_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clocks, "MAX_KEPT_STEPS", 8)
    card = Card()
    meter = Clocks(card, PERIOD)
    meter.start()
    until(lambda: card.asked > 20)
    for found in meter.stop(1.0):
        assert 4 <= len(found.values) <= 8


def test_a_window_shorter_than_a_period_has_no_reading() -> None:
    meter = Clocks(Card(), period=60.0)
    meter.start()
    assert meter.stop(1.0) == []


def test_stopping_without_a_start_is_empty() -> None:
    assert Clocks(Card()).stop(1.0) == []

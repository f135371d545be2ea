"""The gate's statistics: what is said how often, at known effects and noise. No clock."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest
from make import once, result, step_times

import nfbench
from nfbench.analysis import gate, stats
from nfbench.analysis.gate import Round
from nfbench.records import Conditions, Reading, Resolved, Result, reading

sys.path.insert(0, str(Path(nfbench.__file__).parent.parent / "benchmarks"))
from gate_simulation import simulate  # type: ignore[import-not-found]

RUNS = 600
MANY = 60


@pytest.fixture
def rng() -> np.random.Generator:
    seed = int(np.random.SeedSequence().generate_state(1)[0])
    print(f"seed {seed}")
    return np.random.default_rng(seed)


def at_most(share: float, runs: int) -> float:
    """The share that ``runs`` with that true rate stay under, but for one test in 100,000."""
    return share + 4.3 * math.sqrt(share * (1 - share) / runs)


@pytest.mark.parametrize("harsh", [0.0, 0.2], ids=["calm", "throttled"])
@pytest.mark.parametrize("spread", [0.005, 0.01, 0.02, 0.03])
def test_at_the_threshold_at_most_5_per_cent_are_called_slower(
    rng: np.random.Generator, spread: float, harsh: float
) -> None:
    assert simulate(rng, 0.03, spread, 1, RUNS, harsh).alarmed <= 0.05
    assert simulate(rng, 0.03, spread, 20, MANY, harsh).alarmed <= at_most(0.05, MANY)


@pytest.mark.parametrize("harsh", [0.0, 0.2], ids=["calm", "throttled"])
@pytest.mark.parametrize("spread", [0.005, 0.01, 0.02, 0.03])
def test_with_no_effect_20_rows_alarm_in_2_per_cent_at_most(
    rng: np.random.Generator, spread: float, harsh: float
) -> None:
    assert simulate(rng, 0.0, spread, 20, MANY, harsh).alarmed <= 0.02


@pytest.mark.parametrize("harsh", [0.0, 0.2], ids=["calm", "throttled"])
@pytest.mark.parametrize("rows", [1, 20])
@pytest.mark.parametrize("spread", [0.005, 0.01])
def test_on_a_quiet_machine_5_per_cent_are_found(
    rng: np.random.Generator, spread: float, rows: int, harsh: float
) -> None:
    runs = 400 if rows == 1 else 25
    assert simulate(rng, 0.0, spread, rows, runs, harsh).same >= 0.90
    assert simulate(rng, 0.05, spread, rows, runs, harsh).slower >= 0.95
    assert simulate(rng, -0.05, spread, rows, runs, harsh).faster >= 0.95


@pytest.mark.parametrize("rows", [1, 20])
def test_5_per_cent_is_hardly_ever_called_the_same_however_noisy(rng: np.random.Generator, rows: int) -> None:
    runs = RUNS if rows == 1 else MANY
    assert simulate(rng, 0.05, 0.03, rows, runs).same <= 0.01


def test_looks_are_fixed_and_nothing_is_said_between_them() -> None:
    tally = gate.tally(0.03, 1)
    for n in range(1, 17):
        # between looks the rounds are far beyond the threshold, at each look one brings the noise back
        tally.add(1.2 if n % 4 else 0.7)
        assert tally.verdict is None or n == 16
    assert tally.verdict == "inconclusive"


def test_equal_rounds_give_an_interval_of_no_width_and_the_verdict_at_the_first_look() -> None:
    for ratio, verdict in ((1.0, "same"), (1.05, "slower"), (0.9, "faster"), (1.0299, "same")):
        tally = gate.tally(0.03, 20)
        for _ in range(4):
            tally.add(ratio)
        assert tally.verdict == verdict
        assert tally.estimate == (ratio, ratio, ratio)


def test_a_row_slower_by_itself_is_not_called_so_among_many() -> None:
    ratios = [1.06, 1.07, 1.075, 1.08]
    assert gate.look(ratios, 0.03, 1)[0] == "slower"
    assert gate.look(ratios, 0.03, 20)[0] == "inconclusive"


def test_too_many_void_rounds_end_a_row_as_inconclusive() -> None:
    tally = gate.tally(0.03, 1)
    for _ in range(gate.MOST_VOID):
        tally.void("hot")
    assert tally.verdict is None
    tally.void("hot")
    assert tally.verdict == "inconclusive"


@pytest.mark.parametrize(("held", "verdict"), [(4, "inconclusive"), (5, "slower")])
def test_clocks_must_differ_in_more_than_half_of_the_void_rounds_to_be_judged(held: int, verdict: str) -> None:
    tally = gate.tally(0.03, 1)
    for number in range(gate.MOST_VOID + 1):
        tally.void("hot", Round(1.20, 1.15) if number < held else None)
    assert tally.verdict == verdict


def test_a_lower_clock_is_told_from_slower_code_in_either_direction() -> None:
    assert Round(1.05, 1.00).clocks_differ(0.03)
    assert Round(0.95, 1.00).clocks_differ(0.03)
    assert not Round(1.05, 1.05).clocks_differ(0.03)
    assert not Round(1.05).clocks_differ(0.03)
    # at the threshold, a thousandth of the clock must not choose the rounds that count
    assert not Round(1.0301, 1.0299).clocks_differ(0.03)
    # from half of the threshold on
    assert Round(1.016, 1.0).clocks_differ(0.03) and not Round(1.014, 1.0).clocks_differ(0.03)
    assert Round(1 / 1.016, 1.0).clocks_differ(0.03) and not Round(1 / 1.014, 1.0).clocks_differ(0.03)


@pytest.mark.parametrize(
    ("ratio", "cycles", "verdict"), [(1.05, 1.0, "inconclusive"), (1.20, 1.15, "slower"), (0.80, 0.85, "faster")]
)
def test_where_clocks_differ_times_and_cycles_must_both_show_it(ratio: float, cycles: float, verdict: str) -> None:
    tally = gate.tally(0.03, 1)
    while tally.verdict is None:
        tally.void("the clock changed, not the code", Round(ratio, cycles))
    assert tally.verdict == verdict


def turn(time: float, clock: float | None = None) -> Result:
    clocks: tuple[Reading, ...] = (reading("sm_clock", "Hz", "window", "nvml", [clock]),) if clock else ()
    return result(readings=(step_times(time, time, time), *clocks), conditions=Conditions())


def test_a_steady_drift_cancels_over_a_b_b_a() -> None:
    drifting = [1.0 * 1.01**n for n in range(4)]
    found = gate.ratio([turn(drifting[0]), turn(drifting[3])], [turn(drifting[1]), turn(drifting[2])])
    assert found is not None and found.ratio == pytest.approx(1.0, abs=1e-12)


def test_cycles_are_time_times_the_mean_clock() -> None:
    found = gate.ratio([turn(1.0, 2e9)], [turn(1.25, 1.6e9)])
    assert found is not None
    assert (found.ratio, found.cycles) == (pytest.approx(1.25), pytest.approx(1.0))


def test_a_side_without_a_rate_gives_no_round() -> None:
    assert gate.ratio([turn(1.0)], [result(readings=(once("loss", 1.0),))]) is None
    assert gate.ratio([], [turn(1.0)]) is None


def test_unpaired_rounds_take_welchs_interval() -> None:
    rng = np.random.default_rng(1)
    base, head = rng.normal(0, 0.01, 6), rng.normal(0.02, 0.03, 4)
    found = gate.unpaired(np.exp(base).tolist(), np.exp(head).tolist(), [], 0.95)
    from scipy.stats import ttest_ind

    expected = ttest_ind(head, base, equal_var=False).confidence_interval(0.95)
    assert found.low is not None and found.high is not None
    assert math.log(found.low) == pytest.approx(expected.low)
    assert math.log(found.high) == pytest.approx(expected.high)


def test_the_noise_between_sessions_widens_an_unpaired_interval() -> None:
    base, head = [1.0, 1.01, 0.99, 1.0], [1.02, 1.03, 1.01]
    narrow = gate.unpaired(base, head, [1.0], 0.95)
    wide = gate.unpaired(base, head, [0.95, 1.0, 1.06], 0.95)
    assert wide.half_width is not None and narrow.half_width is not None
    assert wide.half_width > 3 * narrow.half_width
    assert wide.value == narrow.value


def test_the_noise_between_sessions_is_that_of_one_more_and_of_the_mean_of_those_there_are() -> None:
    from scipy.special import stdtrit

    logs = [-0.02, 0.0, 0.05]
    found = gate.unpaired([1.0, 1.0], [1.1, 1.1], np.exp(logs).tolist(), 0.95)
    assert found.high is not None
    width = stdtrit(2, 0.975) * math.sqrt(np.var(logs, ddof=1) * (1 + 1 / 3))
    assert math.log(found.high) == pytest.approx(math.log(1.1) + width)


def test_one_round_on_a_side_has_no_interval() -> None:
    assert gate.unpaired([1.0], [1.0, 1.1], [], 0.95).low is None
    assert gate.look([1.2], 0.03, 1)[0] == "inconclusive"


def test_settings_that_differ_are_named_with_what_an_older_row_leaves_unsaid() -> None:
    base = Resolved(px=32, micro_batch=8, precision="fp32", layout="nhwc", agc=0.01)
    head = Resolved(px=32, micro_batch=8, precision="fp32", layout="nhwc", standardize="nfbench")
    assert gate.differences(base, head) == ["agc 0.01 → none", "standardize timm → nfbench"]
    assert gate.differences(base, base) == gate.differences(None, head) == []


def test_the_smallest_slowdown_is_found_19_times_of_20(rng: np.random.Generator) -> None:
    noise, rounds = 0.01, 16
    smallest = gate.smallest_slowdown(noise, rounds, 0.03, 1)
    assert smallest is not None and 0.03 < smallest < 0.05
    logs = rng.normal(math.log1p(smallest), noise, (2000, rounds))
    found = [gate.look(np.exp(row).tolist(), 0.03, 1)[0] == "slower" for row in logs]
    assert 0.92 <= np.mean(found) <= 0.98
    assert gate.smallest_slowdown(noise, 3, 0.03, 1) is None


def test_the_looks_together_are_wrong_in_5_per_cent_at_most() -> None:
    assert 1 - gate.confidence() == pytest.approx(0.05 / 3)
    assert 1 - gate.confidence(20) == pytest.approx(0.05 / 60)
    assert stats.mean_of_logs([1.0, 1.1], gate.confidence()).low is not None

from __future__ import annotations

import numpy as np
import pytest

from nfbench.analysis import stats


def test_identical_samples_give_an_interval_of_zero_width() -> None:
    assert stats.median([0.25] * 40) == (0.25, 0.25, 0.25)
    assert stats.mean_of_logs([1.5] * 4).half_width == pytest.approx(0, abs=1e-12)
    assert stats.composed([1.0] * 4, [1.0] * 12, [0.5] * 4, 256) == (256.5, 256.5, 256.5)


def test_fewer_than_six_samples_have_no_interval() -> None:
    assert stats.median([1.0, 2.0, 3.0, 4.0, 5.0]) == (3.0, None, None)
    low, high = stats.median([1.0, 6.0, 3.0, 4.0, 5.0, 2.0])[1:]
    assert (low, high) == (1.0, 6.0)


QUICK, SLOW = [1.0, 1.01, 0.99, 1.0, 1.02] * 4, [1.1, 1.11, 1.09, 1.1, 1.12] * 4
"""Times of two turns of ten passes each."""


def test_two_lists_of_times_are_apart_where_both_turns_of_one_are_slower() -> None:
    assert stats.apart(QUICK, SLOW) and stats.apart(SLOW, QUICK)
    assert not stats.apart(QUICK, QUICK[::-1])
    # medians differ by a per cent, which noise of that size may have made
    assert not stats.apart(QUICK, [1.01 * t for t in QUICK])


@pytest.mark.parametrize("slowed", [slice(None, 10), slice(10, None)])
def test_a_burst_of_other_work_in_one_turn_only_sets_nothing_apart(slowed: slice) -> None:
    burst = list(QUICK)
    burst[slowed] = [2 * t for t in burst[slowed]]
    assert not stats.apart(QUICK, burst) and not stats.apart(burst, QUICK)
    # nor does it where the other turn says the opposite
    assert not stats.apart(SLOW, burst) and not stats.apart(burst, SLOW)


def test_too_few_times_for_an_interval_are_not_apart() -> None:
    for count in (0, 1, 5):
        assert not stats.apart([1.0, 1.1] * 3, [9.0] * count) and not stats.apart([9.0] * count, [1.0, 1.1] * 3)
    assert stats.apart([1.0, 1.1] * 3, [9.0] * 6)


def covers(draw: object, runs: int = 400) -> float:
    rng = np.random.default_rng(7)
    hits = 0
    for _ in range(runs):
        estimate = stats.median(draw(rng))  # type: ignore[operator]
        hits += estimate.low is not None and estimate.low <= 0 <= estimate.high  # type: ignore[operator]
    return hits / runs


def test_the_median_interval_covers_independent_steps() -> None:
    assert covers(lambda rng: rng.normal(size=60)) >= 0.93


def test_the_median_interval_covers_steps_that_hang_together() -> None:
    def drifting(rng: np.random.Generator) -> np.ndarray:
        noise, steps = rng.normal(size=300), np.empty(300)
        steps[0] = noise[0]
        for i in range(1, 300):
            steps[i] = 0.8 * steps[i - 1] + noise[i]
        return steps

    assert covers(drifting) >= 0.88


def test_times_like_the_median_are_neither_above_nor_below_it() -> None:
    # a coarse clock makes many; what is seen from above must be what is seen from below
    times = np.repeat([2.0, 1, 1, 0, 0, 0, 0, 0], 3)
    assert stats.autocorrelation_time(times) == pytest.approx(stats.autocorrelation_time(2 - times))
    times = np.repeat([2.0, 1, 0, 1, 2, 1, 1, 0], 3)
    assert stats.autocorrelation_time(times) == pytest.approx(stats.autocorrelation_time(2 - times))


def test_the_rank_of_steps_that_hang_together_is_rounded_to_the_wider_interval() -> None:
    noise, times = np.random.default_rng(0).normal(size=60), np.zeros(60)
    for i in range(1, 60):
        times[i] = 0.6 * times[i - 1] + noise[i]
    # 18 effective samples, whose interval is from the 5th: of 60 the 16.67th
    assert int(60 / stats.autocorrelation_time(times)) == 18 and stats._sign_rank(18, 0.025) == 5
    ordered, estimate = np.sort(times), stats.median(times.tolist())
    assert (estimate.low, estimate.high) == (ordered[15], ordered[-16])


def test_a_draw_of_passes_has_as_many_as_were_timed() -> None:
    # blocks of two of five: a draw is two of them and the first value of a third, so that the highest mean is 2/5
    estimate = stats.composed([1.0], [0.0, 0.0, 0.0, 0.0, 1.0], [1.0], 2)
    assert estimate == pytest.approx((2.2, 2.0, 2.4))


def test_two_kinds_are_said_from_three_hundredths_apart() -> None:
    near, far = ([1.0] * 20 + [1 + share] * 19 + [1.2] for share in (0.025, 0.045))
    assert stats.kinds(np.array(near)) is None
    found = stats.kinds(np.array(far))
    assert found is not None and found.count_low == 20


def test_a_composed_step_is_first_plus_the_later_passes_plus_the_tail() -> None:
    estimate = stats.composed([3.0, 3.0], [1.0, 1.0, 1.0, 1.0, 2.0, 3.0], [0.25, 0.25], 11)
    assert estimate.value == 3.0 + 10 * 1.5 + 0.25
    assert estimate.low is not None and estimate.low < estimate.value < estimate.high  # type: ignore[operator]


def test_a_composed_step_of_few_passes_has_no_interval() -> None:
    assert stats.composed([3.0], [1.0], [0.5], 4) == (6.5, None, None)


def test_paired_rounds_take_student_t() -> None:
    estimate = stats.mean_of_logs([1.0, np.e])
    # n = 2: t = 12.706, sd of (0, 1) = 0.7071, so the half-width of the logarithm is 12.706 / 2
    assert estimate.value == pytest.approx(np.exp(0.5))
    assert np.log(estimate.high) - 0.5 == pytest.approx(12.706 / 2, rel=1e-4)


def test_the_median_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no values"):
        stats.median([])


def test_the_ranks_of_the_sign_test_are_those_of_the_binomial_distribution() -> None:
    from scipy.special import bdtr

    for tail in (0.025, 0.05 / 6, 0.0005):
        for n in (*range(1, 60), 99, 100, 500, 999, 1000):
            tails = bdtr(np.arange(n // 2 + 1), n, 0.5)
            assert stats._sign_rank(n, tail) == np.count_nonzero(tails <= tail), (n, tail)

from __future__ import annotations

from nfbench.analysis.stats import Estimate
from nfbench.measuring import stopping
from nfbench.records import Sampling

TIGHT, LOOSE = Estimate(1.0, 0.995, 1.005), Estimate(1.0, 0.9, 1.1)


def test_a_block_holds_half_a_second_and_ten_steps() -> None:
    assert stopping.block_steps(0.001, left=60) == 500
    assert stopping.block_steps(0.2, left=60) == 10


def test_a_block_is_cut_to_what_is_left() -> None:
    assert stopping.block_steps(5, left=60) == 10
    assert stopping.block_steps(10, left=60) == 5
    assert stopping.block_steps(10, left=1) == 1


def test_a_window_stops_when_narrow_enough_but_not_before_its_least_steps() -> None:
    sampling = Sampling(within=0.01, min_steps=10)
    assert stopping.enough(TIGHT, 9, 1, 59, sampling) is None
    assert stopping.enough(TIGHT, 10, 1, 59, sampling) == "within"
    assert stopping.enough(LOOSE, 500, 1, 59, sampling) is None
    assert stopping.enough(Estimate(1.0), 5000, 1, 59, sampling) is None


def test_the_cap_goes_before_everything() -> None:
    assert stopping.enough(LOOSE, 1, 60, 0, Sampling(min_steps=10)) == "max_time"


def test_a_turn_ends_by_its_time_whatever_the_interval() -> None:
    sampling = Sampling(turn_time=3)
    assert stopping.enough(TIGHT, 50, 2.9, 50, sampling) is None
    assert stopping.enough(LOOSE, 50, 3.0, 50, sampling) == "turn_time"


def test_a_block_without_refill_takes_all_that_is_left() -> None:
    assert stopping.block_steps(6, left=20, refills=0) == 3


def test_short_updates_share_what_is_left_between_first_and_later_passes() -> None:
    assert stopping.short_passes(6, left=36, accumulation_steps=256) == 6
    assert stopping.short_passes(0.1, left=50, accumulation_steps=256) == 31
    assert stopping.short_passes(0.1, left=50, accumulation_steps=8) == 8
    assert stopping.short_passes(100, left=1, accumulation_steps=256) == 2


def test_a_warm_up_is_steady_when_its_thirds_agree() -> None:
    assert not stopping.steady([1.0] * 8)
    assert stopping.steady([5, 4, 3, *[1.0] * 6])
    assert not stopping.steady([3, 3, 3, 2, 2, 2, 1, 1, 1])


def test_a_step_of_one_pass_is_never_composed() -> None:
    assert stopping.whole_steps_fit(1000, 1, 60)
    assert stopping.whole_steps_fit(12, 256, 60)
    assert not stopping.whole_steps_fit(13, 256, 60)

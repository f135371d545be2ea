from __future__ import annotations

import math

import pytest
from all_sorts import composed, in_turns, on_ranks, timed
from make import H200, once, step_times
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from nfbench.analysis.metrics import step_time
from nfbench.analysis.rows import rows
from nfbench.records import Conditions, Reading, Result, StepTime, reading
from nfbench.showing.kinds import Drawing, Held
from nfbench.showing.steps_plot import steps

TIMES = (0.10, 0.11, 0.12, 0.13, 0.14, 0.15)


def drawn(*results: Result) -> Drawing:
    return steps(Held(rows(results)[0], results))


def only(*readings: Reading, **fields: object) -> Figure:
    ((_, figure),) = drawn(timed(readings=readings, **fields)).figures
    return figure


def per(scope: str, name: str, *values: float, unit: str = "s", rank: int = 0) -> Reading:
    return reading(name, unit, scope, "t", values, rank=rank)  # type: ignore[arg-type]


def line(axes: Axes, label: str) -> Line2D | None:
    return next((one for one in axes.lines if str(one.get_label()).startswith(label)), None)


def points(axes: Axes, label: str) -> list[tuple[float, float]]:
    found = line(axes, label)
    return [] if found is None else [(float(x), round(float(y), 6)) for x, y in zip(*found.get_data(), strict=True)]


def panels(figure: Figure) -> list[Axes]:
    return [axes for axes in figure.axes if axes.axison]


def said(figure: Figure) -> str:
    return figure.get_supxlabel().replace("\n", " ")


def test_every_step_is_a_point_and_no_panel_stands_for_what_was_not_read() -> None:
    figure = only(step_times(*TIMES))
    (axes,) = panels(figure)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("step of the window", "time of a step, ms")
    assert points(axes, "step") == [(i, pytest.approx(1e3 * t)) for i, t in enumerate(TIMES, 1)]
    assert points(axes, "first step of a block (not in the median)") == points(axes, "warm-up") == []


def test_the_median_is_a_line_over_a_band_from_end_to_end_of_its_interval() -> None:
    result = timed(readings=(step_times(*(TIMES * 5)),))
    expected = step_time(result)
    assert expected is not None and expected.low is not None and expected.high is not None
    axes = panels(only(*result.readings))[0]
    (flat,) = [one for one in axes.lines if len(set(one.get_ydata())) == 1]
    assert flat.get_ydata()[0] == pytest.approx(1e3 * expected.value)
    (band,) = axes.collections
    ends = [y for _, y in band.get_paths()[0].vertices]
    assert (min(ends), max(ends)) == pytest.approx((1e3 * expected.low, 1e3 * expected.high))
    short = only(step_times(0.1, 0.2))
    assert not panels(short)[0].collections and "The median has no interval" in said(short)


def test_blocks_are_found_again_and_the_first_step_of_each_stands_apart() -> None:
    figure = only(
        step_times(*TIMES),
        per("step", "refill", 0.2, 0.3),
        per("block", "block_time", 0.2 + sum(TIMES[:2]), 0.3 + sum(TIMES[2:])),
    )
    axes = panels(figure)[0]
    assert points(axes, "first step of a block (not in the median)") == [(1, 200), (4, 300)]
    assert [x for x, _ in points(axes, "step")] == [2, 3, 5, 6, 7, 8]
    assert [one.get_xdata()[0] for one in axes.lines if list(one.get_ydata()) == [0, 1]] == [3.5]


def test_blocks_that_do_not_add_up_are_not_guessed() -> None:
    figure = only(step_times(*TIMES), per("step", "refill", 0.2, 0.3), per("block", "block_time", 0.5, 7.0))
    axes = panels(figure)[0]
    assert [x for x, _ in points(axes, "step")] == [1, 2, 3, 4, 5, 6]
    assert points(axes, "first step of a block (not in the median)") == []
    assert "The first step of each block is not drawn" in said(figure)


def test_the_warm_up_stands_before_the_first_step_in_grey_and_may_be_cut() -> None:
    figure = only(step_times(*TIMES), per("step", "warm_up", 0.3, 0.2, 0.1))
    axes = panels(figure)[0]
    assert points(axes, "warm-up") == [(-2, 300), (-1, 200), (0, 100)]
    assert axes.get_xlim()[0] < -2
    grey = line(axes, "warm-up")
    assert grey is not None and len({str(grey.get_color())[i : i + 2] for i in (1, 3, 5)}) == 1
    long = only(step_times(*TIMES), per("step", "warm_up", *(0.1,) * 50))
    assert len(points(panels(long)[0], "warm-up")) == 20
    assert "Of 50 steps of the warm-up the last 20 are drawn." in said(long)


def test_of_many_steps_those_that_were_kept_stand_at_their_own_numbers() -> None:
    figure = only(once("steps", 2500.0), step_times(*(0.1,) * 834))
    places = [x for x, _ in points(panels(figure)[0], "step")]
    assert places[:3] == [1, 4, 7] and places[-1] == 2500
    assert "Of 2,500 steps one in 3 was kept." in said(figure)


def test_samples_have_panels_of_their_own_below_evenly_over_the_window() -> None:
    figure = only(
        step_times(*TIMES),
        per("window", "sm_clock", 1.9e9, 1.8e9, 1.7e9, unit="Hz"),
        per("window", "temperature", 50.0, math.nan, unit="degC"),
    )
    _, clock, temperature = panels(figure)
    assert [axes.get_ylabel() for axes in (clock, temperature)] == ["SM clock,\nMHz", "temperature,\n°C"]
    assert points(clock, "sm_clock") == [(1.5, 1900), (3.5, 1800), (5.5, 1700)]
    assert points(temperature, "temperature") == [(3.5, 50)]
    assert "Of SM clock and temperature there are samples" in said(figure)
    assert [axes.get_xlabel() for axes in panels(figure)] == ["", "", "step of the window"]


def test_each_rank_has_samples_of_its_own_and_the_slowest_one_the_steps() -> None:
    ranked = (
        *on_ranks(2).readings,
        per("window", "power", 500.0, unit="W"),
        per("window", "power", 400.0, unit="W", rank=1),
    )
    ((_, figure),) = drawn(on_ranks(2, readings=ranked)).figures
    axes, power = panels(figure)
    assert [y for _, y in points(axes, "step")] == [pytest.approx(110)] * 20
    assert sorted(float(one.get_ydata()[0]) for one in power.lines) == [400, 500]
    assert "2 devices, the slowest of each step" in figure.get_suptitle()


def test_a_throttled_run_says_why() -> None:
    why = Conditions(throttle=("sw_power_cap", "hw_slowdown"))
    assert "The card was throttled: sw_power_cap, hw_slowdown." in said(only(step_times(*TIMES), conditions=why))
    assert "throttled" not in said(only(step_times(*TIMES)))


def test_a_composed_step_is_drawn_as_its_passes_and_says_so() -> None:
    ((_, figure),) = drawn(composed()).figures
    axes = panels(figure)[0]
    assert axes.get_ylabel() == "time of a pass, ms" and axes.get_xlabel() == "pass of the window"
    assert points(axes, "pass") == [(i, pytest.approx(30)) for i in range(1, 13)]
    assert [one.get_xdata()[0] for one in axes.lines if list(one.get_ydata()) == [0, 1]] == [4.5, 8.5]
    assert "Composed: the step is put together from updates of 4 passes" in said(figure)


def test_a_step_far_longer_than_the_others_makes_the_axis_logarithmic() -> None:
    assert panels(only(step_times(*TIMES, 2.0)))[0].get_yscale() == "log"
    assert panels(only(step_times(*TIMES)))[0].get_yscale() == "linear"


def test_the_newest_of_each_row_are_drawn_first_and_two_of_all() -> None:
    pair = in_turns("resnet101", "nf-resnet101", (0.1, 0.2), rounds=1, turns=5)
    cut = timed("resnet26", second=50, status="interrupted", readings=(step_times(0.1, 0.1),))
    failed = timed("resnet50", status="error", readings=())
    drawing = drawn(*pair, cut, failed, timed("nfnet-f0", second=30, machine=H200))
    assert [row["model"] for row in drawing.drawn] == ["nfnet-f0", "nf-resnet101"] and len(drawing.missing) == 11
    assert {m.why for m in drawing.missing} == {
        "error, no step time",
        "a figure is of one run; the 2 newest are drawn: use --where or fewer files",
    }
    labels = [figure.get_label() for _, figure in drawing.figures]
    assert labels == ["nfnet-f0-1", "nf-resnet101-2"]


@pytest.mark.parametrize("value", [1e20, 1e-300])
def test_what_no_axis_can_hold_is_left_out(value: float) -> None:
    drawing = drawn(timed(readings=(step_times(*(value,) * 5),)))
    assert not drawing.figures and [m.why for m in drawing.missing] == ["no step time that an axis can hold"]


def test_only_the_results_of_the_rows_that_are_shown_are_drawn() -> None:
    results = [timed("resnet50"), timed("nfnet-f0"), timed("nfnet-f0", workload=StepTime(model="nfnet-f0", batch=8))]
    shown = [row for row in rows(results)[0] if row["batch"] == 8]
    drawing = steps(Held(shown, results))
    assert [(row["model"], row["batch"]) for row in drawing.drawn] == [("nfnet-f0", 8)] and not drawing.missing

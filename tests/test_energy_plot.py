from __future__ import annotations

import pytest
from all_sorts import timed
from make import H200, once
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nfbench.analysis.rows import rows
from nfbench.records import Result, StepTime
from nfbench.showing.energy_plot import energy
from nfbench.showing.kinds import Drawing, Held
from nfbench.showing.style import look


def drawn(*results: Result) -> Drawing:
    return energy(Held(rows(results)[0], results))


def only(*results: Result) -> Figure:
    ((_, figure),) = drawn(*results).figures
    return figure


def points(axes: Axes) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for line in axes.lines for x, y in zip(*line.get_data(), strict=True)]


# 25 W, so that a step of 0.32 s and 32 images takes 0.25 J an image
QUICK, SLOW, THIRD = timed("resnet50", 0.32), timed("nfnet-f0", 0.64), timed("nf-resnet50", 0.96)


def test_a_dot_a_net_stands_at_its_joules_an_image() -> None:
    figure = only(QUICK, SLOW)
    axes = figure.axes[0]
    assert axes.get_xlabel() == "energy, J an image"
    assert [label.get_text() for label in axes.get_yticklabels()] == ["nfnet-f0", "resnet50"]
    assert points(axes) == [pytest.approx((0.5, 0)), pytest.approx((0.25, 1))]
    assert axes.get_xlim()[0] == 0
    assert [(line.get_color(), line.get_marker()) for line in axes.lines] == [look("nfnet"), look("resnet")]


def test_from_three_rows_on_throughput_is_set_against_energy_with_names() -> None:
    assert len([axes for axes in only(QUICK, SLOW).axes if axes.axison]) == 1
    axes = only(QUICK, SLOW, THIRD).axes[1]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("energy, J an image", "throughput, images/s")
    assert sorted(points(axes)) == [
        pytest.approx((0.25, 100)), pytest.approx((0.5, 50)), pytest.approx((0.75, 100 / 3))
    ]  # fmt: skip
    assert {text.get_text() for text in axes.texts} == {"resnet50", "nfnet-f0", "nf-resnet50"}


def test_many_points_bear_numbers_that_the_names_begin_with() -> None:
    figure = only(*(timed(workload=StepTime(model="resnet50", batch=b)) for b in range(1, 13)))
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert [name.split("  ")[0] for name in names] == [str(i) for i in range(1, 13)]
    assert {text.get_text() for text in figure.axes[1].texts} == {str(i) for i in range(1, 13)}


def test_values_that_lie_far_apart_have_a_logarithmic_axis() -> None:
    axes = only(timed("resnet50", 0.001), timed("nfnet-f0", 1.0)).axes[0]
    assert axes.get_xscale() == "log" and axes.get_xlim()[0] > 0


def test_what_has_no_energy_is_left_out_and_has_no_dot_at_zero() -> None:
    readings = tuple(r for r in QUICK.readings if not r.name.startswith("energy"))
    nothing = timed("nfnet-f1", readings=readings)
    huge = timed("nfnet-f2", readings=(*readings, once("energy", 1e20, "J"), once("energy_time", 1.0, "s")))
    drawing = drawn(QUICK, nothing, huge, timed("nfnet-f3", status="timeout", readings=()))
    assert [(m.row["model"], m.why) for m in drawing.missing] == [
        ("nfnet-f1", "no energy reading"),
        ("nfnet-f2", "an energy or throughput that no axis can hold"),
        ("nfnet-f3", "timeout, no step time"),
    ]
    assert len(points(drawing.figures[0][1].axes[0])) == len(drawing.drawn) == 1


def test_machines_have_figures_of_their_own_and_room_for_so_many() -> None:
    many = [timed(workload=StepTime(model="resnet50", batch=b)) for b in range(1, 31)]
    drawing = drawn(*many, timed(machine=H200))
    assert [machine for machine, _ in drawing.figures] == ["A CPU", "NVIDIA H200"]
    assert len(drawing.drawn) == 25
    assert [m.why for m in drawing.missing] == ["a figure has room for 24 rows: draw fewer at once, with --where"] * 6

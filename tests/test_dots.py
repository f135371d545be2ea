"""What rows below each other mean: dots of times, costs, layouts and ratios, and bars of phases, ranks and energy."""

from __future__ import annotations

import pytest
from all_sorts import composed, in_turns, on_ranks, phases, timed
from figure_cases import axes_of, drawn, foot, legend, marked, only, points, texts, ticks, why
from make import H200, once, result, step_times
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.transforms import Bbox
from sweep_cases import GIB, layout_results, norm_results

from nfbench import units
from nfbench.analysis.rows import rows
from nfbench.catalog import published
from nfbench.records import StepTime, reading
from nfbench.showing.figures.style import look
from nfbench.showing.shown_rows import ratios


def test_every_measured_model_is_a_point_at_its_step_time_and_throughput_with_its_interval() -> None:
    rounds = [result("resnet50", (t,) * 10, round=i) for i, t in enumerate((0.1, 0.11, 0.12, 0.11))]
    nets = [result("nf-resnet50", (0.12,) * 10), *rounds]
    axes = axes_of("step-time", *nets)
    nf, bn = rows(nets)[0]
    assert [(ticks(axes)[i], x) for i, (x, _) in enumerate(points(axes))] == [
        ("nf-resnet50", pytest.approx(120.0)), ("resnet50", pytest.approx(1e3 * bn["step_time"]))
    ]  # fmt: skip
    assert axes.get_xlabel() == "step time, ms" and axes.get_xlim()[0] == 0
    assert [(line.get_color(), line.get_marker()) for line in marked(axes)] == [look("nf-resnet"), look("resnet")]
    *_, bar = [line for line in axes.lines if line.get_marker() == "None"]
    assert list(bar.get_xdata()) == pytest.approx([1e3 * bn["step_time_low"], 1e3 * bn["step_time_high"]])
    speeds = [x for x, _ in points(axes_of("throughput", *nets))]
    assert speeds == pytest.approx([32 / nf["step_time"], 32 / bn["step_time"]])
    far = axes_of("step-time", result(times=(0.001,) * 9), result("nfnet-f0", times=(1.0,) * 9))
    assert far.get_xscale() == "log" and far.get_xlim()[0] > 0


def at(axes: Axes, of: Axes) -> dict[str, float]:
    """Where the points of ``of`` stand, by the names beside the y axis of ``axes``."""
    names = dict(zip(axes.get_yticks(), ticks(axes), strict=True))
    return {names[y]: x for x, y in points(of)}


def test_norms_of_a_net_stand_together_with_its_counterpart_and_twin() -> None:
    figure = only("norm-cost", *norm_results())
    time, memory = figure.axes
    assert ticks(time) == [
        *("nfnet-f0", "nfnet-f0, no norm", "bn-nfnet-f0, batch norm"),
        *("nf-resnet50", "nf-resnet50, no norm"),
        *("resnet50, batch norm", "resnet50, frozen norm", "resnet50, group norm"),
    ]
    assert at(time, time)["resnet50, group norm"] == pytest.approx(0.1326 / 64)
    assert len(points(time)) == 5 and texts(time) == ["out of memory"]
    assert at(time, memory)["resnet50, batch norm"] == 9 * GIB / 64
    assert {"no norm", "batch norm", "group norm", "frozen norm"} == set(legend(figure))


def test_layouts_precisions_and_compile_modes_are_dots_below_their_model() -> None:
    figure = only("layouts", *layout_results())
    axes = figure.axes[0]
    assert len(points(axes)) == 16 and ticks(axes)[0] == "nfnet-f0" and ticks(axes)[9] == "resnet50"
    assert points(axes)[0][0] == pytest.approx(1.4 * 0.204) and ticks(axes)[1] == "nchw, bf16"
    assert "nhwc, bf16, compile max-autotune" in ticks(axes)
    assert legend(figure) == ["nchw, bf16", "nchw, fp32", "nhwc, bf16", "nhwc, fp32"]


def test_a_ratio_is_a_dot_with_its_interval_and_the_reported_ones_stand_hollow_in_its_row() -> None:
    pair = in_turns("nfnet-f1", "efficientnet-b7", (0.1, 0.5), machine=H200)
    (ratio, *_) = ratios(pair, everything=False)
    figure = only("speedup", *pair)
    axes = figure.axes[0]
    ((x, y),) = points(axes)
    assert x == ratio.speedup.value
    bars = [line for line in axes.lines if list(line.get_ydata()) == [y, y]]
    assert [list(bar.get_xdata()) for bar in bars] == [[ratio.speedup.low, ratio.speedup.high]]
    known = published.ratios("nfnet-f1", "efficientnet-b7")
    hollow = [line for line in marked(axes) if line.get_markerfacecolor() == "white"]
    assert [line.get_xdata()[0] for line in hollow] == [r.value for r in known]
    assert {line.get_ydata()[0] for line in hollow} == {y} and len({line.get_marker() for line in hollow}) == len(known)
    assert axes.get_xscale() == "log" and axes.get_xlim()[0] < 1 < max(r.value for r in known) < axes.get_xlim()[1]
    assert axes.get_xlabel() == "times as fast as the second net (1: equally fast)"
    assert ticks(axes) == ["nfnet-f1\nagainst efficientnet-b7", "both 224 px, nhwc, fp32,\nbatch 32"]
    assert texts(axes) == [units.interval(*ratio.speedup)] and "±" in texts(axes)[0]
    sources = {text.removeprefix("reported: ").replace(",", "") for text in legend(figure)[1:]}
    assert sources == {r.source.replace(",", "") for r in known}
    assert "Reported: on the devices and at the settings of the source" in foot(figure)


def bars(axes: Axes) -> dict[tuple[int, str], Bbox]:
    """The bar of each row, from 0, and phase."""
    boxes = {
        (str(phase.get_label()).removeprefix("_"), path.get_extents().y0): path.get_extents()
        for phase in axes.collections
        if isinstance(phase, PolyCollection)
        for path in phase.get_paths()
    }
    rows = sorted({y for _, y in boxes})
    return {(rows.index(y), phase): box for (phase, y), box in boxes.items()}


def test_bars_are_milliseconds_and_shares_of_the_step_and_joules_of_an_image() -> None:
    figure = only("phases", timed("resnet50", 0.1), timed("nfnet-f0", 0.3))
    times, shares, energy = figure.axes
    assert [axes.get_xlabel() for axes in figure.axes] == [
        "time of the phases, ms", "share of the step, %", "energy, J per image"
    ]  # fmt: skip
    assert ticks(times) == ["nfnet-f0", "resnet50"] and texts(times) == ["300 ms", "100 ms"]
    for axes in (times, shares):
        end = 0.0
        for phase, width in {"forward": 30, "backward": 50, "clip": 4, "update": 10, "rest": 6}.items():
            box = bars(axes)[1, phase]
            assert (box.x0, box.width) == (pytest.approx(end), pytest.approx(width))
            end += width
    assert bars(times)[0, "forward"].width == pytest.approx(90)
    # 25 W
    assert [patch.get_width() for patch in energy.patches] == pytest.approx([0.3 * 25 / 32, 0.1 * 25 / 32])  # type: ignore[attr-defined]
    assert legend(figure) == ["forward", "backward", "clip (AGC)", "update", "rest of the step"]
    assert {"30", "50", "10", "clip 4.0 %"} == set(texts(shares))


def test_shares_are_of_the_step_and_not_of_the_sum_of_the_phases() -> None:
    # medians of their own: together they take longer than the step
    average = reading("average", "s", "step", "t", [0.026] * 20)
    axes = only("phases", timed(readings=(step_times(*(0.1,) * 20), *phases(), average))).axes[1]
    assert bars(axes)[0, "forward"].width == pytest.approx(30) and (0, "rest") not in bars(axes)
    assert sum(box.width for box in bars(axes).values()) == pytest.approx(120) and axes.get_xlim()[1] > 120
    passes = bars(axes_of("phases", composed()))
    assert passes[0, "forward"].width == pytest.approx(80) and passes[0, "clip"].width == pytest.approx(1)


def test_a_step_that_several_devices_share_has_a_bar_a_rank_below_it() -> None:
    ranks = on_ranks(3)
    spans = [reading("forward", "s", "step", "t", [0.02 * (1 + rank)] * 20, rank=rank) for rank in range(3)]
    rounds = [on_ranks(3, readings=(*ranks.readings, *spans), round=i) for i in range(2)]
    times = axes_of("phases", *rounds, timed("nf-resnet50"), on_ranks(3, round=2, status="error", readings=()))
    assert ticks(times) == ["nf-resnet50", "resnet50", "rank 0", "rank 1", "rank 2"]
    assert texts(times)[1:] == ["120 ms", "100 ms (80.0 ms by itself)", "110 ms (88.0 ms by itself)",
                                "120 ms (96.0 ms by itself)"]  # fmt: skip
    assert [bars(times)[place, "forward"].width for place in (2, 3, 4)] == pytest.approx([20, 40, 60])
    assert bars(times)[4, "rest"].width == pytest.approx(60)
    many = [on_ranks(8, workload=StepTime(model="resnet50", batch=8 * b, world_size=8)) for b in range(1, 9)]
    made = drawn("phases", *many)
    assert made.notes == ["no room for the ranks of 8 rows: draw fewer at once, with --where"] and len(made.drawn) == 8


def test_what_has_no_phase_no_energy_or_no_time_is_left_out_and_none_has_a_bar_at_zero() -> None:
    graph = timed("resnet26", readings=(step_times(0.1, 0.1),))
    unread = tuple(r for r in timed().readings if not r.name.startswith("energy"))
    only_energy = (step_times(0.1, 0.1), once("energy", 50.0, "J"), once("energy_time", 2.0, "s"))
    failed = timed("resnet101", status="out_of_memory", readings=())
    made = drawn("phases", graph, failed, timed(readings=unread), timed("nfnet-f0", readings=only_energy))
    assert why(made) == {"no time of a phase, as under a CUDA graph, and no energy", "out of memory, no step time"}
    ((_, figure),) = made.figures
    assert len(figure.axes[2].patches) == 1 and len({row for row, _ in bars(figure.axes[0])}) == 2
    assert "A white bar is of a step without timed phases" in foot(figure)

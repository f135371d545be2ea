"""What the figures of dots mean: step times, throughputs, costs, layouts and ratios of nets."""

from __future__ import annotations

import pytest
from all_sorts import in_turns
from figure_cases import axes_of, foot, legend, marked, only, points, texts, ticks
from make import H200, result
from sweep_cases import GIB, layout_results, norm_results

from nfbench import units
from nfbench.analysis.rows import rows
from nfbench.catalog import published
from nfbench.showing.figures.style import look
from nfbench.showing.shown_rows import ratios

NETS = [result(model, times=(time,) * 10) for model, time in (("nf-resnet50", 0.12), ("resnet50", 0.1))]
F1 = in_turns("nfnet-f1", "efficientnet-b7", (0.1, 0.5), machine=H200)


def test_every_measured_model_is_a_point_at_its_step_time_and_throughput() -> None:
    axes = axes_of("step-time", *NETS)
    assert [(ticks(axes)[round(y)], x) for x, y in points(axes)] == [
        ("nf-resnet50", pytest.approx(120.0)), ("resnet50", pytest.approx(100.0))
    ]  # fmt: skip
    assert axes.get_xlabel() == "step time, ms" and axes.get_xlim()[0] == 0
    assert [(line.get_color(), line.get_marker()) for line in marked(axes)] == [look("nf-resnet"), look("resnet")]
    figure = only("throughput", *NETS)
    assert figure.get_suptitle() == "A CPU: measured throughput"
    assert [x for x, _ in points(figure.axes[0])] == pytest.approx([32 / 0.12, 320.0])
    far = axes_of("step-time", result(times=(0.001,) * 9), result("nfnet-f0", times=(1.0,) * 9))
    assert far.get_xscale() == "log" and far.get_xlim()[0] > 0


def test_the_interval_is_drawn_from_end_to_end() -> None:
    rounds = [result(times=(t,) * 10, round=i) for i, t in enumerate((0.1, 0.11, 0.12, 0.11))]
    ((row,), _) = rows(rounds)
    (bar,) = [line for line in axes_of("step-time", *rounds).lines if line.get_marker() == "None"]
    assert list(bar.get_xdata()) == pytest.approx([1e3 * row["step_time_low"], 1e3 * row["step_time_high"]])


def test_norms_of_a_net_stand_together_with_its_counterpart_and_twin() -> None:
    figure = only("norm-cost", *norm_results())
    time, memory = figure.axes
    assert ticks(time) == [
        *("nfnet-f0", "nfnet-f0, no norm", "bn-nfnet-f0, batch norm"),
        *("nf-resnet50", "nf-resnet50, no norm"),
        *("resnet50, batch norm", "resnet50, frozen norm", "resnet50, group norm"),
    ]
    places = {ticks(time)[round(y)]: x for x, y in points(time)}
    assert places["resnet50, group norm"] == pytest.approx(0.1326 / 64)
    assert len(places) == 5 and texts(time) == ["out of memory"]
    assert {ticks(time)[round(y)]: x for x, y in points(memory)}["resnet50, batch norm"] == 9 * GIB / 64
    assert {"no norm", "batch norm", "group norm", "frozen norm"} == set(legend(figure))


def test_layouts_precisions_and_compile_modes_are_dots_below_their_model() -> None:
    figure = only("layouts", *layout_results())
    axes = figure.axes[0]
    assert len(points(axes)) == 16 and ticks(axes)[0] == "nfnet-f0" and ticks(axes)[9] == "resnet50"
    places = {ticks(axes)[round(y)]: x for x, y in points(axes) if y < 9}
    assert places["nchw, fp32"] == pytest.approx(2 * 1.4 * 0.204) and "nhwc, bf16, compile max-autotune" in places
    assert legend(figure) == ["nchw, bf16", "nchw, fp32", "nhwc, bf16", "nhwc, fp32"]


def test_a_ratio_is_a_dot_with_its_interval_and_the_reported_ones_stand_hollow_in_its_row() -> None:
    (ratio, *_) = ratios(F1, everything=False)
    figure = only("speedup", *F1)
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

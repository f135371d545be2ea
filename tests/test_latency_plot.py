from __future__ import annotations

import msgspec
import pytest
from make import CPU, H200, accuracy
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from sweep_cases import latency_results, run, step

from nfbench.analysis import accuracy as training
from nfbench.analysis.rows import rows
from nfbench.catalog import published
from nfbench.records import Result
from nfbench.showing import reported_latency
from nfbench.showing.kinds import Drawing, Held
from nfbench.showing.latency_plot import accuracy_vs_latency
from nfbench.showing.style import REPORTED, STYLE, look


def drawn(*results: Result) -> Drawing:
    with rc_context(STYLE):
        return accuracy_vs_latency(Held(rows(results)[0], results, training.rows(results)[0]))


def only(*results: Result) -> Figure:
    ((_, figure),) = drawn(*results).figures
    return figure


def evaluated(model: str, top1: float, px: int = 224, batch: int = 32, seconds: float = 0.1) -> tuple[Result, Result]:
    """Published weights that were evaluated on ImageNet, and a step of that net."""
    asked = {"epochs": 0, "weights": "published", "dataset": "imagenet"}
    return accuracy(model, (top1,), px=px, test_px=px, run=asked, machine=H200), step(model, batch, seconds)


def hollow(axes: Axes) -> list[Line2D]:
    return [line for line in axes.lines if line.get_markerfacecolor() == "white"]


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for axes in figure.axes if (box := axes.get_legend()) for text in box.get_texts()]


def points(lines: list[Line2D]) -> set[tuple[float, float]]:
    found = {(float(x), float(y)) for line in lines for x, y in zip(*line.get_data(), strict=True)}
    return {(round(x, 5), round(y, 3)) for x, y in found}


IMAGENET = [*evaluated("nfnet-f0", 0.83, 256, seconds=0.3), *evaluated("resnet50", 0.78)]


def test_on_imagenet_what_the_paper_reports_stands_hollow_and_faint_behind_what_was_measured() -> None:
    figure = only(*IMAGENET)
    axes = figure.axes[0]
    measured = [line for line in axes.lines if line not in hollow(axes)]
    assert points(measured) == {(0.306, 83.0), (0.102, 78.0)}
    assert (0.0733, 83.6) in points(hollow(axes))
    assert published.table3("nfnet-f0").tpuv3_step_ms == 73.3  # type: ignore[union-attr]
    assert all(line.get_color() == REPORTED for line in hollow(axes))
    assert max(line.get_zorder() for line in hollow(axes)) < min(line.get_zorder() for line in measured)
    assert {"measured: nfnet", "measured: resnet", "reported: nfnet, TPUv3", "reported: resnet, TPUv3"} <= set(
        legend(figure)
    )
    foot = figure.get_supxlabel().replace("\n", " ")
    assert f"Grey and hollow: reported, {published.TABLE3}: TPUv3, bf16, batch 32 a device" in foot
    assert axes.get_xlabel() == "time of a training step, batch 32, measured and reported"
    assert axes.get_ylabel() == "ImageNet top-1, %"


def on_a_gpu(results: list[Result]) -> list[Result]:
    return [msgspec.structs.replace(r, machine=H200) for r in results]


@pytest.mark.parametrize(
    "results",
    [latency_results(), [*evaluated("resnet50", 0.78, batch=64), *evaluated("resnet101", 0.8, batch=64)]],
    ids=["another data set", "another batch"],
)
def test_where_reports_do_not_compare_they_have_a_panel_of_their_own(results: list[Result]) -> None:
    # a CPU's figure stands beside nothing that was reported
    on_a_cpu = [msgspec.structs.replace(r, machine=CPU) for r in results]
    assert len(only(*on_a_cpu).axes) == 2
    figure = only(*on_a_gpu(results))
    main, _, beside, _ = figure.axes
    assert hollow(main) == [] and len(hollow(beside)) == len(beside.lines) == len(reported_latency.families())
    assert beside.get_title(loc="left") == f"ImageNet, reported: not measured here. {published.TABLE3}"
    assert beside.get_xlabel() == "reported time of a training step, TPUv3, batch 32 a device"
    assert beside.get_ylim() != main.get_ylim() and not main.get_shared_y_axes().joined(main, beside)
    assert main.get_ylabel() == "measured top-1, %"


def test_every_reported_net_with_a_time_is_a_point_and_the_papers_families_are_told_apart_without_colour() -> None:
    beside = only(*on_a_gpu(latency_results())).axes[2]
    told = [row for row in published.rows("table3.csv") if row["tpuv3_step_ms"] and row["top1"]]
    wanted = {(round(float(row["tpuv3_step_ms"]) / 1e3, 5), float(row["top1"])) for row in told}
    assert points(hollow(beside)) == wanted
    assert len({line.get_marker() for line in beside.lines}) == len(beside.lines)
    assert {"F0", "F5 SAM", "B7"} <= {text.get_text() for text in beside.texts}


def test_families_are_lines_with_their_looks_and_intervals_both_ways() -> None:
    axes = only(*latency_results()).axes[0]
    assert {(line.get_color(), line.get_marker()) for line in axes.lines} == {
        look(family) for family in ("nfnet", "nf-resnet", "resnet", "efficientnet")
    }
    rowed = {row["model"]: row for row in training.rows(latency_results())[0]}
    bars = [segment for bars in axes.collections for segment in bars.get_segments()]  # type: ignore[attr-defined]
    ends = {(round(low[1], 6), round(high[1], 6)) for low, high in bars if low[0] == high[0]}
    assert ends == {(round(100 * r["top1_low"], 6), round(100 * r["top1_high"], 6)) for r in rowed.values()}
    low, high = axes.get_ylim()
    assert all(low <= bar[0][1] and bar[1][1] <= high for bar in bars)


def test_every_run_is_drawn_or_left_out_once_and_steps_of_other_nets_are_counted() -> None:
    results = [
        *latency_results(),
        step("resnet50", 32, 0.1),
        step("resnet50", 64, 0.1),
        run("tiny-nfnet", 32),
        run("tiny-nfnet", 64, "none", None),
        run("timm:untimed", 64),
        accuracy("tiny-resnet", (float("nan"),), agc=None, run={"dataset": "fashion-mnist"}),
    ]
    made = drawn(*results)
    assert len(made.drawn) + len(made.missing) == len(training.rows(results)[0])
    assert [row["model"] for row in made.drawn if row["model"] == "tiny-nfnet"] == ["tiny-nfnet"]
    assert sorted(m.why for m in made.missing) == [
        "another run of that net is drawn",
        "diverged, no top-1",
        "no step time of it on that machine; nfbench step-time measures one",
        "no top-1",
    ]
    assert made.notes == ["2 rows of steps: no training run of these nets"]


def test_seeds_that_diverged_of_a_run_that_is_drawn_are_a_note() -> None:
    steps = [step(name, 64, 0.1, px=32, machine=CPU) for name in ("tiny-nf-resnet", "tiny-nfnet")]
    made = drawn(*steps, run(), run(top1=None, seed=1), run("tiny-nfnet"))
    assert len(made.drawn) == 2 and made.missing == []
    (note,) = made.notes
    assert note.endswith("1 of 2 seeds not in the mean (1 ok, 1 diverged, the first at update 26)")


def test_more_nets_than_a_figure_has_room_for_are_left_out() -> None:
    nets = [f"timm:net{i:02}" for i in range(30)]
    made = drawn(*(r for net in nets for r in (run(net, 64, "none"), step(net, 64, 0.1, px=32, machine=CPU))))
    assert (len(made.drawn), len(made.missing)) == (24, 6)
    why = "there is room for 12 figures of 24 nets: draw fewer at once, with --where"
    assert {m.why for m in made.missing} == {why}


def test_a_figure_is_of_one_precision_and_of_steps_that_no_other_device_shares() -> None:
    two = {"world_size": 8}
    results = [
        *IMAGENET,
        *evaluated("nf-resnet50", 0.79),
        step("nfnet-f0", 32, 0.01, px=224, asked=two, micro_batch=4, backend="nccl"),
        *evaluated("resnet101", 0.80)[:1],
        step("resnet101", 32, 0.01, precision="fp32"),
        *evaluated("resnet152", 0.81)[:1],
        step("resnet152", 32, 0.01, asked=two, micro_batch=4, backend="nccl"),
        step("resnet50", 32, 0.001, asked={"compile": "max-autotune"}),
        *evaluated("nf-resnet101", 0.80)[:1],
        step("nf-resnet101", 32, 0.02, layout="nchw"),
        step("nf-resnet101", 32, 0.03, asked={"optimizer": "recipe"}),
    ]
    made = drawn(*results)
    assert {(m.row["model"], m.why) for m in made.missing} == {
        ("resnet101", "timed with fp32, not with bf16 as most"),
        ("resnet152", "its steps were timed on several devices together only"),
    }
    assert made.notes == ["2 rows of steps: several devices share the step"]
    ((_, figure),) = made.figures
    axes = figure.axes[0]
    measured = [line for line in axes.lines if line not in hollow(axes)]
    assert {x for x, _ in points(measured)} == {0.306, 0.102, 0.0204}
    foot = figure.get_supxlabel().replace("\n", " ")
    assert "timed steps at batch 32, bf16, not compiled, without data" in foot
    assert "Layouts: nhwc 3 ×, nchw 1 ×." in foot


def test_nets_that_were_each_timed_in_another_way_do_not_make_a_figure() -> None:
    other = step("resnet101", 32, 0.1, asked={"compile": "default"})
    made = drawn(*evaluated("resnet50", 0.78), evaluated("resnet101", 0.8)[0], other)
    assert made.figures == [] and made.drawn == []
    assert {m.why for m in made.missing} == {"one net only at one precision, compile mode and optimizer; it takes two"}

"""What the figures along a run mean: every step of it, every epoch of each seed, and a workload over softwares."""

from __future__ import annotations

import math

import pytest
from all_sorts import OLDER, composed, in_turns, on_ranks, timed
from figure_cases import axes_of, drawn, foot, legend, only, texts, why
from make import CPU, H200, accuracy, each_epoch, once, result, step_times
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nfbench.analysis.metrics import step_time
from nfbench.records import Conditions, Reading, Resolved, Result, Software, reading
from nfbench.showing.figures.timelines import ticks

TIMES = (0.10, 0.11, 0.12, 0.13, 0.14, 0.15)
APART = "first step of a block (not in the median)"


def of(*readings: Reading, **fields: object) -> Figure:
    return only("steps", timed(readings=readings, **fields))


def per(scope: str, name: str, *values: float, rank: int = 0) -> Reading:
    return reading(name, "s", scope, "t", values, rank=rank)  # type: ignore[arg-type]


def labelled(axes: Axes, label: str) -> list[tuple[float, float]]:
    lines = [one for one in axes.lines if str(one.get_label()).startswith(label)]
    return [(float(x), round(float(y), 6)) for line in lines for x, y in zip(*line.get_data(), strict=True)]


def test_every_step_is_a_point_and_the_median_a_line_over_the_band_of_its_interval() -> None:
    ran = timed(readings=(step_times(*(TIMES * 5)),))
    expected = step_time(ran)
    assert expected is not None and expected.low is not None and expected.high is not None
    (axes,) = of(*ran.readings).axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("step of the window", "time of a step, ms")
    assert labelled(axes, "step") == [(i, pytest.approx(1e3 * t)) for i, t in enumerate(TIMES * 5, 1)]
    (flat,) = [one for one in axes.lines if len(set(one.get_ydata())) == 1]
    assert flat.get_ydata()[0] == pytest.approx(1e3 * expected.value)
    (band,) = axes.collections
    ends = [y for _, y in band.get_paths()[0].vertices]
    assert (min(ends), max(ends)) == pytest.approx((1e3 * expected.low, 1e3 * expected.high))
    short = of(step_times(0.1, 0.2))
    assert not short.axes[0].collections and "The median has no interval" in foot(short)
    assert of(step_times(*TIMES, 2.0)).axes[0].get_yscale() == "log"


def test_blocks_are_found_again_and_never_guessed_and_the_warm_up_stands_before_them() -> None:
    refills = per("step", "refill", 0.2, 0.3)
    blocks = per("block", "block_time", 0.2 + sum(TIMES[:2]), 0.3 + sum(TIMES[2:]))
    (axes,) = of(step_times(*TIMES), refills, blocks, per("step", "warm_up", 0.3, 0.2, 0.1)).axes
    assert labelled(axes, APART) == [(1, 200), (4, 300)]
    assert [x for x, _ in labelled(axes, "step")] == [2, 3, 5, 6, 7, 8] and begins(axes) == [3.5]
    assert labelled(axes, "warm-up") == [(-2, 300), (-1, 200), (0, 100)] and axes.get_xlim()[0] < -2
    unknown = per("block", "block_time", 0.5, 7.0)
    figure = of(step_times(*TIMES), refills, unknown, per("step", "warm_up", *(0.1,) * 50))
    assert labelled(figure.axes[0], APART) == [] and len(labelled(figure.axes[0], "step")) == 6
    assert "The first step of each block is not drawn" in foot(figure)
    assert len(labelled(figure.axes[0], "warm-up")) == 20 and "Of 50 steps of the warm-up the last 20" in foot(figure)


def begins(axes: Axes) -> list[float]:
    """Where dashed lines stand."""
    return [float(line.get_xdata()[0]) for line in axes.lines if list(line.get_ydata()) == [0, 1]]


def test_of_several_ranks_the_slowest_counts_and_a_composed_step_is_drawn_as_its_passes() -> None:
    figure = only("steps", on_ranks(2, conditions=Conditions(throttle=("sw_power_cap", "hw_slowdown"))))
    assert [y for _, y in labelled(figure.axes[0], "step")] == [pytest.approx(110)] * 20
    assert "2 devices, the slowest of each step" in figure.get_suptitle().replace("\n", " ")
    assert "The card was throttled: sw_power_cap, hw_slowdown." in foot(figure)
    figure = only("steps", composed())
    (axes,) = figure.axes
    assert axes.get_ylabel() == "time of a pass, ms" and axes.get_xlabel() == "pass of the window"
    assert labelled(axes, "pass") == [(i, pytest.approx(30)) for i in range(1, 13)] and begins(axes) == [4.5, 8.5]
    assert "Composed: the step is put together from updates of 4 passes" in foot(figure)


def test_the_newest_of_each_row_are_drawn_first_and_two_of_all() -> None:
    pair = in_turns("resnet101", "nf-resnet101", (0.1, 0.2), rounds=1, turns=5)
    cut = timed("resnet26", second=50, status="interrupted", readings=(step_times(0.1, 0.1),))
    failed = timed("resnet50", status="error", readings=())
    made = drawn("steps", *pair, cut, failed, timed("nfnet-f0", second=30, machine=H200))
    assert [row["model"] for row in made.drawn] == ["nfnet-f0", "nf-resnet101"] and len(made.missing) == 11
    room = "there is room for 2 figures of one run each, the newest: draw fewer at once, with --where"
    assert why(made) == {"error, no step time", room}


# training curves

LOSS = (each_epoch("train_loss", 2.0, 1.0, 0.5),)


def curves(axes: Axes, begin: str) -> list[list[tuple[float, float]]]:
    lines = [one for one in axes.lines if str(one.get_label()).startswith(f"_{begin}") and len(one.get_xdata())]
    return [[(float(x), round(float(y), 6)) for x, y in zip(*line.get_data(), strict=True)] for line in lines]


def diverged(update: float, top1: tuple[float, ...] = (), model: str = "tiny-nfnet", seed: int = 0) -> Result:
    """A run of 3 epochs of 20 updates that diverged at one of them."""
    more = (once("diverged_at", update),)
    return accuracy(model, top1, seed, run={"epochs": 3}, status="diverged", more=more)


def test_each_seed_is_a_thin_line_and_their_mean_a_thick_one_with_gaps_and_no_zeros() -> None:
    figure = only("training-curves", accuracy(top1=(0.5, 0.7, 0.9)), accuracy(top1=(0.6, 0.8, 1.0), seed=1))
    (axes,) = figure.axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("epoch", "measured top-1 on digits, %")
    assert curves(axes, "seed") == [[(1, 50), (2, 70), (3, 90)], [(1, 60), (2, 80), (3, 100)]]
    assert curves(axes, "top1") == [[(1, 55), (2, 75), (3, 95)]]
    widths = {str(line.get_label())[:5]: line.get_linewidth() for line in axes.lines}
    assert widths["_top1"] > 2 * widths["_seed"]
    assert {"mean of the seeds", "a seed"} <= set(legend(figure))
    assert curves(axes_of("training-curves", accuracy(top1=(0.5, math.nan, 0.9))), "seed") == [[(1, 50), (3, 90)]]


def test_the_loss_has_a_panel_where_it_was_read_and_one_run_presses_no_other_flat() -> None:
    top, loss = only("training-curves", accuracy(more=LOSS)).axes
    assert loss.get_ylabel() == "training loss" and loss.get_xlabel() == "epoch" and not top.get_xlabel()
    assert curves(loss, "train_loss") == [[(1, 2), (2, 1), (3, 0.5)]] and loss.get_yscale() == "linear"
    gone = (each_epoch("train_loss", 500.0), once("diverged_at", 7.0))
    lost = accuracy("tiny-resnet", (0.1,), status="diverged", more=gone, run={"epochs": 3})
    figure = only("training-curves", accuracy(more=LOSS), lost)
    assert 2 < figure.axes[1].get_ylim()[1] < 5
    assert foot(figure) == "Beyond the axis of the loss: up to 500, of runs that diverged or failed."


def test_a_run_that_diverged_ends_in_a_cross_at_its_update_and_is_in_no_mean() -> None:
    # 1000 images in batches of 50 are 20 updates an epoch
    early = diverged(5.0, model="tiny-resnet")
    made = drawn("training-curves", accuracy(), accuracy(seed=1), diverged(30.0, (0.4, 0.1), seed=2), early)
    axes = made.figures[0][1].axes[0]
    (late, (x, y)) = [(one.get_xdata()[0], one.get_ydata()[0]) for one in axes.lines if one.get_marker() == "x"]
    assert late == pytest.approx((1.5, 10)) and curves(axes, "seed 2") == [[(1, 40), (1.5, 10)]]
    assert x == 0.25 > axes.get_xlim()[0] and axes.get_ylim()[0] < y < 50, "before an epoch ended: at the bottom"
    assert set(texts(axes)) == {"update 30", "update 5"} and "diverged" in legend(made.figures[0][1])
    assert curves(axes, "top1") == [[(1, 50), (2, 80), (3, 90)]]
    (note,) = made.notes
    assert note.startswith("tiny-nfnet, batch 50") and "1 of 3 seeds not in the mean" in note


def test_what_is_no_curve_or_has_no_room_is_left_out_with_the_reason() -> None:
    made = drawn(
        "training-curves",
        accuracy("tiny-efficientnet", (), run={"epochs": 0, "weights": "published"}),
        accuracy("tiny-nf-resnet-s", (), run={"epochs": 3}, status="timeout"),
        accuracy("tiny-resnet-s", (math.nan, 2.0, -1.0)),
        diverged(1e300, model="tiny-resnet"),
        accuracy(top1=(0.2, 0.3, 0.4)),
        accuracy(start="2026-02-01T00:00:00.000Z"),
        accuracy(software=OLDER, start="2025-01-01T00:00:00.000Z"),
    )
    assert [(m.row["model"], m.why) for m in made.missing] == [
        ("tiny-efficientnet", "evaluated only"),
        ("tiny-nf-resnet-s", "timeout, no top-1 of an epoch"),
        ("tiny-resnet-s", "no top-1 of an epoch"),
        ("tiny-resnet", "diverged, no top-1 of an epoch"),
        ("tiny-nfnet", "another run of that seed is shown"),
    ]
    nets = [accuracy(run={"batch": 10 + b}) for b in range(15)]
    made = drawn("training-curves", *nets, *(accuracy("tiny-resnet", seed=seed) for seed in range(30)))
    assert len(made.drawn) == 24 + 11 and len(made.missing) == 10


# history

STEADY = tuple(0.1 + 0.0001 * (i % 5) for i in range(30))


def software(number: int, **fields: object) -> Software:
    given = {"nfbench": "0.1.0", "torch": "2.15.0", "commit": f"{number:07x}fff", "dirty": False}
    return Software(**(given | fields))  # type: ignore[arg-type]


def at(number: int, model: str = "resnet50", scale: float = 1.0, **fields: object) -> Result:
    given = {"software": software(number), "start": f"2026-01-01T{number // 60:02}:{number % 60:02}:00.000Z"}
    return result(model, tuple(scale * t for t in STEADY), **(given | fields))


def lines(axes: Axes) -> list[list[tuple[float, float]]]:
    return [[(float(x), float(y)) for x, y in zip(*line.get_data(), strict=True)] for line in axes.lines]


def test_each_workload_has_a_panel_with_a_point_for_each_software_in_the_order_of_its_first_result() -> None:
    nets = (("resnet50", 1), ("nf-resnet50", 2))
    numbers = (7, 3, 1)
    found = [at(i, model, k * (1 + i / 10), software=software(numbers[i])) for i in range(3) for model, k in nets]
    figure = only("history", *found, at(5, software=software(7), round=1))
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["nf-resnet50", "resnet50"]
    for axes, k in zip(figure.axes, (2, 1), strict=True):
        assert lines(axes) == [[(i, pytest.approx(k * 100.2 * (1 + i / 10), rel=0.06)) for i in range(3)]]
        assert axes.get_ylabel() == "step time, ms"
    assert [text.get_text() for text in figure.axes[1].get_xticklabels()] == ["0000007", "0000003", "0000001"]
    assert "only `nfbench check` decides" in foot(figure)


def test_points_that_differ_in_what_an_auto_became_are_not_joined() -> None:
    def became(**fields: object) -> Resolved:
        return Resolved(**({"px": 224, "micro_batch": 32, "precision": "fp32", "layout": "nhwc"} | fields))  # type: ignore[arg-type]

    axes = axes_of("history", *(at(i, resolved=became(layout="nhwc" if i < 2 else "nchw")) for i in range(4)))
    assert [[x for x, _ in line] for line in lines(axes)] == [[0, 1], [2, 3]]
    box = axes.get_legend()
    assert box is not None and [text.get_text() for text in box.get_texts()] == ["resnet50, nhwc", "resnet50, nchw"]
    assert len({(line.get_marker(), line.get_linestyle()) for line in axes.lines}) == 2, "told apart without colour"
    made = drawn("history", *(at(i, resolved=became(threads=i)) for i in range(8)))
    assert [m.row["threads"] for m in made.missing] == [6, 7] and len(made.drawn) == 6


def test_machines_are_never_joined_and_workloads_with_most_softwares_stay() -> None:
    made = drawn("history", *(at(i, scale=k, machine=m) for i in range(2) for m, k in ((CPU, 1), (H200, 2))))
    assert [machine for machine, _ in made.figures] == ["A CPU", "NVIDIA H200"]
    models = [f"net{i:02}" for i in range(14)]
    made = drawn("history", *(at(i, model) for i in range(3) for model in models if i < 2 or model >= "net02"))
    assert [axes.get_title(loc="left") for axes in made.figures[0][1].axes] == models[2:]
    assert [m.row["model"] for m in made.missing] == ["net00"] * 2 + ["net01"] * 2 and len(made.drawn) == 36
    failed = drawn("history", at(0), at(1), at(2, status="out_of_memory", readings=(), resolved=None))
    assert why(failed) == {"out of memory, no step time"} and len(failed.drawn) == 2


def test_labels_tell_what_differs_from_the_neighbour() -> None:
    softwares = [
        software(0),
        software(1, dirty=True),
        software(1, torch="2.16.0"),
        software(2, torch="2.16.0", timm="1.0.31"),
        software(2, nfbench="0.2.0", torch="2.16.0", timm="1.0.31", commit=None),
    ]
    axes = axes_of("history", *(at(i, software=s) for i, s in enumerate(softwares)))
    names = ["0000000", "0000001+", "0000001, torch 2.16.0", "0000002, timm 1.0.31", "nfbench 0.2.0"]
    assert [text.get_text() for text in axes.get_xticklabels()] == names
    assert axes.get_xlabel().replace("\n", " ").endswith("; at first nfbench 0.1.0, torch 2.15.0, timm none")
    assert (ticks(softwares, 4.0).rotation, ticks(softwares, 12.0).rotation) == (90, 0)
    assert len(ticks([software(i) for i in range(200)], 4.0).labels) < 40, "not all are named"

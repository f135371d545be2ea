from __future__ import annotations

import math

import pytest
from all_sorts import OLDER
from make import H200, accuracy, each_epoch, once
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nfbench.analysis.accuracy import rows
from nfbench.records import Result
from nfbench.showing.kinds import Drawing, Held
from nfbench.showing.style import COLOURS, look
from nfbench.showing.training_plots import training_curves

LOSS = (each_epoch("train_loss", 2.0, 1.0, 0.5),)


def drawn(*results: Result) -> Drawing:
    return training_curves(Held([], results, rows(results)[0]))


def only(*results: Result) -> Figure:
    ((_, figure),) = drawn(*results).figures
    return figure


def curves(axes: Axes, begin: str) -> dict[str, list[tuple[float, float]]]:
    return {
        str(line.get_label()).removeprefix(f"_{begin}").strip(): [
            (float(x), round(float(y), 6)) for x, y in zip(*line.get_data(), strict=True)
        ]
        for line in axes.lines
        if str(line.get_label()).startswith(f"_{begin}")
    }


def crosses(axes: Axes) -> list[tuple[float, float]]:
    return [(float(one.get_xdata()[0]), float(one.get_ydata()[0])) for one in axes.lines if one.get_marker() == "x"]


def panels(figure: Figure) -> list[Axes]:
    return [axes for axes in figure.axes if axes.axison]


def entries(figure: Figure) -> list[str]:
    return [text.get_text() for axes in figure.axes if (box := axes.get_legend()) for text in box.get_texts()]


def diverged(update: float, top1: tuple[float, ...] = (), model: str = "tiny-nfnet", **fields: object) -> Result:
    """A run of 3 epochs of 20 updates that diverged at one of them."""
    more = {"run": {"epochs": 3}, "status": "diverged", "more": (once("diverged_at", update),)} | fields
    return accuracy(model, top1, **more)  # type: ignore[arg-type]


def test_each_seed_is_a_thin_line_and_their_mean_a_thick_one() -> None:
    figure = only(accuracy(top1=(0.5, 0.7, 0.9)), accuracy(top1=(0.6, 0.8, 1.0), seed=1))
    (axes,) = panels(figure)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("epoch", "measured top-1 on digits, %")
    seeds, means = curves(axes, "seed"), curves(axes, "top1")
    assert list(seeds.values()) == [[(1, 50), (2, 70), (3, 90)], [(1, 60), (2, 80), (3, 100)]]
    assert list(means.values()) == [[(1, 55), (2, 75), (3, 95)]]
    widths = {str(line.get_label())[:5]: line.get_linewidth() for line in axes.lines}
    assert widths["_top1"[:5]] > 2 * widths["_seed"]
    assert {"mean of the seeds", "a seed"} <= set(entries(figure))
    assert "a seed" not in entries(only(accuracy()))


def test_the_loss_has_a_panel_where_it_was_read() -> None:
    top, loss = panels(only(accuracy(more=LOSS)))
    assert loss.get_ylabel() == "training loss" and loss.get_xlabel() == "epoch" and not top.get_xlabel()
    assert list(curves(loss, "train_loss").values()) == [[(1, 2), (2, 1), (3, 0.5)]]
    assert loss.get_yscale() == "linear"
    far = (each_epoch("train_loss", 60.0, 2.0, 1.0),)
    assert panels(only(accuracy(more=far)))[1].get_yscale() == "log"


def test_averaged_weights_are_dashed_and_have_their_entry_only_where_they_were_read() -> None:
    figure = only(accuracy(more=(each_epoch("ema_top1", 0.1, 0.4, 0.8),)))
    (dashed,) = [line for line in figure.axes[0].lines if line.get_linestyle() == "--"]
    assert [round(float(y)) for y in dashed.get_ydata()] == [10, 40, 80]
    assert "averaged weights (EMA)" in entries(figure) and "averaged weights (EMA)" not in entries(only(accuracy()))


def test_the_loss_of_a_run_that_diverged_presses_no_other_flat_and_is_said() -> None:
    gone = (each_epoch("train_loss", 500.0), once("diverged_at", 7.0))
    figure = only(accuracy(more=LOSS), accuracy("tiny-resnet", (0.1,), status="diverged", more=gone, run={"epochs": 3}))
    loss = panels(figure)[1]
    assert loss.get_yscale() == "linear" and 2 < loss.get_ylim()[1] < 5
    assert figure.get_supxlabel() == "Beyond the axis of the loss: up to 500, of runs that diverged or failed."


def test_a_run_that_diverged_ends_in_a_cross_at_its_update_with_the_number() -> None:
    # 1000 images in batches of 50 are 20 updates an epoch
    figure = only(accuracy(), diverged(30.0, (0.4, 0.1), seed=1))
    axes = figure.axes[0]
    assert crosses(axes) == [pytest.approx((1.5, 10))]
    assert curves(axes, "seed 1")["tiny-nfnet"] == [(1, 40), (1.5, 10)]
    assert [text.get_text() for text in axes.texts] == ["update 30"]
    assert "diverged" in entries(figure)


def test_a_run_that_diverged_before_an_epoch_ended_has_its_cross_at_the_bottom() -> None:
    axes = only(accuracy(), diverged(5.0, model="tiny-resnet")).axes[0]
    ((x, y),) = crosses(axes)
    assert x == 0.25 and axes.get_ylim()[0] < y < 50
    assert axes.get_xlim()[0] < 0.25


def test_only_runs_that_are_ok_are_in_the_mean_and_the_others_are_told() -> None:
    drawing = drawn(accuracy(), accuracy(seed=1), diverged(30.0, (0.4, 0.1), seed=2))
    assert drawing.notes == ["1 of 3 seeds of tiny-nfnet on A CPU, digits, is not in the mean"]
    assert list(curves(drawing.figures[0][1].axes[0], "top1").values()) == [[(1, 50), (2, 80), (3, 90)]]
    assert len(drawing.drawn) == 3
    assert drawn(diverged(30.0, (0.4, 0.1))).notes == []


def test_nets_are_told_apart_by_marker_too_and_the_first_of_a_family_has_its_colour() -> None:
    nets = ("tiny-nfnet", "tiny-nfnet-s", "tiny-resnet", "tiny-resnet-s")
    axes = only(*(accuracy(model) for model in nets)).axes[0]
    means = [line for line in axes.lines if str(line.get_label()).startswith("_top1")]
    assert len({line.get_marker() for line in means}) == len({line.get_color() for line in means}) == 4
    assert (means[0].get_color(), means[0].get_marker()) == look("nfnet")
    assert {line.get_color() for line in means} <= set(COLOURS)
    assert all(line.get_markerfacecolor() == line.get_color() for line in means)


def test_runs_of_a_net_that_differ_in_a_setting_are_nets_of_their_own_and_say_it() -> None:
    figure = only(accuracy(), accuracy(agc=0.16), accuracy(run={"batch": 25}), accuracy(training={"lr": 0.2}))
    names = entries(figure)
    assert len(set(names)) == len(names) == 4
    assert [("λ 0.16" in name, "batch 25" in name, "lr 0.2" in name) for name in names].count((False,) * 3) == 1


def test_machines_and_data_sets_have_figures_of_their_own() -> None:
    drawing = drawn(accuracy(), accuracy(run={"dataset": "fashion-mnist"}), accuracy(machine=H200))
    assert [(machine, figure.get_label()) for machine, figure in drawing.figures] == [
        ("A CPU", "digits"),
        ("A CPU", "fashion-mnist"),
        ("NVIDIA H200", ""),
    ]


def test_what_is_no_curve_is_left_out_with_the_reason() -> None:
    results = [
        accuracy("tiny-efficientnet", (), run={"epochs": 0, "weights": "published"}),
        accuracy("tiny-nf-resnet", (0.5,)),
        accuracy("tiny-nf-resnet-s", (), run={"epochs": 3}, status="timeout"),
        accuracy("tiny-resnet-s", (math.nan, 2.0, -1.0)),
        diverged(1e300, model="tiny-resnet"),
        accuracy(top1=(0.2, 0.3, 0.4)),
        accuracy(start="2026-02-01T00:00:00.000Z"),
    ]
    drawing = drawn(*results)
    assert [(m.row["model"], m.why) for m in drawing.missing] == [
        ("tiny-efficientnet", "evaluated only"),
        ("tiny-nf-resnet", "one epoch only, which is no curve"),
        ("tiny-nf-resnet-s", "timeout, no top-1 of an epoch"),
        ("tiny-resnet-s", "no top-1 of an epoch"),
        ("tiny-resnet", "diverged, no top-1 of an epoch"),
        ("tiny-nfnet", "another run of that seed is shown"),
    ]
    assert list(curves(drawing.figures[0][1].axes[0], "top1").values()) == [[(1, 50), (2, 80), (3, 90)]]


def test_an_epoch_without_a_value_is_a_gap_and_no_zero() -> None:
    axes = only(accuracy(top1=(0.5, math.nan, 0.9))).axes[0]
    assert list(curves(axes, "seed").values()) == [[(1, 50), (3, 90)]]


def test_nets_and_seeds_that_have_no_room_are_left_out() -> None:
    nets = [accuracy(run={"batch": 10 + b}) for b in range(15)]
    seeds = [accuracy("tiny-resnet", seed=seed) for seed in range(30)]
    drawing = drawn(*nets, *seeds)
    assert len(drawing.drawn) == 24 + 11 and len(drawing.drawn) + len(drawing.missing) == 45
    assert {m.why for m in drawing.missing} == {
        "a figure has room for 24 seeds of a net",
        "a figure has room for 12 nets: draw fewer at once, with --where",
    }


def test_older_software_is_drawn_only_where_it_is_shown() -> None:
    results = [accuracy(), accuracy(software=OLDER, start="2025-01-01T00:00:00.000Z")]
    assert len(drawn(*results).drawn) == 1
    every = training_curves(Held([], results, rows(results, everything=True)[0], everything=True))
    assert len(every.drawn) == 2 and not every.missing

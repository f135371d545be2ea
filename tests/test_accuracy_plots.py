from __future__ import annotations

from itertools import combinations
from pathlib import Path

import pytest
from conftest import Cli
from make import H200, accuracy, each_epoch, once, result
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text

from nfbench.analysis.accuracy import rows
from nfbench.analysis.store import Writer
from nfbench.catalog import models
from nfbench.catalog.models import NETS
from nfbench.records import Result
from nfbench.showing import left_out, plots
from nfbench.showing.accuracy_plots import accuracy_vs_flops
from nfbench.showing.kinds import Drawing, Held
from nfbench.showing.style import COLOURS, REPORTED

TINY = [net.name for net in NETS if net.family == "tiny"]


def held(*results: Result) -> Held:
    return Held(results=results, trained=rows(results)[0])


def drawn(*results: Result) -> Drawing:
    return accuracy_vs_flops(held(*results))


def said(drawing: Drawing) -> list[str]:
    return left_out.lines({"accuracy-vs-flops": drawing})[0]


def only(*results: Result) -> Figure:
    ((_, figure),) = drawn(*results).figures
    return figure


def panel(figure: Figure, label: str) -> Axes:
    (axes,) = [a for a in figure.axes if label in a.get_xlabel()]
    return axes


def measured(axes: Axes) -> list[Line2D]:
    return [line for line in axes.lines if line.get_label() != "_front"]


def points(axes: Axes) -> set[tuple[float, float]]:
    return {(float(x), round(float(y), 3)) for line in measured(axes) for x, y in zip(*line.get_data(), strict=True)}


def tiny(name: str, top1: float, seed: int = 0, **fields: object) -> Result:
    counted = models.counted(name, 32)
    assert counted is not None
    given = {"macs": counted.macs, "params": counted.params} | fields
    return accuracy(name, (0.5, top1), seed, **given)  # type: ignore[arg-type]


ALL = [tiny(name, 0.85 + 0.01 * i, s) for i, name in enumerate(TINY) for s in (0, 1)]


def test_every_net_is_a_point_at_its_cost_in_each_panel() -> None:
    figure = only(accuracy("tiny-nfnet", (0.5, 0.9), macs=1e7, params=4e5, train_time=4.0), tiny("tiny-resnet", 0.8))
    assert (1e7, 90.0) in points(panel(figure, "MACs of one image at 32 px, forward"))
    assert (4e5, 90.0) in points(panel(figure, "parameters"))
    assert (0.2, 90.0) in points(panel(figure, "training step time, data included, batch 50"))
    panels = figure.axes[:3]
    assert all(axes.get_xscale() == "log" for axes in panels)
    assert all(axes.get_ylim() == panels[0].get_ylim() for axes in panels)
    assert panels[0].get_ylabel() == "measured top-1, %" and "measured top-1 on digits" in figure.get_suptitle()


def test_energy_has_a_panel_where_it_was_measured() -> None:
    assert len(only(accuracy()).axes) == 6  # three costs, what was reported, a legend of each
    figure = only(accuracy(more=(each_epoch("energy", 100.0, 100.0, 100.0),)))
    assert (0.1, 90.0) in points(panel(figure, "energy of training on one image"))


def test_the_interval_over_seeds_is_drawn_from_end_to_end() -> None:
    runs = [tiny("tiny-nfnet", top1, seed) for seed, top1 in enumerate((0.90, 0.91, 0.93))]
    ((row,), _) = rows(runs)
    axes = panel(only(*runs), "MACs of one image at 32 px")
    (bars,) = [c for c in axes.collections if isinstance(c, LineCollection)]
    ((low, high),) = bars.get_segments()
    assert [low[1], high[1]] == pytest.approx([100 * row["top1_low"], 100 * row["top1_high"]])


def test_sizes_of_a_tiny_family_are_one_line_with_a_look_of_its_own() -> None:
    axes = panel(only(*ALL), "MACs of one image at 32 px")
    lines = measured(axes)
    assert [len(line.get_xdata()) for line in lines] == [3, 3, 3, 3]
    assert len({line.get_color() for line in lines}) == len({line.get_marker() for line in lines}) == 4
    assert all(line.get_markerfacecolor() == line.get_color() for line in lines)


def test_runs_that_differ_in_a_setting_are_not_joined_and_say_it() -> None:
    axes = panel(only(tiny("tiny-nfnet", 0.9), tiny("tiny-nfnet", 0.8, agc=0.16)), "MACs of one image at 32 px")
    assert [len(line.get_xdata()) for line in measured(axes)] == [1, 1]
    assert {text.get_text() for text in axes.texts} == {"nfnet, λ 0.01", "nfnet, λ 0.16"}


def test_every_point_has_a_label_and_none_covers_another() -> None:
    figure = only(*ALL)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    for axes in figure.axes[:3]:
        assert {text.get_text() for text in axes.texts} == {name.removeprefix("tiny-") for name in TINY}
        boxes = [Text.get_window_extent(text, canvas.get_renderer()) for text in axes.texts]
        for one, other in combinations(boxes, 2):
            assert not one.overlaps(other)


def test_costs_that_hardly_differ_stand_close_together() -> None:
    axes = panel(
        only(tiny("tiny-nfnet", 0.9, macs=1.0e7), tiny("tiny-resnet", 0.8, macs=1.02e7)), "MACs of one image at 32 px"
    )
    low, high = axes.get_xlim()
    assert high / low > 10
    ticks = [axes.xaxis.get_major_formatter()(value, 0) for value in axes.get_xticks() if low <= value <= high]
    assert ticks == ["5 M", "10 M", "20 M"]


def test_no_bar_leaves_what_an_accuracy_can_be() -> None:
    axes = panel(only(tiny("tiny-nfnet", 0.99), tiny("tiny-nfnet", 0.5, 1)), "MACs of one image at 32 px")
    (bars,) = [c for c in axes.collections if isinstance(c, LineCollection)]
    ((low, high),) = bars.get_segments()
    assert (low[1], high[1]) == (0, 100)


def test_the_front_is_a_step_line_through_what_none_beats_for_less() -> None:
    figure = only(
        accuracy("tiny-nfnet-s", (0.5, 0.7), macs=1e6),
        accuracy("tiny-nfnet", (0.5, 0.6), macs=2e6),
        accuracy("tiny-nfnet-l", (0.5, 0.9), macs=4e6),
    )
    (front,) = [line for line in panel(figure, "MACs of one image at 32 px").lines if line.get_label() == "_front"]
    corners = {(float(x), round(float(y))) for x, y in zip(*front.get_data(), strict=True)}
    assert corners == {(1e6, 70), (4e6, 70), (4e6, 90)}
    assert "Pareto front: none better for less" in _legend(figure)


def test_where_batches_differ_time_is_of_an_image_since_a_step_of_few_is_short() -> None:
    figure = only(accuracy("tiny-nfnet", train_time=4.0), accuracy("tiny-nfnet", train_time=0.8, run={"batch": 10}))
    axes = panel(figure, "training time of one image, data included, each at its batch")
    # 20 updates an epoch, of 50 images and of 10
    assert [x for x, _ in sorted(points(axes))] == pytest.approx([0.004, 0.004])
    assert not any("step time" in a.get_xlabel() for a in figure.axes)


def test_the_front_is_of_runs_of_as_many_epochs_as_most_have_and_says_so() -> None:
    longer = accuracy("tiny-nfnet-l", (0.5, 0.9, 0.95, 0.99), macs=1e6)
    shorter = [accuracy("tiny-nfnet-s", (0.5, 0.7), macs=2e6), accuracy("tiny-nfnet", (0.5, 0.8), macs=4e6)]
    figure = only(longer, *shorter)
    axes = panel(figure, "MACs of one image at 32 px")
    (front,) = [line for line in axes.lines if line.get_label() == "_front"]
    assert {float(x) for x in front.get_xdata()} == {2e6, 4e6} and len(points(axes)) == 3
    foot = figure.get_supxlabel().replace("\n", " ")
    assert "The front is of the 2 runs of 2 epochs; those of 4 are not in it." in foot
    assert "The front is of" not in only(*shorter).get_supxlabel()


def test_ticks_bear_the_unit_or_the_label_does_but_not_both() -> None:
    axes = panel(only(accuracy()), "training step time")
    assert axes.get_xlabel() == "training step time, data included, batch 50"
    assert all(axes.xaxis.get_major_formatter()(x, 0).endswith("s") for x in axes.get_xticks())


def _legend(figure: Figure) -> list[str]:
    return [text.get_text() for axes in figure.axes if (box := axes.get_legend()) for text in box.get_texts()]


def test_reported_accuracy_stays_in_a_panel_of_its_own_and_hollow() -> None:
    figure = only(*ALL)
    axes = panel(figure, "counted GMACs")
    assert axes.get_title(loc="left") == "ImageNet, reported: not measured here"
    assert all(line.get_markerfacecolor() == "white" for line in axes.lines)
    assert axes.get_ylim() != figure.axes[0].get_ylim()
    (text,) = [t.get_text() for t in figure.texts if "carry over" in t.get_text()]
    assert "Results on digits do not carry over to ImageNet." in text


def imagenet(name: str, top1: float, px: int, **fields: object) -> Result:
    counted = models.counted(name, px)
    assert counted is not None
    return accuracy(
        name,
        (0.3, top1),
        px=px,
        test_px=px,
        macs=counted.macs,
        params=counted.params,
        run={"dataset": "imagenet"},
        **fields,  # type: ignore[arg-type]
    )


def test_reported_accuracy_stands_beside_imagenet_runs_at_the_same_px() -> None:
    figure = only(imagenet("resnet50", 0.7, 224, agc=None), imagenet("nf-resnet50", 0.71, 224))
    axes = panel(figure, "MACs of one image at 224 px")
    hollow = [line for line in axes.lines if line.get_markerfacecolor() == "white"]
    assert hollow and "reported: resnet, on ImageNet" in _legend(figure)
    counted = models.counted("resnet50", 224)
    assert counted is not None
    assert counted.macs in {round(float(line.get_xdata()[0])) for line in hollow}
    assert not any("counted GMACs" in a.get_xlabel() for a in figure.axes)
    assert not any("carry over" in t.get_text() for t in figure.texts)


def test_imagenet_runs_tested_at_another_px_stand_at_the_macs_of_the_test_px() -> None:
    counted = models.counted("nfnet-f0", 256)
    assert counted is not None
    run = accuracy("nfnet-f0", (0.3, 0.8), px=192, test_px=256, run={"dataset": "imagenet"})
    axes = panel(only(run), "MACs of one image at 256 px")
    assert (float(counted.macs), 80.0) in points(axes)


def test_accuracy_never_crosses_data_sets_px_or_machines() -> None:
    places = (
        accuracy(),
        accuracy(run={"dataset": "fashion-mnist"}),
        accuracy(test_px=40),
        accuracy(px=40, test_px=40),
        accuracy(run={"weights": "published"}),
        accuracy(machine=H200),
    )
    found = drawn(*places).figures
    assert [machine for machine, _ in found] == ["A CPU"] * 5 + ["NVIDIA H200"]
    labels = [str(figure.get_label()) for machine, figure in found if machine == "A CPU"]
    assert len(set(labels)) == 5 and "fashion-mnist" in labels[1] and labels[2].endswith("tested-at-40px")


def test_files_bear_the_data_set_where_there_are_several() -> None:
    results = (accuracy(), accuracy(run={"dataset": "fashion-mnist"}))
    files = plots.draw(held(*results), Path("f"), ["accuracy-vs-flops"]).files
    names = {p.name for p in files if p.suffix == ".png"}
    assert names == {"accuracy-vs-flops-digits.png", "accuracy-vs-flops-fashion-mnist.png"}


def test_the_same_runs_give_the_same_bytes() -> None:
    for folder in ("a", "b"):
        plots.draw(held(*ALL[:6]), Path(folder), ["accuracy-vs-flops"])
    for name in ("accuracy-vs-flops.png", "accuracy-vs-flops.svg"):
        assert Path("a", name).read_bytes() == Path("b", name).read_bytes()


def test_what_diverged_is_listed_and_not_dropped() -> None:
    bad = [
        accuracy("tiny-resnet", (0.1,), s, status="diverged", more=(once("diverged_at", 12 + s),), agc=None)
        for s in (0, 1)
    ]
    some = accuracy(seed=1, status="diverged", more=(once("diverged_at", 7),))
    made = drawn(*bad, accuracy(), some)
    assert [(m.row["model"], m.row["diverged_at"]) for m in made.missing] == [("tiny-resnet", (12, 13))]
    assert [row["model"] for row in made.drawn] == ["tiny-nfnet"]
    first, second = said(made)
    assert first.startswith("accuracy-vs-flops: tiny-resnet, batch 50, λ none, digits")
    assert first.endswith(": diverged, no final top-1 that could be drawn")
    assert second.endswith("1 of 2 seeds not in the mean (1 ok, 1 diverged, the first at update 7)")


@pytest.mark.parametrize("value", [1e-300, 1e300, -1.0, 0.0])
def test_what_no_axis_can_hold_is_left_out(value: float) -> None:
    assert len(drawn(accuracy(), accuracy("tiny-resnet", macs=value)).figures) == 1
    found = drawn(accuracy("tiny-resnet", (0.5, value), macs=value, params=value, train_time=value))
    assert (found.figures, found.drawn, len(found.missing)) == ([], [], 1)


def test_a_hostile_name_is_drawn_as_text() -> None:
    results = [accuracy("../$\\frac$<script>", run={"dataset": "imagefolder:../x/y"})]
    plots.draw(held(*results), Path("f"), ["accuracy-vs-flops"])
    assert "<script>" not in Path("f/accuracy-vs-flops.svg").read_text()
    assert {p.parent for p in Path().rglob("*.png")} == {Path("f")}


def test_plot_draws_training_runs_and_other_kinds_say_that_they_leave_them_out(cli: Cli) -> None:
    writer = Writer(Path("results"))
    for r in (accuracy(), accuracy("tiny-resnet", agc=None)):
        writer.write(r)
    done = cli("plot", "results")
    assert done.exit_code == 0, done.output
    assert "results/figures/accuracy-vs-flops.png" in done.stdout.splitlines()
    assert "Left out" not in done.stderr
    done = cli("plot", "results", "--kind", "step-time")
    assert done.exit_code == 1
    assert "Left out: 2 results of accuracy, which --kind accuracy-vs-flops draws." in done.stderr


def test_steps_without_training_runs_draw_no_accuracy_and_say_why_where_asked(cli: Cli) -> None:
    Writer(Path("results")).write(result())
    assert "accuracy-vs-flops" not in cli("plot", "results").output
    done = cli("plot", "results", "--kind", "accuracy-vs-flops")
    assert done.exit_code == 1
    assert "Left out: 1 result of step-time, which --kind step-time draws." in done.stderr
    assert "the results hold too little for accuracy-vs-flops" in done.stderr


def test_series_have_the_looks_of_the_family_that_they_are_small_of() -> None:
    from nfbench.showing.style import look, series

    assert series("tiny-nf-resnet-l", "tiny") == ("tiny-nf-resnet", "nf-resnet")
    assert series("nfnet-f0", "nfnet") == ("nfnet", "nfnet")
    assert series("timm:a", "timm")[0] != series("timm:b", "timm")[0]
    line = measured(only(tiny("tiny-nfnet", 0.9)).axes[0])[0]
    assert (line.get_color(), line.get_marker()) == look("nfnet")


def test_nets_on_imagenet_are_sizes_of_their_families_each_at_its_own_px() -> None:
    def evaluated(name: str, top1: float, px: int, test_px: int) -> Result:
        asked = {"epochs": 0, "weights": "published", "dataset": "imagenet"}
        clip = 0.01 if name.startswith("nf") else None
        counted = models.counted(name, px)
        assert counted is not None
        return accuracy(name, (top1,), px=px, test_px=test_px, agc=clip, run=asked, macs=counted.macs)

    some = [
        evaluated("nfnet-f0", 0.83, 192, 256),
        evaluated("nfnet-f1", 0.84, 224, 320),
        evaluated("efficientnet-b0", 0.76, 224, 224),
        evaluated("efficientnet-b4", 0.82, 380, 380),
    ]
    figure = only(*some)
    axes = panel(figure, "MACs of one image at each net's test px")
    measured = [line for line in axes.lines if line.get_color() in COLOURS]
    wanted = []
    for names in (("nfnet-f0", "nfnet-f1"), ("efficientnet-b0", "efficientnet-b4")):
        counts = [
            models.counted(name, px) for name, px in zip(names, ((256, 320), (224, 380))[len(wanted)], strict=True)
        ]
        wanted.append([count.macs for count in counts if count])
    assert sorted(list(line.get_xdata()) for line in measured) == sorted(wanted)
    theirs = [line for line in axes.lines if line.get_markerfacecolor() == "white"]
    assert len(theirs) > 4 and {line.get_color() for line in theirs} == {REPORTED}
    assert {"measured: nfnet", "measured: efficientnet", "reported: nfnet, on ImageNet"} <= set(_legend(figure))
    assert "on imagenet, each net at its px, from published weights" in figure.get_suptitle().replace("\n", " ")

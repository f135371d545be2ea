"""What the figures of accuracy against its cost mean, and what was reported beside them."""

from __future__ import annotations

from itertools import combinations

import pytest
from figure_cases import drawn, foot, legend, marked, only, points, texts, why
from make import CPU, H200, accuracy, each_epoch, once
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from sweep_cases import TINY as FAMILIES
from sweep_cases import latency_results, run, step

from nfbench.analysis.training_runs import rows
from nfbench.catalog import models, published
from nfbench.catalog.models import NETS, find
from nfbench.records import Result
from nfbench.showing.figures.canvas import Label, Sheet, finish
from nfbench.showing.figures.driver import left_out
from nfbench.showing.figures.style import REPORTED, look

TINY = [net.name for net in NETS if net.family == "tiny"]
MACS = "MACs of one image at 32 px"


def tiny(name: str, top1: float, seed: int = 0, **fields: object) -> Result:
    counted = models.counted(name, 32)
    assert counted is not None
    given = {"macs": counted.macs, "params": counted.params} | fields
    return accuracy(name, (0.5, top1), seed, **given)  # type: ignore[arg-type]


def panel(figure: Figure, label: str) -> Axes:
    (axes,) = [a for a in figure.axes if label in a.get_xlabel()]
    return axes


def of(*results: Result) -> Figure:
    return only("accuracy-vs-flops", *results)


def bars(axes: Axes) -> list[tuple[float, float]]:
    segments = [s for c in axes.collections if isinstance(c, LineCollection) for s in c.get_segments()]
    return [(float(low[1]), float(high[1])) for low, high in segments]


def hollow(axes: Axes) -> list[tuple[float, float]]:
    """Where points stand that were reported: every one of them grey."""
    lines = [line for line in marked(axes) if line.get_markerfacecolor() == "white"]
    assert {line.get_color() for line in lines} <= {REPORTED}
    return [(float(x), float(y)) for line in lines for x, y in zip(*line.get_data(), strict=True)]


def test_every_net_is_a_point_at_its_cost_in_each_panel() -> None:
    energy = (each_epoch("energy", 100.0, 100.0),)
    figure = of(accuracy("tiny-nfnet", (0.5, 0.9), macs=1e7, params=4e5, train_time=4.0, more=energy))
    places = {f"{MACS}, forward": 1e7, "parameters": 4e5, "training step time, data included, batch 50": 0.2}
    for label, cost in (places | {"energy of training on one image": 0.1}).items():
        assert points(panel(figure, label)) == [(cost, 90.0)]
    panels = figure.axes[:4]
    assert all(axes.get_xscale() == "log" and axes.get_ylim() == panels[0].get_ylim() for axes in panels)
    assert panels[0].get_ylabel() == "measured top-1, %" and "measured top-1 on digits" in figure.get_suptitle()


def test_the_interval_over_seeds_is_drawn_from_end_to_end_and_no_further_than_an_accuracy_can_be() -> None:
    runs = [tiny("tiny-nfnet", top1, seed) for seed, top1 in enumerate((0.90, 0.91, 0.93))]
    ((row,), _) = rows(runs)
    wide = [tiny("tiny-resnet", 0.99), tiny("tiny-resnet", 0.5, 1)]
    ends = [pytest.approx((100 * row["top1_low"], 100 * row["top1_high"])), (0, 100)]
    assert bars(panel(of(*runs, *wide), MACS)) == ends


def test_sizes_of_a_family_are_one_line_with_names_and_what_was_reported_is_hollow_in_a_panel_of_its_own() -> None:
    figure = of(*(tiny(name, 0.85 + 0.005 * i, s) for i, name in enumerate(TINY) for s in (0, 1)))
    axes = panel(figure, MACS)
    assert [len(line.get_xdata()) for line in marked(axes)] == [3, 3, 3, 3, 3, 3]
    looks = {(line.get_color(), line.get_marker()) for line in marked(axes)}
    assert looks == {look(name.replace("tiny-", "")) for name in (*FAMILIES, "bn-tiny-nfnet", "bn-tiny-nf-resnet")}
    assert set(texts(axes)) == {name.replace("tiny-", "") for name in TINY}
    pairs = [line.get_data() for line in axes.lines if line.get_label() == "_twins"]
    assert len(pairs) == 6 and all(x[0] == x[1] and y[0] < y[1] for x, y in pairs)
    assert "an NF net and its twin with batch normalization" in legend(figure)
    axes = panel(figure, "counted MACs of one image at the test px")
    assert axes.get_title(loc="left") == "ImageNet, reported: not measured here" and points(axes) == []
    assert (pytest.approx(12.38e9, rel=1e-3), 83.6) in hollow(axes) and {"F1", "B7"} <= set(texts(axes))
    assert axes.get_ylim() != figure.axes[0].get_ylim()
    assert "Results on digits do not carry over to ImageNet." in foot(figure)


def test_values_that_a_search_chose_do_not_part_the_sizes_of_a_family_or_a_pair_of_twins() -> None:
    def tuned(name: str, lr: float, agc: float | None, tune: str = "lr,agc") -> Result:
        return accuracy(name, (0.5, 0.9), agc=agc, training={"lr": lr}, run={"tune": tune})

    names = ("tiny-nfnet", "bn-tiny-nfnet")
    searched = [tuned(names[0], 0.1, 0.01), tuned("tiny-nfnet-s", 0.3, 0.16), tuned(names[1], 0.2, None)]
    axes = panel(of(*searched), MACS)
    assert sorted(len(line.get_xdata()) for line in marked(axes)) == [1, 2]
    assert len([line for line in axes.lines if line.get_label() == "_twins"]) == 1
    axes = panel(of(*(tuned(name, 0.1 * i, None, "none") for i, name in enumerate(names, 1))), MACS)
    assert [line for line in axes.lines if line.get_label() == "_twins"] == []


def test_the_front_is_a_step_line_of_runs_of_as_many_epochs_as_most_have_and_says_so() -> None:
    shorter = [
        accuracy("tiny-nfnet-s", (0.5, 0.7), macs=1e6),
        accuracy("tiny-nfnet", (0.5, 0.6), macs=2e6),
        accuracy("tiny-nfnet-l", (0.5, 0.9), macs=4e6),
    ]
    longer = accuracy("tiny-resnet", (0.5, 0.9, 0.95, 0.99), macs=1e5)
    figure = of(longer, *shorter)
    axes = panel(figure, MACS)
    (front,) = [line for line in axes.lines if line.get_label() == "_front"]
    corners = {(float(x), round(float(y))) for x, y in zip(*front.get_data(), strict=True)}
    assert corners == {(1e6, 70), (4e6, 70), (4e6, 90)} and len(points(axes)) == 4
    assert "Pareto front: none better for less" in legend(figure)
    assert "The front is of the 3 runs of 2 epochs; those of 4 are not in it." in foot(figure)


def test_accuracy_never_crosses_data_sets_px_or_machines() -> None:
    places = (
        accuracy(),
        accuracy(run={"dataset": "fashion-mnist"}),
        accuracy(px=40, test_px=48),
        accuracy(machine=H200),
    )
    found = drawn("accuracy-vs-flops", *places).figures
    assert [machine for machine, _ in found] == ["A CPU"] * 3 + ["NVIDIA H200"]
    labels = [str(figure.get_label()) for machine, figure in found if machine == "A CPU"]
    assert labels == ["digits-32px", "fashion-mnist", "digits-40px"]


def test_what_diverged_or_has_no_cost_is_said_and_not_dropped() -> None:
    bad = [
        accuracy("tiny-resnet", (0.1,), s, status="diverged", more=(once("diverged_at", 12 + s),), agc=None)
        for s in (0, 1)
    ]
    some = accuracy(seed=1, status="diverged", more=(once("diverged_at", 7),))
    made = drawn("accuracy-vs-flops", *bad, accuracy(), some, accuracy("tiny-nfnet-s", macs=0.0))
    assert [row["model"] for row in made.drawn] == ["tiny-nfnet", "tiny-nfnet-s"]
    first, second, third = left_out({"accuracy-vs-flops": made})
    assert first.startswith("accuracy-vs-flops: tiny-resnet, batch 50, λ none, digits")
    assert first.endswith(": diverged, no final top-1 that could be drawn")
    assert second.endswith("1 of 2 seeds not in the mean (1 ok, 1 diverged, the first at update 7)")
    assert third.endswith("1 of 2 runs on digits on A CPU have no MACs: they are in the other panels only")
    for value in (1e-300, 1e300, -1.0, 0.0):
        none = accuracy("tiny-resnet", (0.5, value), macs=value, params=value, train_time=value)
        assert drawn("accuracy-vs-flops", none).figures == []


def imagenet(name: str, top1: float, px: int, test_px: int, epochs: int = 0) -> Result:
    counted = models.counted(name, px)
    assert counted is not None
    asked = {"epochs": epochs, "weights": "published", "dataset": "imagenet"}
    clip = 0.01 if name.startswith("nf") else None
    return accuracy(name, (top1,), px=px, test_px=test_px, agc=clip, run=asked, macs=counted.macs)


def test_what_was_reported_at_the_px_of_imagenet_stands_beside_what_was_measured() -> None:
    figure = of(imagenet("resnet50", 0.7, 224, 224), imagenet("nf-resnet50", 0.71, 224, 224))
    counted = models.counted("resnet50", 224)
    assert counted is not None and counted.macs in {x for x, _ in hollow(panel(figure, "MACs of one image at 224 px"))}
    assert "reported: resnet, on ImageNet" in legend(figure) and "carry over" not in foot(figure)
    assert not any("counted MACs" in axes.get_xlabel() for axes in figure.axes)


def test_nets_on_imagenet_are_sizes_of_their_families_each_at_the_macs_of_its_own_test_px() -> None:
    sizes = {
        "nfnet-f0": (192, 256),
        "nfnet-f1": (224, 320),
        "efficientnet-b0": (224, 224),
        "efficientnet-b4": (380, 380),
    }
    figure = of(*(imagenet(name, 0.8 + i / 100, *px) for i, (name, px) in enumerate(sizes.items())))
    axes = panel(figure, "MACs of one image at each net's test px")
    counts = [count.macs for name, (_, px) in sizes.items() if (count := models.counted(name, px))]
    lines = [list(line.get_xdata()) for line in marked(axes) if line.get_markerfacecolor() != "white"]
    assert sorted(lines) == sorted([counts[:2], counts[2:]])
    assert len(hollow(axes)) > 4
    assert {"measured: nfnet", "measured: efficientnet", "reported: nfnet, on ImageNet"} <= set(legend(figure))
    assert "on imagenet, each net at its px, from published weights" in figure.get_suptitle().replace("\n", " ")


def test_accuracy_against_step_time_joins_runs_and_steps_and_says_how() -> None:
    latency = latency_results()
    figure = only("accuracy-vs-latency", *latency)
    (axes,) = figure.axes
    assert len(points(axes)) == 12 and axes.get_xscale() == "log"
    assert (pytest.approx(0.0102), pytest.approx(90.2)) in points(axes)
    assert axes.get_xlabel() == "measured time of a training step, batch 64"
    assert [len(line.get_xdata()) for line in marked(axes)] == [3] * 4
    assert {(line.get_color(), line.get_marker()) for line in marked(axes)} == {
        look(family) for family in ("nfnet", "nf-resnet", "resnet", "efficientnet")
    }
    assert set(texts(axes)) == {f.removeprefix("tiny-") + size for f in FAMILIES for size in ("-s", "", "-l")}
    assert foot(figure).startswith(
        "Joined by model, precision, batch, px and λ: the top-1 is of training runs, the time of"
    )
    upright = {(round(low, 6), round(high, 6)) for low, high in bars(axes) if low != high}
    assert upright == {(round(100 * r["top1_low"], 6), round(100 * r["top1_high"], 6)) for r in rows(latency)[0]}


def test_a_run_joins_the_quickest_step_of_its_machine_model_precision_and_batch_or_none() -> None:
    def timed(model: str, seconds: float, batch: int = 64, **more: object) -> Result:
        return step(model, batch, seconds, **({"px": 32, "machine": CPU} | more))  # type: ignore[arg-type]

    made = drawn(
        "accuracy-vs-latency",
        timed("tiny-nf-resnet", 0.2), timed("tiny-nf-resnet", 0.1, layout="nchw", asked={"layout": "nchw"}),
        timed("tiny-resnet", 0.05), run("tiny-nf-resnet"), run("tiny-resnet", 64, "none", 0.9),
        *(run("tiny-nfnet", 32), timed("tiny-nfnet", 0.1)),
        *(run("tiny-nfnet-s"), timed("tiny-nfnet-s", 0.1, precision="bf16")),
        *(run("tiny-nfnet-l"), timed("tiny-nfnet-l", 0.1, px=64)),
        *(run("tiny-nf-resnet-s", 64, "none"), timed("tiny-nf-resnet-s", 0.1)),
        *(run("tiny-efficientnet"), timed("tiny-efficientnet", 0.1, machine=H200)),
        *(run("tiny-resnet-l"), timed("tiny-resnet-l", 0.1, asked={"world_size": 2}, micro_batch=32)),
    )  # fmt: skip
    ((_, figure),) = made.figures
    assert points(figure.axes[0]) == [(pytest.approx(0.102), 97.0), (pytest.approx(0.051), 90.0)]
    assert len(made.missing) == 6
    assert why(made) == {"no step of that net was timed on that machine at its precision, batch, px and λ"}
    alone = drawn("accuracy-vs-latency", timed("tiny-resnet", 0.05), run("tiny-resnet", 64, "none", 0.9))
    assert alone.figures == [] and why(alone) == {"one net only; it takes two"}


def test_weights_that_were_evaluated_stand_at_the_step_time_of_their_net_at_any_px() -> None:
    def evaluated(model: str) -> list[Result]:
        asked = {"epochs": 0, "weights": "published", "dataset": "imagenet", "batch": 32}
        run = accuracy(model, (0.76,), px=288, agc=None, run=asked, machine=H200)
        return [run, step(model, 32, 0.1, precision="fp32")]

    figure = only("accuracy-vs-latency", *evaluated("resnet50"), *evaluated("resnet101"))
    assert "weights that were evaluated" in foot(figure)
    # beside a GPU the paper's Figure 1 stands as it was reported, in a panel of its own
    main, beside = figure.axes
    assert hollow(main) == points(beside) == []
    nets = [row for row in published.rows("table3.csv") if row["tpuv3_step_ms"] and row["top1"]]
    assert set(hollow(beside)) == {(float(row["tpuv3_step_ms"]) / 1e3, float(row["top1"])) for row in nets}
    assert len({line.get_marker() for line in beside.lines}) == len(beside.lines)
    assert {"F0", "F5 SAM", "B7"} <= set(texts(beside))
    assert beside.get_xlabel() == "reported time of a training step, TPUv3, batch 32 per device"


def test_a_net_that_was_timed_on_a_gpu_and_evaluated_nowhere_stands_grey_at_its_reported_top1() -> None:
    asked = {"epochs": 0, "weights": "published", "dataset": "imagenet", "batch": 32}
    evaluated = accuracy("resnet50", (0.76,), px=288, agc=None, run=asked, machine=H200)
    timed = {"resnet50": 0.1, "efficientnet-b0": 0.2, "efficientnet-b1": 0.3, "nf-resnet50": 0.4}
    steps = [step(name, 32, seconds, precision="fp32", machine=H200) for name, seconds in timed.items()]
    main, _ = only("accuracy-vs-latency", evaluated, *steps).axes
    assert points(main) == [(pytest.approx(0.102), 76.0)]
    reported = {name: net.top1 for name in timed if name != "resnet50" and (net := published.top1(find(name)))}
    expected = [(pytest.approx(1.02 * timed[name]), pytest.approx(top)) for name, top in reported.items()]
    assert sorted(hollow(main)) == sorted(expected, key=lambda place: place[0].expected)
    assert main.get_ylabel() == "top-1, %" and set(texts(main)) == set(timed)
    figure = only("accuracy-vs-latency", *steps)
    assert points(figure.axes[0]) == [] and figure.axes[0].get_ylabel() == "reported top-1, %"
    assert "the top-1 was reported, on ImageNet" in foot(figure)
    assert "reported: efficientnet, at its measured step time" in legend(figure)
    # nothing that others trained stands beside what a CPU took
    assert drawn("accuracy-vs-latency", *(step(name, 32, 0.1, machine=CPU) for name in timed)).figures == []


# labels beside points


@pytest.mark.parametrize(("number", "inches"), [(15, 4), (26, 2)])
def test_labels_of_points_that_nearly_touch_never_cover_each_other_and_what_has_no_room_is_said(
    number: int, inches: int
) -> None:
    figure = Figure(figsize=(inches, inches), layout="constrained")
    axes = figure.add_subplot()
    crowd = [Label(0.5 + 0.01 * (i % 5), 0.5 + 0.01 * (i // 5), f"a net called {i}", "black") for i in range(number)]
    notes = finish(Sheet(figure, "", labels={axes: crowd}), "")
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    boxes = [text.get_window_extent(canvas.get_renderer()) for text in axes.texts if text.get_text()]  # type: ignore[no-untyped-call]
    assert not [pair for pair in combinations(boxes, 2) if pair[0].overlaps(pair[1])]
    inside = axes.get_window_extent().padded(1)
    assert all(inside.contains(*corner) for box in boxes for corner in box.corners())
    assert any(not text.get_text() for text in axes.texts), "a label far from its point is led to it by a line"
    if inches == 4:
        assert notes == [] and len(boxes) == number
    else:
        assert 0 < len(boxes) < 20 and notes[0].startswith("no room for the labels of some points: ")
        assert notes[0].endswith(f" and {number - len(boxes) - 6} more")

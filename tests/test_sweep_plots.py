from __future__ import annotations

import math
from itertools import combinations
from pathlib import Path

import msgspec
import pytest
from make import CPU, SOFTWARE, accuracy
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from sweep_cases import (
    BATCHES,
    GIB,
    TINY,
    agc_results,
    batch_results,
    latency_results,
    layout_results,
    norm_results,
    run,
    step,
)

from nfbench.analysis import accuracy as training
from nfbench.analysis.rows import rows
from nfbench.records import Result
from nfbench.showing import plots
from nfbench.showing.kinds import Drawing, Held, find
from nfbench.showing.style import COLUMN, PAGE, STYLE, look

STEPS, RUNS, LATENCY = batch_results(), agc_results(), latency_results()
LONG = "timm:a_rather_long_model_name_that_somebody_made.and_tagged_in1k"
KINDS = [
    *("batch-throughput", "batch-step-time", "batch-memory", "batch-accuracy", "agc-lines", "agc-heatmap"),
    *("accuracy-vs-latency", "accuracy-vs-flops", "norm-cost", "layouts"),
]


def held(*results: Result) -> Held:
    return Held(rows(results)[0], results, training.rows(results)[0])


def drawn(kind: str, *results: Result) -> Drawing:
    with rc_context(STYLE):
        return find(kind)(held(*results))


def only(kind: str, *results: Result) -> Figure:
    ((_, figure),) = drawn(kind, *results).figures
    return figure


def lines(axes: Axes) -> list[Line2D]:
    """Of an axes, the points: lines join them without a marker."""
    return [line for line in axes.lines if line.get_marker() not in ("None", None, "") and not sample(line)]


def sample(line: Line2D) -> bool:
    """Whether it stands beside a row of a strip to tell of which line the row is."""
    return line.get_label() == "_sample"


def samples(strip: Axes) -> list[tuple[object, object]]:
    return [(line.get_color(), line.get_marker()) for line in strip.lines if sample(line)]


def missing(drawing: Drawing) -> list[tuple[str, int, str]]:
    return [(m.row.get("net", m.row["model"]), m.row["batch"], m.why) for m in drawing.missing]


def points(axes: Axes) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for line in lines(axes) for x, y in zip(*line.get_data(), strict=True)]


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for axes in figure.axes if (box := axes.get_legend()) for text in box.get_texts()]


def texts(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def test_every_step_is_a_point_at_its_batch_or_a_mark_below() -> None:
    figure = only("batch-throughput", *STEPS)
    main, strip = figure.axes[:2]
    assert len(points(main)) + len(points(strip)) == len(STEPS)
    assert points(strip) == [(256, 0)]
    rate = 2 / rows([STEPS[0]])[0][0]["step_time"]
    assert (2.0, pytest.approx(rate)) in points(main)
    assert {"nfnet-f0", "nf-resnet50", "resnet50", "several passes an update", "out of memory"} == set(legend(figure))
    assert samples(strip) == [look("nfnet")]


def test_batches_stand_on_an_axis_of_base_two_that_names_them() -> None:
    axes = only("batch-step-time", *STEPS).axes[0]
    assert axes.get_xscale() == "log" and axes.xaxis.get_transform().base == 2  # type: ignore[attr-defined]
    assert [axes.xaxis.get_major_formatter()(x, 0) for x in axes.get_xticks()] == [str(b) for b in BATCHES]
    assert axes.get_ylabel() == "step time" and "ms" in axes.yaxis.get_major_formatter()(0.05, 0)
    assert figure_label(axes) == "batch, images an update"


def figure_label(axes: Axes) -> str:
    (label,) = [a.get_xlabel() for a in axes.figure.axes if a.get_xlabel()]  # type: ignore[union-attr]
    return label


def test_a_batch_of_several_passes_is_half_filled() -> None:
    axes = only("batch-throughput", *STEPS).axes[0]
    half = {float(x) for line in lines(axes) if line.get_fillstyle() == "bottom" for x in line.get_xdata()}
    assert half == {128.0, 256.0}


def test_families_have_their_colour_and_marker_and_nets_of_one_family_their_dash() -> None:
    nets = {"nfnet-f0": (64, 10**6, 0.004), "nfnet-f1": (64, 10**6, 0.008)}
    axes = only("batch-throughput", *batch_results(nets)).axes[0]
    joined = [line for line in axes.lines if line not in lines(axes)]
    assert {(line.get_color()) for line in axes.lines} == {look("nfnet")[0]}
    assert {line.get_marker() for line in lines(axes)} == {look("nfnet")[1]}
    assert len({str(line.get_linestyle()) for line in joined}) == 2


def test_memory_is_in_bytes_of_what_was_read() -> None:
    figure = only("batch-memory", step(batch=8, memory=2 * GIB), step(batch=16, memory=4 * GIB))
    assert points(figure.axes[0]) == [(8, 2 * GIB), (16, 4 * GIB)]
    assert "allocated on the device" in figure.get_suptitle()
    cpu = [step(batch=b, memory=b * GIB, machine=CPU) for b in (8, 16)]
    assert "of the process" in only("batch-memory", *cpu).get_suptitle()


@pytest.mark.parametrize("kind", ["batch-throughput", "batch-memory", "batch-accuracy"])
def test_one_batch_is_no_sweep_and_says_so(kind: str) -> None:
    found = drawn(kind, step(batch=32, memory=GIB), run(batch=32))
    assert found.figures == [] and found.drawn == []
    assert [(batch, why) for _, batch, why in missing(found)] == [(32, "one batch only; it takes two")]


def test_a_step_without_memory_is_named_where_others_have_one() -> None:
    found = drawn("batch-memory", step(batch=8, memory=GIB), step(batch=16, memory=GIB), step(batch=32))
    assert missing(found) == [("resnet50", 32, "no peak memory")] and len(found.drawn) == 2


def test_accuracy_over_batches_has_a_line_for_each_net_and_clip_and_marks_what_diverged() -> None:
    figure = only("batch-accuracy", *RUNS)
    main, strip = figure.axes[:2]
    names = [f"tiny-nf-resnet, λ {clip}" for clip in (0.01, 0.02, 0.04, 0.08, 0.16, "none")]
    assert legend(figure)[:7] == [*names, "diverged"]
    assert main.get_ylabel() == "measured top-1, %" and "on digits" in figure.get_suptitle()
    assert (64.0, pytest.approx(98.2)) in points(main)
    assert sorted(points(strip)) == [(128, 1), (256, 0), (256, 1)]
    assert all(line.get_marker() == "x" for line in lines(strip)) and len(samples(strip)) == 2
    assert sorted(texts(strip)) == ["1 of 2", "25", "25"]
    # a cell of which one seed diverged is both a point and a mark
    assert len(points(main)) + len(points(strip)) == len(held(*RUNS).trained) + 1


def test_nets_come_before_their_clips_and_those_without_one_stand_beside() -> None:
    nets = [f"tiny-{family}{size}" for family in ("nfnet", "nf-resnet") for size in ("-s", "")]
    clips = (0.01, 0.02, 0.04, "none")
    results = [run(net, b, c, 0.9 + (c == 0.02) / 100) for net in nets for b in (32, 64) for c in clips]
    results += [run(f"tiny-resnet{size}", b, "none") for size in ("-s", "") for b in (32, 64)]
    found = drawn("batch-accuracy", *results)
    ((_, figure),) = found.figures
    wanted = [f"{net}, λ {clip}" for net in sorted(nets, key=nets.index) for clip in (0.02, "none")]
    assert set(legend(figure)[:10]) == {*wanted, "tiny-resnet", "tiny-resnet-s"}
    assert {m.row["agc"] for m in found.missing} == {0.01, 0.04} and len(found.missing) == 16
    assert {m.why for m in found.missing} == {"a figure has room for 10 lines: draw fewer at once, with --where"}
    assert figure.get_supxlabel().endswith("8 more lines left out.")


def test_lines_of_a_family_differ_in_marker_fill_and_dash() -> None:
    axes = only("batch-accuracy", *RUNS, *agc_results("tiny-nf-resnet-s")).axes[0]
    marked = [(line.get_marker(), line.get_fillstyle()) for line in lines(axes)]
    joined = [str(line.get_linestyle()) + str(line._unscaled_dash_pattern) for line in axes.lines[::2]]  # type: ignore[attr-defined]
    assert len({line.get_color() for line in lines(axes)}) == 1
    looks = list(zip(marked, joined, strict=True))
    assert len(looks) == len(set(looks)) == 8
    assert len({marker for marker, _ in marked}) == 2


def test_runs_of_other_epochs_have_a_figure_of_their_own() -> None:
    longer = [accuracy(run={"batch": b, "agc": 0.01}) for b in (32, 64)]
    found = drawn("batch-accuracy", *(run("tiny-nfnet", b) for b in (32, 64)), *longer)
    assert [figure.get_label() for _, figure in found.figures] == ["2-epochs", "3-epochs"]
    assert ["after 2 epochs" in figure.get_suptitle() for _, figure in found.figures] == [True, False]
    assert [len(points(figure.axes[0])) for _, figure in found.figures] == [2, 2]


def test_softwares_have_lines_of_their_own_where_they_timed_the_same() -> None:
    older = msgspec.structs.replace(SOFTWARE, nfbench="0.0.9")
    results = [step(batch=b, seconds=b / 100) for b in (8, 16)]
    results += [msgspec.structs.replace(r, software=older) for r in results]
    with rc_context(STYLE):
        found = find("batch-throughput")(Held(rows(results, everything=True)[0], results, everything=True))
    ((_, figure),) = found.figures
    assert len(legend(figure)) == 2 and all(text.startswith("resnet50, nfbench 0.") for text in legend(figure))
    assert "several values at one place" not in figure.get_supxlabel()


def test_reported_accuracies_are_hollow_and_in_a_panel_of_their_own() -> None:
    figure = only("batch-accuracy", *RUNS)
    (panel,) = [axes for axes in figure.axes if "reported" in axes.get_ylabel()]
    assert "not measured here" in panel.get_title(loc="left")
    hollow = [line for line in lines(panel) if line.get_marker() != "x"]
    assert len(hollow) == 6 and all(line.get_markerfacecolor() == "white" for line in hollow)
    others = [line for axes in figure.axes if axes is not panel for line in axes.lines]
    assert all(line.get_markerfacecolor() != "white" for line in others)
    assert (256.0, 76.9) in points(panel)


def test_thresholds_are_places_in_order_and_no_clip_stands_apart() -> None:
    figure = only("agc-lines", *RUNS)
    main, strip = figure.axes[:2]
    assert [t.get_text() for t in strip.get_xticklabels()] == ["0.01", "0.02", "0.04", "0.08", "0.16", "no clip"]
    assert list(main.get_xticks()) == [0, 1, 2, 3, 4, 5.5]
    assert legend(figure) == ["batch 32", "batch 64", "batch 128", "batch 256", "diverged"]
    assert [x for x, _ in sorted(points(strip))] == [4, 5.5, 5.5]
    assert sorted(texts(strip)) == ["1 of 2", "25", "25"]
    # points beside their place, since bars of several batches at one place hide each other
    assert {min(main.get_xticks(), key=lambda at: abs(at - x)) for x, _ in points(main)} == {0, 1, 2, 3, 4, 5.5}
    assert len(points(main)) + len(points(strip)) == 24 + 1


def cells(axes: Axes) -> dict[tuple[str, str], tuple[str, Rectangle]]:
    """The text and the rectangle of each (λ, batch), by the ticks beside them."""
    said = {text.get_position(): text.get_text() for text in axes.texts}
    across = {float(x): t.get_text() for x, t in zip(axes.get_xticks(), axes.get_xticklabels(), strict=True)}
    down = {round(float(y), 6): t.get_text() for y, t in zip(axes.get_yticks(), axes.get_yticklabels(), strict=True)}
    found = {}
    for patch in axes.patches:
        assert isinstance(patch, Rectangle)
        x, y = (patch.get_x() + patch.get_width() / 2, patch.get_y() + patch.get_height() / 2)
        (text,) = [text for at, text in said.items() if at == pytest.approx((x, y))]
        found[down[round(y, 6)], across[x]] = text, patch
    return found


def test_every_cell_of_the_map_is_drawn_and_what_diverged_is_hatched_and_named() -> None:
    axes = only("agc-heatmap", *RUNS).axes[0]
    found = cells(axes)
    assert len(found) == 24
    assert {cell for cell, (_, patch) in found.items() if patch.get_hatch()} == {
        *(("no clip", "128"), ("no clip", "256"), ("0.16", "256")),
    }
    assert found["no clip", "128"][0] == "diverged\nat 25"
    assert found["0.16", "256"][0].endswith("1 of 2\ndiverged") and found["0.02", "32"][0] == "97\n± 3"
    assert [t.get_text() for t in axes.get_yticklabels()][-1] == "no clip"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("batch, images an update", "clipping threshold λ")
    # darker is more accurate, so that it reads in grey too
    light = {cell: sum(patch.get_facecolor()[:3]) for cell, (_, patch) in found.items()}
    assert light["no clip", "64"] < light["0.16", "32"] < light["no clip", "256"] == 3.0


def test_colours_of_a_map_are_of_a_range_that_is_said_and_what_was_not_run_is_no_blank() -> None:
    results = [run("tiny-nfnet", 32, 0.01, 0.991), run("tiny-nfnet", 32, 0.02, 0.993), run("tiny-nfnet", 64, 0.02)]
    figure = only("agc-heatmap", *results)
    found = cells(figure.axes[0])
    pale, dark = (found[clip, "32"][1].get_facecolor()[0] for clip in ("0.01", "0.02"))
    # two tenths of a per cent are hardly a difference
    assert 0 < pale - dark < 0.05
    assert texts(figure.axes[0]).count("·") == 1
    foot = figure.get_supxlabel().replace("\n", " ")
    assert "Colours: from 90 %, the palest, to 100 %, the darkest." in foot and foot.endswith("· not run.")
    figure.draw_without_rendering()
    label = figure.axes[0].yaxis.label.get_window_extent()
    assert label.height <= figure.axes[0].bbox.height * 1.05


def test_one_threshold_is_no_sweep_and_a_net_has_a_figure_of_its_own() -> None:
    found = drawn("agc-lines", run(batch=32), run(batch=64), *agc_results("tiny-nfnet"), run("tiny-nfnet", dataset="x"))
    assert [figure.get_label() for _, figure in found.figures] == [""]
    assert [m.row["dataset"] for m in found.missing] == ["digits", "digits", "x"]
    assert {m.why for m in found.missing} == {"one λ only; it takes two"}
    found = drawn("agc-heatmap", *RUNS, *agc_results("tiny-nfnet"))
    assert [figure.get_label() for _, figure in found.figures] == ["tiny-nf-resnet", "tiny-nfnet"]


def test_accuracy_against_step_time_joins_runs_and_steps_by_model_and_says_so() -> None:
    figure = only("accuracy-vs-latency", *LATENCY)
    axes = figure.axes[0]
    assert len(points(axes)) == 12 and axes.get_xscale() == "log"
    assert (pytest.approx(0.0102), pytest.approx(90.2)) in points(axes)
    assert axes.get_xlabel() == "measured time of a training step, batch 64"
    assert figure.get_supxlabel().startswith("Joined by model: the top-1 is of training runs, the time of separately")
    assert [len(line.get_xdata()) for line in lines(axes)] == [3] * 4
    assert set(texts(axes)) == {f.removeprefix("tiny-") + size for f in TINY for size in ("-s", "", "-l")}


def test_a_run_without_a_step_time_is_named_and_the_quickest_step_counts() -> None:
    found = drawn(
        "accuracy-vs-latency",
        step("tiny-nf-resnet", 64, 0.2, px=32, machine=CPU),
        step("tiny-nf-resnet", 64, 0.1, px=32, machine=CPU, layout="nchw", asked={"layout": "nchw"}),
        step("tiny-resnet", 64, 0.05, px=32, machine=CPU),
        run("tiny-nf-resnet"), run("tiny-nfnet"), run("tiny-nf-resnet", 128), run("tiny-resnet", 64, "none", 0.9),
    )  # fmt: skip
    ((_, figure),) = found.figures
    assert points(figure.axes[0]) == [(pytest.approx(0.102), 97.0), (pytest.approx(0.051), 90.0)]
    assert [(row["model"], row["batch"]) for row in found.drawn] == [("tiny-nf-resnet", 64), ("tiny-resnet", 64)]
    assert missing(found) == [
        ("tiny-nfnet", 64, "no step time of it on that machine; nfbench step-time measures one"),
        ("tiny-nf-resnet", 128, "another run of that net is drawn"),
    ]


def test_a_single_net_is_no_figure_and_a_step_at_another_clip_is_named_as_such() -> None:
    steps = [step("tiny-nf-resnet", 64, 0.2, px=32, machine=CPU), step("tiny-nfnet", 64, 0.2, px=32, machine=CPU)]
    found = drawn("accuracy-vs-latency", *steps, run("tiny-nf-resnet"), run("tiny-nfnet", 64, 0.08))
    assert found.figures == found.drawn == []
    assert missing(found) == [
        ("tiny-nfnet", 64, "no step time of it at λ 0.08"),
        ("tiny-nf-resnet", 64, "one net only; it takes two"),
    ]


def test_runs_are_set_against_steps_that_no_figure_was_asked_for() -> None:
    alone = held(*LATENCY)
    runs = [row for row in alone.trained if row["model"] != "tiny-nfnet"]
    with rc_context(STYLE):
        found = find("accuracy-vs-latency")(Held(trained=runs, partners=alone.rows))
    assert len(found.drawn) == len(runs) == 11 and found.missing == found.notes == []


def test_weights_that_were_evaluated_stand_at_the_step_time_of_their_net_at_any_px() -> None:
    evaluated = accuracy("resnet50", (0.76,), px=288, agc=None, run={"epochs": 0, "weights": "published"})
    other = accuracy("resnet101", (0.78,), px=288, agc=None, run={"epochs": 0, "weights": "published"})
    steps = [step(name, 32, 0.1, px=224, machine=CPU) for name in ("resnet50", "resnet101")]
    found = drawn("accuracy-vs-latency", *steps, evaluated, other)
    ((_, figure),) = found.figures
    assert "weights that were evaluated" in figure.get_supxlabel()


def test_norms_of_a_net_stand_together_with_its_counterpart_and_twin() -> None:
    figure = only("norm-cost", *norm_results())
    time, memory = figure.axes[:2]
    labels = [text.get_text() for text in time.get_yticklabels()]
    assert labels == [
        *("nfnet-f0", "nfnet-f0, no norm", "bn-nfnet-f0, batch norm"),
        *("nf-resnet50", "nf-resnet50, no norm"),
        *("resnet50, batch norm", "resnet50, frozen norm", "resnet50, group norm"),
    ]
    places = {labels[round(y)]: x for x, y in points(time)}
    assert places["resnet50, group norm"] == pytest.approx(0.1326 / 64)
    assert len(places) == 5 and texts(time) == ["out of memory"]
    assert {labels[round(y)]: x for x, y in points(memory)}["resnet50, batch norm"] == 9 * GIB / 64
    assert {"no norm", "batch norm", "group norm", "frozen norm"} == set(legend(figure))


def test_memory_of_the_whole_process_is_no_cost_of_a_norm() -> None:
    found = drawn("norm-cost", *norm_results(CPU))
    ((_, figure),) = found.figures
    assert not any("memory" in axes.get_xlabel() for axes in figure.axes)
    assert "Memory" not in figure.get_supxlabel()
    assert found.notes == ["peak memory on A CPU: it is of the whole process, Python and torch included"]


@pytest.mark.parametrize("kind", ["agc-lines", "agc-heatmap", "batch-accuracy"])
def test_the_footer_of_training_runs_says_of_what_they_are(kind: str) -> None:
    several = only(kind, *RUNS).get_supxlabel().replace("\n", " ")
    assert several.startswith("2 seeds, 2 epochs, 32 px. Means over seeds")
    assert "Small data and tiny nets do not carry over to ImageNet." in several
    one = [run("tiny-nf-resnet", batch, clip) for batch in (32, 64) for clip in (0.01, "none")]
    single = only(kind, *one).get_supxlabel().replace("\n", " ")
    assert single.startswith("1 seed, 2 epochs, 32 px; no interval.")
    assert "Means" not in single and "Student" not in single


def test_layouts_precisions_and_compile_modes_are_dots_below_their_model() -> None:
    axes = only("layouts", *layout_results()).axes[0]
    labels = [text.get_text() for text in axes.get_yticklabels()]
    assert len(points(axes)) == 16 and labels[0] == "nfnet-f0" and labels[9] == "resnet50"
    places = {labels[round(y)]: x for x, y in points(axes) if y < 9}
    assert places["nchw, fp32"] == pytest.approx(2 * 1.4 * 0.204)
    assert "nhwc, bf16, compile max-autotune" in places


@pytest.mark.parametrize("kind", ["norm-cost", "layouts"])
def test_a_net_in_one_setting_is_nothing_to_compare_and_says_so(kind: str) -> None:
    found = drawn(kind, step("resnet50"), step("nfnet-f0"))
    assert (found.figures, found.drawn, len(found.missing)) == ([], [], 2)


@pytest.mark.parametrize("kind", KINDS)
def test_without_results_there_is_nothing_to_draw_and_nothing_to_leave_out(kind: str) -> None:
    assert drawn(kind) == Drawing()


def shown(figure: Figure) -> list[Text]:
    """Every text that is drawn: tick labels beyond an axis are there too, and are not."""
    found = [*figure.texts]
    for axes in figure.axes:
        found += [*axes.texts, *(box.get_texts() if (box := axes.get_legend()) else [])]
        if axes.axison:
            found += [axes.xaxis.label, axes.yaxis.label]
            for axis in (axes.xaxis, axes.yaxis):
                low, high = sorted(axis.get_view_interval())
                ticks = [tick for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
                found += [tick.label1 for tick in ticks if tick.label1.get_visible()]
        found += [title for title in axes.get_children() if isinstance(title, Text) and title not in found]
    return [text for text in found if text.get_text().strip()]


def overlapping(figure: Figure) -> list[tuple[str, str]]:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()  # type: ignore[no-untyped-call]
    boxes = [(text.get_text(), Text.get_window_extent(text, renderer)) for text in shown(figure)]
    width = figure.bbox.width
    assert not [text for text, box in boxes if box.x1 > width + 2 or box.x0 < -2]
    return [(a, b) for (a, one), (b, other) in combinations(boxes, 2) if one.padded(-1).overlaps(other.padded(-1))]


CROWD = [
    *batch_results(
        {
            "nfnet-f0": (64, 2048, 0.004),
            "nfnet-f1": (32, 1024, 0.008),
            LONG: (128, 10**6, 0.002),
            "resnet50": (512, 10**6, 0.0018),
        },
        (16, 32, 64, 128, 256, 512, 1024, 2048),
    ),
    *agc_results(batches=(16, 32, 64, 128, 256, 512, 1024, 2048)),
    *(run(LONG, b, "none", 0.9, seed) for b in (16, 2048) for seed in (0, 1)),
    *norm_results(CPU),
    *layout_results(),
    *LATENCY,
]


WIDE = ("accuracy-vs-flops",)


@pytest.fixture(scope="module")
def crowd() -> Held:
    return held(*CROWD)


@pytest.mark.parametrize("kind", KINDS)
def test_no_text_covers_another_in_a_crowded_figure_of_a_column_or_page(kind: str, crowd: Held) -> None:
    with rc_context(STYLE):
        figures = [figure for _, figure in find(kind)(crowd).figures]
    assert figures
    for figure in figures:
        assert figure.get_figwidth() == (PAGE if kind in WIDE else COLUMN)
        assert overlapping(figure) == []


HOSTILE = ["x" * 10**6, "../<script>$\\frac$\x1b[31m\n"]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_drawn_as_text_inside_the_folder(name: str) -> None:
    results = [
        *(step(name, b, 0.1, px=32, machine=CPU, memory=GIB) for b in (8, 16)),
        step(name, 32, None, machine=CPU),
        *(step("tiny-resnet", 8, 0.1, px=32, machine=CPU), run("tiny-resnet", 8, "none")),
        *(run(name, b, clip) for b in (8, 16) for clip in (0.01, "none")),
    ]
    kinds = ["batch-throughput", "agc-heatmap"]
    found = held(*results)
    files = plots.draw(found, Path("f"), kinds).files
    assert {path.parent for path in files} == {Path("f")} and len(files) == 4
    assert all(b"<script>" not in path.read_bytes() for path in files)
    for kind in ("batch-step-time", "batch-accuracy", "agc-lines", "accuracy-vs-latency"):
        with rc_context(STYLE):
            assert find(kind)(found).figures, kind


@pytest.mark.parametrize("value", [math.nan, 1e-300, 1e300])
def test_values_that_no_axis_can_hold_are_named_and_the_rest_drawn(value: float) -> None:
    found = drawn("batch-step-time", step(batch=8), step(batch=16), step(batch=32, seconds=value))
    ((_, figure),) = found.figures
    assert len(points(figure.axes[0])) == 2 and len(found.drawn) == 2
    assert missing(found) == [("resnet50", 32, "no step time")]


def test_the_same_results_give_the_same_bytes() -> None:
    found = held(*RUNS)
    for folder in ("a", "b"):
        plots.draw(found, Path(folder), ["agc-heatmap"])
    for name in ("agc-heatmap.png", "agc-heatmap.svg"):
        assert Path("a", name).read_bytes() == Path("b", name).read_bytes()

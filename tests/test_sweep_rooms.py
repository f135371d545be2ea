"""What there is no room for in a figure of a sweep, and what reads in black and white."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import msgspec
import pytest
from make import CPU, H200, accuracy, once
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from sweep_cases import GIB, agc_results, batch_results, latency_results, layout_results, norm_results, run, step

from nfbench.analysis import accuracy as training
from nfbench.analysis import lines
from nfbench.analysis.rows import rows
from nfbench.records import Result
from nfbench.showing.kinds import KINDS, Drawing, Held, find
from nfbench.showing.style import STYLE, name

ROOM = "draw fewer at once, with --where"


def held(*results: Result) -> Held:
    return Held(rows(results)[0], results, training.rows(results)[0])


def drawn(kind: str, *results: Result) -> Drawing:
    with rc_context(STYLE):
        return find(kind)(held(*results))


def only(kind: str, *results: Result) -> Figure:
    ((_, figure),) = drawn(kind, *results).figures
    return figure


def why(drawing: Drawing) -> set[str]:
    return {m.why for m in drawing.missing}


def places(axes: Axes) -> list[tuple[float, float]]:
    """Of points and marks, not of the samples beside a strip."""
    some = [line for line in axes.lines if line.get_marker() not in ("None", "") and line.get_label() != "_sample"]
    return [(float(x), float(y)) for line in some for x, y in zip(*line.get_data(), strict=True)]


def at_rate(rate: float, clip: float) -> Result:
    """Runs at other rates, which no name tells, share a λ and a batch."""
    asked = {"batch": 64, "agc": clip, "lr": rate}
    return accuracy("tiny-nfnet", (0.5, 0.9), agc=clip, run=asked, training={"lr": rate})


def mess() -> list[Result]:
    """All that can be wrong with a sweep at once, on two machines, and more of it than figures have room for."""
    third = msgspec.structs.replace(CPU, name="../<b>\x1b[31m" + "m" * 10**5)
    return [
        *batch_results(),
        *agc_results(batches=(32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)),
        *norm_results(),
        *norm_results(CPU),
        *layout_results(),
        *latency_results(),
        *(step(f"timm:net{i}", b, 0.1, memory=GIB) for i in range(14) for b in (8, 16)),
        *(step("nfnet-f1", 2**i, 0.1) for i in range(1, 31)),
        *(step("nfnet-f2", 32 + i, value) for i, value in enumerate((float("nan"), 1e300, 1e-300, 0.0))),
        *(step(model, b, 0.1, machine=third) for model in ("$\\frac$", "<script>") for b in (8, 2**70)),
        *(run(f"timm:net{i}", b, "none", 0.5) for i in range(14) for b in (8, 16)),
        *(run("tiny-nfnet", 64, clip / 1000, 0.9) for clip in range(1, 16)),
        *(at_rate(rate, 0.5) for rate in (0.1, 0.2, 0.3)),
        *(run("tiny-resnet", b, clip, None) for b in (8, 16) for clip in (0.01, "none")),
        run("tiny-resnet", 8, 0.04, float("nan")),
        accuracy("tiny-nfnet-l", status="error", readings=(), resolved=None, message="broken"),
        accuracy("tiny-nfnet-s", status="out_of_memory", readings=(once("updates", 1.0),)),
    ]


@pytest.fixture(scope="module")
def messy() -> Held:
    return held(*mess())


@pytest.mark.parametrize(
    "kind",
    [
        *("batch-throughput", "batch-step-time", "batch-memory", "batch-accuracy", "agc-lines", "agc-heatmap"),
        *("accuracy-vs-latency", "accuracy-vs-flops", "norm-cost", "layouts"),
    ],
)
def test_every_row_of_a_mess_is_in_a_figure_or_left_out_once(kind: str, messy: Held) -> None:
    read = messy.rows if KINDS[kind].reads == "steps" else messy.trained
    with rc_context(STYLE):
        made = find(kind)(messy)
        for _, figure in made.figures:
            figure.draw_without_rendering()
    assert made.figures and made.drawn
    assert len(made.drawn) + len(made.missing) == len(read)
    both = [*made.drawn, *(m.row for m in made.missing)]
    assert len({id(row) for row in both}) == len(both)
    machines = {row["machine"] for row in made.drawn}
    assert {machine for machine, _ in made.figures} == machines


@pytest.mark.parametrize("kind", ["batch-throughput", "batch-step-time", "batch-memory", "batch-accuracy"])
def test_every_row_that_counts_as_drawn_is_a_point_or_a_mark(kind: str, messy: Held) -> None:
    with rc_context(STYLE):
        made = find(kind)(messy)
    above = sum(len(places(axes)) for _, figure in made.figures for axes in figure.axes[:1])
    both = sum("top1" in row and row.get("diverged", 0) > 0 for row in made.drawn)
    marks = sum(
        len(places(axes)) for _, figure in made.figures for axes in figure.axes[1:2] if any(map(sampled, axes.lines))
    )
    assert above + marks == len(made.drawn) + both


def test_every_run_that_counts_as_drawn_is_a_cell_of_a_map(messy: Held) -> None:
    with rc_context(STYLE):
        made = find("agc-heatmap")(messy)
    cells = {(row["net"], row["agc"], row["batch"]) for row in made.drawn}
    assert sum(len(figure.axes[0].patches) for _, figure in made.figures) == len(cells) < len(made.drawn)
    said = "\n".join(text.get_text() for _, figure in made.figures for text in figure.axes[0].texts).splitlines()
    whole = sum("top1" not in row for row in made.drawn)
    assert said.count("diverged") - said.count("1 of 2") == whole


def test_every_run_that_counts_as_drawn_is_a_point_of_each_panel_whose_cost_it_has(messy: Held) -> None:
    with rc_context(STYLE):
        made = find("accuracy-vs-flops")(messy)
    ((_, figure),) = made.figures
    # batches differ, so that the time is of an image
    costs = (lambda r: r["macs"], lambda r: r["params"], lambda r: r["train_step_time"] / r["batch"])
    for axes, cost in zip(figure.axes[:3], costs, strict=True):
        found = [at for line in axes.lines if line.get_label() != "_front" for at in zip(*line.get_data(), strict=True)]
        assert sorted((x, round(y, 9)) for x, y in found) == sorted(
            (cost(row), round(100 * row["top1"], 9)) for row in made.drawn
        )


@pytest.mark.parametrize(("kind", "panels"), [("norm-cost", 2), ("layouts", 1)])
def test_every_step_that_counts_as_drawn_is_a_row_with_a_dot_or_a_word(kind: str, panels: int, messy: Held) -> None:
    with rc_context(STYLE):
        made = find(kind)(messy)
    for machine, figure in made.figures:
        if machine == "NVIDIA H200":
            rows_here = sum(row["machine"] == machine for row in made.drawn)
            assert len(figure.axes) == panels + 1
            for axes in figure.axes[:panels]:
                assert len(places(axes)) + len(axes.texts) == rows_here
            heads = [t for t in figure.axes[0].get_yticklabels() if t.get_fontweight() == "bold"]
            assert len(figure.axes[0].get_yticks()) == rows_here + len(heads)


def test_a_cost_that_some_runs_lack_is_said() -> None:
    few = accuracy("tiny-resnet", agc=None, macs=0.0)
    made = drawn("accuracy-vs-flops", accuracy(), few)
    assert made.notes == ["1 of 2 runs on digits on A CPU have no MACs: they are in the other panels only"]
    assert len(made.drawn) == 2


def sampled(line: Any) -> bool:
    return bool(line.get_label() == "_sample")


def test_more_nets_and_batches_than_a_figure_has_room_for_are_left_out_and_those_that_compare_stay() -> None:
    nets = [step(f"timm:net{i:02}", b, 0.1) for i in range(13) for b in (8, 16)]
    made = drawn("batch-throughput", *nets)
    assert (len(made.drawn), len(made.missing)) == (24, 2)
    assert why(made) == {f"a figure has room for 12 lines: {ROOM}"}
    many = [step("nfnet-f1", 2**i, 0.1) for i in range(30)]
    made = drawn("batch-throughput", *many, *(step("nfnet-f0", 2**i, 0.2) for i in (28, 29)))
    assert {row["batch"] for row in made.drawn if row["net"] == "nfnet-f1"} == {
        *(2**i for i in range(22)),
        2**28,
        2**29,
    }
    assert why(made) == {f"a figure has room for 24 batches: {ROOM}"}


def test_a_net_that_failed_at_every_batch_is_marked_beside_others_and_left_out_alone() -> None:
    failed = [step("nfnet-f1", b, None) for b in (8, 16)]
    made = drawn("batch-throughput", *failed)
    assert made.figures == [] and why(made) == {"no value at any batch"}
    figure = only("batch-throughput", *failed, step(batch=8), step(batch=16))
    assert places(figure.axes[1]) == [(8, 0), (16, 0)]
    runs = [run(batch=b, agc=clip, top1=None if clip == "none" else 0.9) for b in (8, 16) for clip in (0.01, "none")]
    strip = only("batch-accuracy", *runs).axes[1]
    assert sorted(places(strip)) == [(8, 0), (16, 0)] and [t.get_text() for t in strip.texts] == ["25", "25"]


def test_of_two_values_at_one_batch_both_are_points_and_the_line_goes_through_one() -> None:
    results = [step(batch=8), step(batch=16), step(batch=16, seconds=0.3, threads=2)]
    axes = only("batch-step-time", *results).axes[0]
    assert sorted(x for x, _ in places(axes)) == [8, 16, 16]
    (line,) = [line for line in axes.lines if line.get_marker() in ("None", "")]
    assert list(line.get_xdata()) == [8, 16] and max(line.get_ydata()) < 0.2


def test_intervals_are_bars_from_end_to_end() -> None:
    results = [step(batch=b, seconds=s) for b in (8, 16) for s in (0.1, 0.11, 0.12, 0.11)]
    results = [msgspec.structs.replace(r, round=i % 4) for i, r in enumerate(results)]
    table = rows(results)[0]
    axes = only("batch-step-time", *results).axes[0]
    bars = [segment for some in axes.collections for segment in some.get_segments()]  # type: ignore[attr-defined]
    ends = {(float(low[0]), float(low[1]), float(high[1])) for low, high in bars}
    assert ends == {(row["batch"], row["step_time_low"], row["step_time_high"]) for row in table}


def test_an_accuracy_axis_ends_just_beyond_what_an_accuracy_can_be() -> None:
    runs = [run(batch=b, agc=clip, top1=top1) for b in (8, 16) for clip, top1 in ((0.01, 0.2), ("none", 1.0))]
    for kind in ("batch-accuracy", "agc-lines", "accuracy-vs-flops"):
        axes = only(kind, *runs).axes[0]
        assert 100 < axes.get_ylim()[1] < 104 and max(t for t in axes.get_yticks() if t <= axes.get_ylim()[1]) <= 100


def test_what_a_map_has_no_room_for_is_left_out() -> None:
    batches = [run("tiny-nfnet", 2**i, clip) for i in range(3, 12) for clip in (0.01, 0.02)]
    made = drawn("agc-heatmap", *batches)
    assert {row["batch"] for row in made.drawn} == {2**i for i in range(5, 12)}
    assert why(made) == {f"a figure has room for 7 batches: {ROOM}"}
    assert len(drawn("agc-lines", *batches).drawn) == 18
    clips = [run("tiny-nfnet", 64, clip / 100) for clip in range(1, 15)]
    made = drawn("agc-heatmap", *clips, run("tiny-nfnet", 64, "none"))
    assert len(made.drawn) == 12 and "none" in {row["agc"] for row in made.drawn}
    assert why(made) == {f"a figure has room for 12 λs: {ROOM}"}
    same = [at_rate(rate, 0.01) for rate in (0.1, 0.2, 0.3)]
    made = drawn("agc-heatmap", *same, at_rate(0.1, 0.02))
    assert len(made.drawn) == 3 and why(made) == {f"a figure has room for 2 rows of one λ and batch: {ROOM}"}


def test_more_nets_than_there_is_room_for_maps_are_left_out() -> None:
    made = drawn("agc-heatmap", *(run(f"timm:net{i:02}", 64, clip) for i in range(13) for clip in (0.01, 0.02)))
    assert len(made.figures) == 12 and {m.row["model"] for m in made.missing} == {"timm:net12"}
    assert why(made) == {f"there is room for 12 figures: {ROOM}"}
    assert len({str(figure.get_label()) for _, figure in made.figures}) == 12


def test_norms_at_more_batches_than_there_is_room_for_are_drawn_at_those_that_most_were_timed_at() -> None:
    both = [step("resnet50", 2**i, 0.1, norm=n, asked={"norm": n}) for i in range(20) for n in ("batch", "group")]
    made = drawn("norm-cost", *both, step("resnet50", 2**25, 0.1))
    assert len(made.drawn) == 36 and why(made) == {f"a figure has room for 36 rows: {ROOM}"}
    assert {m.row["batch"] for m in made.missing} == {2**18, 2**19, 2**25}


def test_dots_of_each_layout_and_precision_differ_without_colour_and_are_named_beside() -> None:
    figure = only("layouts", *layout_results())
    (box,) = [axes.get_legend() for axes in figure.axes if axes.get_legend()]
    assert [text.get_text() for text in box.get_texts()] == ["nchw, bf16", "nchw, fp32", "nhwc, bf16", "nhwc, fp32"]
    assert len({handle.get_marker() for handle in box.legend_handles}) == 4
    assert figure.axes[0].get_xlabel() == "step time"


def test_lines_differ_in_marker_or_dash_whatever_their_colours() -> None:
    nets = ("nfnet-f0", "nfnet-f1", "nf-resnet50", "resnet50", *(f"timm:net{i}" for i in range(8)))
    figure = only("batch-throughput", *(step(net, b, 0.1) for net in nets for b in (8, 16)))
    (box,) = [axes.get_legend() for axes in figure.axes if axes.get_legend()]
    looks = [(handle.get_marker(), str(handle._unscaled_dash_pattern)) for handle in box.legend_handles]  # type: ignore[attr-defined]
    assert len(set(looks)) == len(looks) == 12


def test_batches_of_many_digits_are_named_where_there_is_room() -> None:
    axes = only("batch-step-time", *(step("nfnet-f1", 2**i, 0.1) for i in range(24))).axes[0]
    canvas = FigureCanvasAgg(axes.figure)  # type: ignore[arg-type]
    canvas.draw()
    low, high = axes.get_xlim()
    ticks = [tick.label1 for tick in axes.xaxis.get_major_ticks() if low <= tick.get_loc() <= high]
    boxes = [tick.get_window_extent(canvas.get_renderer()) for tick in ticks]  # type: ignore[no-untyped-call]
    assert len(boxes) > 5 and ticks[0].get_text() == "1"
    assert all(one.x1 < other.x0 for one, other in pairwise(boxes))
    assert len(places(axes)) == 24


def test_nets_of_no_family_share_an_entry_of_the_legend_and_have_their_names_beside_their_points() -> None:
    figure = only("accuracy-vs-flops", *(run(f"timm:net{i}", 64, "none", 0.5 + 0.1 * i) for i in range(3)))
    named = [text.get_text() for axes in figure.axes if (box := axes.get_legend()) for text in box.get_texts()]
    assert "measured: other nets" in named and not any("timm:" in text for text in named)
    assert {"timm:net0", "timm:net1", "timm:net2"} <= {text.get_text() for text in figure.axes[0].texts}


def test_of_many_runs_of_few_nets_the_most_accurate_of_each_is_labelled_and_the_foot_says_so() -> None:
    runs = [run("tiny-nfnet", 64, clip / 100, 0.5 + clip / 100) for clip in range(1, 16)]
    figure = only("accuracy-vs-flops", *runs, run("tiny-resnet", 64, "none", 0.6))
    axes = figure.axes[0]
    assert [text.get_text() for text in axes.texts if text.get_text()] == ["nfnet", "resnet"]
    (label,) = [text for text in axes.texts if text.get_text() == "nfnet"]
    assert label.xy[1] == pytest.approx(65.0)  # type: ignore[attr-defined]
    assert "Of each net its most accurate run is labelled." in figure.get_supxlabel()
    (front,) = [line for line in axes.lines if line.get_label() == "_front"]
    assert sum(len(line.get_xdata()) for line in axes.lines if line is not front) == 16


def test_machines_have_figures_of_their_own() -> None:
    both = [step(batch=b, machine=machine) for b in (8, 16) for machine in (CPU, H200)]
    assert [machine for machine, _ in drawn("batch-throughput", *both).figures] == ["A CPU", "NVIDIA H200"]


def test_sam_reads_as_a_sentence_in_names() -> None:
    asked: dict[str, Any] = {"sam": 0.05, "sam_fraction": 0.2}
    results = [
        step("nfnet-f5", 32),
        step("nfnet-f5", 32, asked=asked),
        step("nfnet-f5", 32, asked=asked | {"sam_fraction": 1.0}),
    ]
    found = rows(results)[0]
    assert name(found[1], found) == "nfnet-f5, SAM ρ 0.05 on 20 % of each micro-batch"
    assert lines.names(found[:2]) == ["nfnet-f5, no SAM", "nfnet-f5, SAM ρ 0.05"]
    assert lines.names(found[1:]) == ["nfnet-f5, SAM on 20 % of the images", "nfnet-f5, SAM on 100 % of the images"]

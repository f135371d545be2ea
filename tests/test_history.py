from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from conftest import Cli
from make import CPU, H200, result
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from nfbench.analysis.rows import rows
from nfbench.analysis.store import Writer
from nfbench.records import Machine, Resolved, Result, Software, StepTime
from nfbench.showing import left_out, plots
from nfbench.showing.history import history
from nfbench.showing.kinds import Drawing, Held
from nfbench.showing.softwares import ticks
from nfbench.showing.style import COLUMN, PAGE, STYLE

TIMES = tuple(0.1 + 0.0001 * (i % 5) for i in range(30))


def software(number: int, **fields: object) -> Software:
    given = {"nfbench": "0.1.0", "torch": "2.15.0", "commit": f"{number:07x}fff", "dirty": False}
    return Software(**(given | fields))  # type: ignore[arg-type]


def at(number: int, model: str = "resnet50", scale: float = 1.0, **fields: object) -> Result:
    given = {"software": software(number), "start": f"2026-01-01T{number // 60:02}:{number % 60:02}:00.000Z"}
    return result(model, tuple(scale * t for t in TIMES), **(given | fields))


def draw(results: Sequence[Result]) -> Drawing:
    return history(Held(results=results))


def only(drawing: Drawing) -> Figure:
    ((_, figure),) = drawing.figures
    return figure


def points(axes: Axes) -> list[list[tuple[float, float]]]:
    return [[(float(x), float(y)) for x, y in zip(*line.get_data(), strict=True)] for line in axes.lines]


def bars(axes: Axes) -> list[np.ndarray]:
    return [segment for collection in axes.collections for segment in collection.get_segments()]  # type: ignore[attr-defined]


def labels(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.get_xticklabels()]


def resolved(**fields: object) -> Resolved:
    given = {"px": 224, "micro_batch": 32, "precision": "fp32", "layout": "nhwc"}
    return Resolved(**(given | fields))  # type: ignore[arg-type]


def test_each_workload_has_a_panel_with_a_point_for_each_software() -> None:
    found = [at(i, model, k * (1 + i / 10)) for i in range(3) for model, k in (("resnet50", 1), ("nf-resnet50", 2))]
    figure = only(draw(found))
    panels = {axes.get_title(loc="left"): points(axes) for axes in figure.axes}
    assert list(panels) == ["nf-resnet50", "resnet50"]
    for title, k in (("resnet50", 1), ("nf-resnet50", 2)):
        ((*line,),) = panels[title]
        assert line == [(i, pytest.approx(k * 100.2 * (1 + i / 10))) for i in range(3)]
    assert {axes.get_ylabel() for axes in figure.axes} == {"step time, ms"}
    assert figure.get_suptitle() == "A CPU: measured step time, 95 % intervals"
    assert "only `nfbench check` decides" in figure.get_supxlabel().replace("\n", " ")


def test_the_bars_are_the_intervals_of_the_rows() -> None:
    found = [at(0), *(at(1, scale=scale, round=n) for n, scale in enumerate((1, 1.2, 1.1, 1.15)))]
    table, _ = rows(found, everything=True)
    (axes,) = only(draw(found)).axes
    assert [[tuple(end) for end in bar] for bar in bars(axes)] == [
        [(i, pytest.approx(1e3 * row["step_time_low"])), (i, pytest.approx(1e3 * row["step_time_high"]))]
        for i, row in enumerate(table)
    ]
    low, high = axes.get_ylim()
    assert low <= min(bar[0][1] for bar in bars(axes)) and high >= max(bar[1][1] for bar in bars(axes))


def test_a_row_with_too_few_steps_has_a_point_and_no_bar() -> None:
    (axes,) = only(draw([at(0), at(1, readings=at(1).readings[:0] + result(times=(0.1, 0.1)).readings)])).axes
    assert len(points(axes)[0]) == 2 and len(bars(axes)) == 1


def test_noise_of_a_per_cent_does_not_fill_the_panel() -> None:
    (axes,) = only(draw([at(0), at(1, scale=1.005)])).axes
    low, high = axes.get_ylim()
    assert high - low > 8 and low > 50


def test_softwares_stand_in_the_order_of_their_first_result() -> None:
    late, early = software(7), software(3)
    found = [at(1, software=late), at(2, software=early), at(3, software=late, round=1), at(4, software=software(1))]
    (axes,) = only(draw(found)).axes
    assert labels(axes) == ["0000007", "0000003", "0000001"]


def test_labels_tell_what_differs_from_the_neighbour() -> None:
    softwares = [
        software(0),
        software(1, dirty=True),
        software(1, torch="2.16.0"),
        software(2, torch="2.16.0", timm="1.0.31"),
        software(2, nfbench="0.2.0", torch="2.16.0", timm="1.0.31", commit=None),
    ]
    assert ticks(softwares, 6.0).labels == [
        "0000000\nnfbench 0.1.0\ntorch 2.15.0\ntimm none",
        "0000001+",
        "0000001\ntorch 2.16.0",
        "0000002\ntimm 1.0.31",
        "nfbench 0.2.0",
    ]
    # upright where there is less room: the first one's versions go to the label of the axis
    (axes,) = only(draw([at(i, software=s) for i, s in enumerate(softwares)])).axes
    assert labels(axes) == ["0000000", "0000001+", "0000001, torch 2.16.0", "0000002, timm 1.0.31", "nfbench 0.2.0"]
    assert axes.get_xlabel().replace("\n", " ").endswith("; at first nfbench 0.1.0, torch 2.15.0, timm none")


def test_software_without_a_commit_that_is_like_its_neighbour_has_a_label() -> None:
    (axes,) = only(draw([at(0), at(1, software=software(1, commit=None, dirty=None))])).axes
    assert labels(axes) == ["0000000", "nfbench 0.1.0"]


def test_points_that_differ_in_what_an_auto_became_are_not_joined() -> None:
    found = [at(i, resolved=resolved(layout="nhwc" if i < 2 else "nchw")) for i in range(4)]
    (axes,) = only(draw(found)).axes
    assert [[x for x, _ in line] for line in points(axes)] == [[0, 1], [2, 3]]
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["layout nhwc", "layout nchw"]
    looks = {(line.get_marker(), line.get_linestyle()) for line in axes.lines}
    assert len(looks) == 2, "told apart without colour"


def test_more_lines_than_a_panel_has_room_for_are_named() -> None:
    drawing = draw([at(i, resolved=resolved(threads=i)) for i in range(8)])
    assert len(only(drawing).axes[0].lines) == 6
    assert [m.row["threads"] for m in drawing.missing] == [6, 7]
    assert {m.why for m in drawing.missing} == {"a panel has room for 6 lines: draw it from fewer files at once"}
    assert len(drawing.drawn) == 6


def test_workloads_of_a_model_are_told_apart_by_their_settings() -> None:
    asked = [StepTime(model="resnet50"), StepTime(model="resnet50", batch=64), StepTime(model="resnet50", ema=0.9)]
    figure = only(draw([at(i, workload=workload) for i in range(2) for workload in asked]))
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        "resnet50, batch 32",
        "resnet50, batch 64",
        "resnet50, batch 32, EMA 0.9",
    ]


def test_workloads_that_became_the_same_are_named_by_what_was_asked() -> None:
    asked = [StepTime(model="resnet50"), StepTime(model="resnet50", layout="nhwc")]
    figure = only(draw([at(i, workload=workload) for i in range(2) for workload in asked]))
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        "resnet50, asked for layout best",
        "resnet50, asked for layout nhwc",
    ]


def test_machines_are_never_joined() -> None:
    drawing = draw([at(i, scale=k, machine=machine) for i in range(2) for machine, k in ((CPU, 1), (H200, 2))])
    assert [machine for machine, _ in drawing.figures] == ["A CPU", "NVIDIA H200"]
    for (_, figure), k in zip(drawing.figures, (1, 2), strict=True):
        assert points(figure.axes[0]) == [[(i, pytest.approx(k * 100.2)) for i in range(2)]]


def test_one_software_on_each_of_two_machines_is_no_history() -> None:
    drawing = draw([at(0), at(1, machine=H200)])
    assert drawing.figures == [] and drawing.drawn == []
    assert [(m.row["machine"], m.why) for m in drawing.missing] == [
        (machine, "a step time by one software only; it takes two") for machine in ("A CPU", "NVIDIA H200")
    ]


def test_a_failure_is_no_point_and_is_named() -> None:
    drawing = draw([at(0), at(1), at(2, status="out_of_memory", readings=(), resolved=None)])
    assert len(points(only(drawing).axes[0])[0]) == 2
    ((row, why),) = drawing.missing
    assert row["software"].startswith("nfbench 0.1.0 (0000002") and why == "out of memory, no step time"


def test_workloads_beyond_twelve_are_named_and_those_with_most_softwares_stay() -> None:
    models = [f"net{i:02}" for i in range(14)]
    found = [at(i, model) for i in range(3) for model in models if i < 2 or model >= "net02"]
    drawing = draw(found)
    assert [axes.get_title(loc="left") for axes in only(drawing).axes] == models[2:]
    assert [m.row["model"] for m in drawing.missing] == ["net00"] * 2 + ["net01"] * 2
    assert {m.why for m in drawing.missing} == {"a figure has room for 12 workloads: draw it from fewer files at once"}
    assert len(drawing.drawn) == 36


def texts(figure: Figure) -> Iterator[Text]:
    yield from figure.texts
    for axes in figure.axes:
        yield from (axes.xaxis.label, axes.yaxis.label, axes._left_title)  # type: ignore[attr-defined]
        yield from (tick.label1 for tick in axes.xaxis.get_major_ticks() if tick.label1.get_visible())
        low, high = axes.get_ylim()
        yield from (tick.label1 for tick in axes.yaxis.get_major_ticks() if low <= tick.get_loc() <= high)


@pytest.mark.parametrize(("models", "count"), [(2, 3), (1, 8), (1, 40), (5, 40), (12, 3), (1, 300)])
def test_no_label_overlaps_another_or_leaves_the_figure(models: int, count: int) -> None:
    softwares = [software(i, torch=f"2.{i // 15}.0+cu130", timm=f"1.0.{i // 20}") for i in range(count)]
    found = [at(i, f"net{j}", 4**j, software=s) for i, s in enumerate(softwares) for j in range(models)]
    with rc_context(STYLE):
        figure = only(draw(found))
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        boxes = [text.get_window_extent(canvas.get_renderer()) for text in texts(figure) if text.get_text()]
    assert len(boxes) > 6
    width, height = canvas.get_width_height()
    for box in boxes:
        assert box.x0 >= -1 and box.y0 >= -1 and box.x1 <= width + 1 and box.y1 <= height + 1
    for one, other in itertools.combinations(boxes, 2):
        assert not (one.x0 < other.x1 and other.x0 < one.x1 and one.y0 < other.y1 and other.y0 < one.y1)
    assert figure.get_figwidth() == (COLUMN if models <= 6 else PAGE) and figure.get_figheight() <= 16


def test_where_labels_are_thinned_out_a_change_is_named_at_the_next_one() -> None:
    found = [at(i, software=software(i, torch="2.15.0" if i < 151 else "2.16.0")) for i in range(300)]
    (axes,) = only(draw(found)).axes
    shown = labels(axes)
    assert len(shown) < 150 and shown[-1] == f"{299:07x}"
    (change,) = [label for label in shown if "torch" in label]
    assert change.endswith(", torch 2.16.0") and 151 <= int(change[:7], 16) < 160
    assert axes.get_xlabel().replace("\n", " ").endswith("at first torch 2.15.0")
    assert len(points(axes)[0]) == 300


def test_hostile_names_break_nothing_and_stay_inside_the_folder() -> None:
    machine = Machine(device="cpu", name="../../etc/passwd\n\x00<b>$\\frac$漢")
    hostile = [
        software(0, commit="../../../x", torch="漢\x00" * 500),
        software(1, commit=None, nfbench="9" * 10_000),
        software(2, commit="\n" * 9, cuda="$\\x$"),
    ]
    found = [
        at(i, model, machine=machine, software=s)
        for i, s in enumerate(hostile)
        for model in ("x" * 100_000, "../..\n\x1b[31m<script>")
    ]
    found += [at(9, "y" * 100_000, float(t), machine=machine, software=s) for s in hostile for t in ("nan", "1e305")]
    drawn = plots.draw(Held(rows(found)[0], found), Path("f"), ["history"])
    assert [path.name for path in drawn.files] == ["history.png", "history.svg"]
    assert sorted(p.name for p in Path().rglob("*") if p.is_file()) == ["history.png", "history.svg"]
    assert "<script>" not in Path("f/history.svg").read_text()
    said, _ = left_out.lines(drawn.drawings)
    assert said and all(len(line) < 400 and line.isprintable() for line in said)


def test_the_same_results_give_the_same_bytes() -> None:
    for folder in ("a", "b"):
        plots.draw(Held(results=[at(0), at(1)]), Path(folder), ["history"])
    for name in ("history.png", "history.svg"):
        assert Path("a", name).read_bytes() == Path("b", name).read_bytes()


def test_plot_draws_a_history_where_two_softwares_were_measured(cli: Cli) -> None:
    writer = Writer(Path("results"))
    writer.write(at(0))
    done = cli("plot", "results")
    assert "history" not in done.output, "nobody asked for it"
    done = cli("plot", "results", "--kind", "history", "--kind", "step-time")
    assert done.exit_code == 0
    assert "Left out of history: resnet50, batch 32" in done.stderr
    assert "a step time by one software only; it takes two" in done.stderr
    done = cli("plot", "results", "--kind", "history")
    assert done.exit_code == 1
    assert "Nothing was drawn: the results hold too little for history." in done.stderr
    writer.write(at(1))
    assert "results/figures/history.svg" in cli("plot", "results").stdout.splitlines()
    done = cli("plot", "results", "--kind", "history")
    assert done.exit_code == 0 and done.stderr == ""
    assert done.stdout.splitlines() == ["results/figures/history.png", "results/figures/history.svg"]

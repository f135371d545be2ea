"""What holds for every kind of figure, over results of every sort."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
from make import CPU
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from messy import messy

from nfbench.analysis import accuracy
from nfbench.analysis.rows import choose, rows
from nfbench.records import Accuracy, Result, StepTime
from nfbench.showing import left_out, plots
from nfbench.showing.kinds import KINDS, PAGE_WIDE, Drawing, Held, find
from nfbench.showing.study import ratios
from nfbench.showing.style import COLUMN, PAGE

LEAST_TEXT = 7.0
UNIT = re.compile(
    r"%|(?<![A-Za-z])(ns|us|µs|ms|s|min|h|J|W|MHz|°C|[KMGTPE]?i?B|[GMk]?MACs)(?![A-Za-z])"
    r"|images|parameters|λ|batch|rank|epoch|update|step of the window|pass of the window|loss|times as fast"
)
"""What an axis counts, in its label or its ticks."""
GRAPHIC = 3.0  # WCAG's contrast of what must be seen


@cache
def results() -> list[Result]:
    return messy()


@cache
def held() -> Held:
    some = results()
    return Held(rows(some)[0], some, accuracy.rows(some)[0], ratios(some, everything=False))


@cache
def drawing(kind: str) -> Drawing:
    with plots.looks():
        made = find(kind)(held())
        for _, figure in made.figures:
            figure.draw_without_rendering()
    return made


def read(kind: str) -> int:
    """How many things there are for a kind to draw, counted from the results themselves."""

    def runs(workload: type) -> int:
        return sum(map(len, choose(r for r in results() if isinstance(r.workload, workload)).groups))

    return {
        "steps": lambda: len(rows(results())[0]),
        "softwares": lambda: len(rows(results(), everything=True)[0]),
        "trained": lambda: len(accuracy.rows(results())[0]),
        "ratios": lambda: len(ratios(results(), everything=False)),
        "timed": lambda: runs(StepTime),
        "seeds": lambda: runs(Accuracy),
        "nothing": lambda: 0,
    }[KINDS[kind].reads]()


def figures(kind: str) -> Iterator[Figure]:
    yield from (figure for _, figure in drawing(kind).figures)


def panels(figure: Figure) -> list[Axes]:
    return [axes for axes in figure.axes if axes.axison and axes.get_visible()]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_drawn_and_what_is_left_out_are_together_all_that_was_read(kind: str) -> None:
    made = drawing(kind)
    assert len(made.drawn) + len(made.missing) == read(kind)
    drawn = {id(row) for row in made.drawn}
    assert len(drawn) == len(made.drawn) and drawn.isdisjoint(id(m.row) for m in made.missing)


@pytest.mark.parametrize(
    "kind", ["step-time", "throughput", "energy", "speedup", "batch-throughput", "batch-step-time", "batch-memory"]
)
def test_there_are_as_many_markers_as_rows_are_said_to_be_drawn(kind: str) -> None:
    panes = [panels(figure) for figure in figures(kind)]
    if kind == "energy":
        # what has a panel of its own for throughput stands in that one again
        assert sum(_markers(some[0]) for some in panes) == len(drawing(kind).drawn)
        assert all(_markers(axes) == _markers(some[0]) for some in panes for axes in some)
    else:
        assert sum(_markers(axes) for some in panes for axes in some) == len(drawing(kind).drawn)


def test_there_is_a_stacked_bar_of_times_and_one_of_shares_for_each_row_that_is_drawn() -> None:
    for place in (0, 1):
        bars = 0
        for figure in figures("phases"):
            paths = [path for phase in figure.axes[place].collections for path in phase.get_paths()]
            bars += len({round(float(path.vertices[:, 1].mean() * 2)) for path in paths})
        assert bars == len(drawing("phases").drawn)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_drawn_from_results_that_hold_what_it_needs(kind: str) -> None:
    assert drawing(kind).figures


@pytest.mark.parametrize("kind", KINDS)
def test_the_reasons_for_what_is_left_out_are_in_words_and_name_the_row(kind: str) -> None:
    lines, _ = left_out.lines({kind: drawing(kind)})
    assert all(line.startswith(f"{kind}: ") and len(line) < 900 and line.isprintable() for line in lines)
    assert bool(lines) == bool(drawing(kind).missing or drawing(kind).notes)


@pytest.mark.parametrize("kind", KINDS)
def test_a_figure_is_as_wide_as_a_column_or_a_page_and_its_text_can_be_read_there(kind: str) -> None:
    for figure in figures(kind):
        assert figure.get_figwidth() <= (COLUMN if len(panels(figure)) == 1 else PAGE) + 1e-6
        assert figure.get_figwidth() <= (PAGE if kind in PAGE_WIDE else COLUMN) + 1e-6
        sizes = {t.get_fontsize() for t in figure.findobj(Text) if t.get_text().strip() and t.get_visible()}
        assert min(sizes) >= LEAST_TEXT


@pytest.mark.parametrize("kind", KINDS)
def test_every_axis_of_numbers_says_of_what_and_in_which_unit(kind: str) -> None:
    for figure in figures(kind):
        for axes in panels(figure):
            for axis, shared in ((axes.xaxis, axes.get_shared_x_axes()), (axes.yaxis, axes.get_shared_y_axes())):
                ticks = _numbers(axis)
                if not ticks:
                    continue
                siblings = [getattr(a, f"{axis.axis_name}axis") for a in shared.get_siblings(axes)]
                words = [a.get_label_text() for a in siblings if a.get_label_text()]
                assert words, (kind, axis.axis_name, ticks)
                assert any(UNIT.search(text) for text in (*words, *ticks)), (kind, words, ticks)


@pytest.mark.parametrize("kind", KINDS)
def test_figures_are_opaque_so_that_they_can_be_read_on_a_dark_page(kind: str) -> None:
    for figure in figures(kind):
        assert plots.STYLE["savefig.facecolor"] == "white"
        dark = [t for t in figure.findobj(Text) if t.get_text().strip() and _contrast(t.get_color()) < 2.0]
        # light letters stand on dark cells only
        assert all(_light(t.get_color()) for t in dark)


@pytest.mark.parametrize("kind", KINDS)
def test_entries_of_a_legend_differ_in_black_and_white_too(kind: str) -> None:
    for figure in figures(kind):
        for axes in figure.axes:
            legend = axes.get_legend()
            looks = [_grey(handle) for handle in legend.legend_handles] if legend is not None else []
            assert len(set(looks)) == len(looks), [t.get_text() for t in legend.get_texts()]


@pytest.mark.parametrize("kind", KINDS)
def test_no_text_covers_another(kind: str) -> None:
    for figure in figures(kind):
        renderer: Any = figure.canvas.get_renderer() if hasattr(figure.canvas, "get_renderer") else None
        beyond = _beyond(figure)
        texts = [t for t in figure.findobj(Text) if t.get_visible() and t.get_text().strip() and id(t) not in beyond]
        boxes = [(text.get_text(), text.get_window_extent(renderer)) for text in texts]
        for i, (one, box) in enumerate(boxes):
            for other, its in boxes[i + 1 :]:
                width = min(box.x1, its.x1) - max(box.x0, its.x0)
                height = min(box.y1, its.y1) - max(box.y0, its.y0)
                assert width < 2 or height < 2, (one, other)


def test_the_machines_of_a_file_never_share_a_figure() -> None:
    for kind in KINDS:
        if KINDS[kind].reads != "nothing":
            machines = {machine for machine, _ in drawing(kind).figures}
            assert None not in machines and machines <= {row["machine"] for row in [*held().rows, *held().trained]}


def test_a_single_sound_row_is_drawn_or_left_out_by_every_kind() -> None:
    one = [next(r for r in results() if r.machine == CPU and r.workload.model == "tiny-nfnet")]
    few = Held(rows(one)[0], one)
    for kind in KINDS:
        with plots.looks():
            made = find(kind)(few)
        expected = 1 if KINDS[kind].reads in ("steps", "timed", "softwares") else 0
        assert len(made.drawn) + len(made.missing) == expected, kind


def _markers(axes: Axes) -> int:
    """The points of an axes that are measured: a hollow one is reported."""
    told = [
        line for line in axes.lines if line.get_marker() not in ("None", None, "") and line.get_label() != "_sample"
    ]
    return sum(len(line.get_xdata()) for line in told if line.get_markerfacecolor() != "white")  # type: ignore[arg-type]


def _numbers(axis: Any) -> list[str]:
    """The texts of the ticks of an axis if they are numbers, not names of rows."""
    low, high = sorted(axis.get_view_interval())
    texts = [t.label1.get_text() for t in axis.get_major_ticks() if low <= t.get_loc() <= high]
    texts = [text for text in texts if text.strip()]
    numbers = [t for t in texts if re.match(r"[-−]?[0-9.,]+(e[-+]?[0-9]+)?( ?[A-Za-zµ%°]{0,3})?$", t)]
    return texts if texts and len(numbers) == len(texts) else []


def _grey(handle: Any) -> tuple[object, ...]:
    """What a handle looks like where there is no colour."""
    told = []
    for name in ("marker", "linestyle", "dashes", "hatch", "fillstyle", "linewidth", "markersize"):
        get = getattr(handle, f"get_{name}", None)
        told.append(str(get()) if get is not None else None)
    told.append(str(getattr(handle, "_unscaled_dash_pattern", "")))
    hollow = getattr(handle, "get_markerfacecolor", lambda: None)()
    told.append(hollow == "white")
    face = getattr(handle, "get_facecolor", lambda: None)()
    told.append(None if face is None else round(_luminance(face), 1))
    return tuple(told)


def _luminance(colour: Any) -> float:
    from matplotlib.colors import to_rgb

    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(colour: Any) -> float:
    return 1.05 / (_luminance(colour) + 0.05)


def _light(colour: Any) -> bool:
    return _luminance(colour) > 0.8


def _beyond(figure: Figure) -> set[int]:
    """The labels of ticks that are beyond the ends of their axis, which exist but are not drawn."""
    found = set()
    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        low, high = sorted(axis.get_view_interval())
        for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
            if not axis.axes.axison or not low <= tick.get_loc() <= high:
                found |= {id(tick.label1), id(tick.label2)}
    return found

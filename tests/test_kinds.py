"""What holds for every kind of figure, over results of every sort."""

from __future__ import annotations

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
from nfbench.showing.kinds import KINDS, Drawing, Held, find
from nfbench.showing.study import ratios
from nfbench.showing.style import COLUMN, PAGE

LEAST_TEXT = 7.0
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
        sizes = {t.get_fontsize() for t in figure.findobj(Text) if t.get_text().strip() and t.get_visible()}
        assert min(sizes) >= LEAST_TEXT


@pytest.mark.parametrize("kind", KINDS)
def test_every_axis_of_numbers_says_of_what_and_in_which_unit(kind: str) -> None:
    for figure in figures(kind):
        for axes in panels(figure):
            words = [axes.get_xlabel(), axes.get_ylabel()]
            shared = axes.get_shared_x_axes().get_siblings(axes), axes.get_shared_y_axes().get_siblings(axes)
            named = [any(w) for w in ((a.get_xlabel() for a in shared[0]), (a.get_ylabel() for a in shared[1]))]
            assert any(words) and any(named)


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

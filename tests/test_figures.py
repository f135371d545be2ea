"""What holds for every kind of figure, over results of every sort."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import all_sorts
import msgspec
import pytest
import sweep_cases
from figure_cases import drawn_from, held, marked, points
from make import H200, SOFTWARE, tuned
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text
from messy import messy

from nfbench.analysis.rows import choose, rows
from nfbench.records import Accuracy, Result, StepTime, of_kind
from nfbench.showing.figures import driver
from nfbench.showing.figures.canvas import settle
from nfbench.showing.figures.driver import Drawing
from nfbench.showing.figures.kinds import KINDS
from nfbench.showing.figures.style import COLUMN, PAGE, STYLE
from nfbench.showing.shown_rows import Shown

LEAST_TEXT = 7.0
UNIT = re.compile(
    r"%|(?<![A-Za-z])(ns|us|µs|ms|s|min|h|J|W|MHz|°C|[KMGTPE]?i?B|[GMk]?MACs)(?![A-Za-z])"
    r"|images|parameters|learning rate|λ|batch|rank|epoch|update|step of the window|pass of the window|loss"
    r"|times as fast"
)
"""What an axis counts, in its label or its ticks."""
COLLECTIONS = {"messy": messy, "sweeps": sweep_cases.mess}
CASES = [(collection, kind) for collection in COLLECTIONS for kind in KINDS]
every_case = pytest.mark.parametrize(("collection", "kind"), CASES)


@cache
def results(collection: str) -> list[Result]:
    return COLLECTIONS[collection]()


@cache
def held_of(collection: str) -> Shown:
    return held(*results(collection))


@cache
def drawing(collection: str, kind: str) -> Drawing:
    """The figures, laid out and rendered once."""
    made = drawn_from(kind, held_of(collection))
    for _, figure in made.figures:
        FigureCanvasAgg(figure)
        settle(figure)
        figure.draw_without_rendering()
    return made


def figures(collection: str, kind: str) -> Iterator[Figure]:
    yield from (figure for _, figure in drawing(collection, kind).figures)


def panels(figure: Figure) -> list[Axes]:
    return [axes for axes in figure.axes if axes.axison and axes.get_visible()]


def read(collection: str, kind: str) -> int:
    """How many things there are for a kind to draw, counted from the results themselves."""
    of = results(collection)

    def runs(workload: type) -> int:
        return sum(map(len, choose(r for r in of if isinstance(r.workload, workload)).groups))

    return {
        "steps": lambda: len(held_of(collection).steps),
        "softwares": lambda: len(rows(of, everything=True, brief=True)[0]),
        "trained": lambda: len(held_of(collection).trained),
        "ratios": lambda: len(held_of(collection).ratios),
        "timed": lambda: runs(StepTime),
        "seeds": lambda: runs(Accuracy),
        "searches": lambda: sum(
            any(r.resolved and r.resolved.training and r.resolved.training.search for r in group)
            for group in choose(of_kind(of, Accuracy)).groups
        ),
    }[KINDS[kind].reads]()


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_drawn_from_results_that_hold_what_it_needs(kind: str) -> None:
    assert any(drawing(collection, kind).figures for collection in COLLECTIONS)


@every_case
def test_every_row_is_drawn_or_named_with_a_reason_and_once(collection: str, kind: str) -> None:
    made = drawing(collection, kind)
    rows_of = {id(row): row for row in (*made.drawn, *(m.row for m in made.missing))}
    assert len(made.drawn) + len(made.missing) == len(rows_of)
    # a step that stands at what others reported of its net is no training run
    assert sum("top1_by_others" not in row for row in rows_of.values()) == read(collection, kind)
    assert all(m.why and not m.why.endswith(".") for m in made.missing)
    lines = driver.left_out({kind: made})
    assert all(line.startswith(f"{kind}: ") and len(line) < 900 and line.isprintable() for line in lines)
    assert bool(lines) == bool(made.missing or made.notes)
    # the machines of a file never share a figure
    assert {machine for machine, _ in made.figures} == {row["machine"] for row in made.drawn}


@pytest.mark.parametrize("collection", COLLECTIONS)
def test_what_counts_as_drawn_is_in_the_picture(collection: str) -> None:
    for kind in ("step-time", "throughput", "speedup"):
        there = sum(len(points(axes)) for figure in figures(collection, kind) for axes in panels(figure))
        assert there == len(drawing(collection, kind).drawn), kind
    for kind in ("batch-throughput", "batch-step-time", "batch-memory", "batch-accuracy"):
        made = drawing(collection, kind)
        above = sum(len(points(figure.axes[0])) for _, figure in made.figures)
        strips = [axes for _, figure in made.figures for axes in figure.axes if any(map(_is_sample, axes.lines))]
        marks = sum(len(line.get_xdata()) for axes in strips for line in marked(axes))
        both = sum("top1" in row and row.get("diverged", 0) > 0 for row in made.drawn)
        assert above + marks == len(made.drawn) + both, kind
    for kind in ("norm-cost", "layouts"):
        for machine, figure in drawing(collection, kind).figures:
            count = sum(row["machine"] == machine for row in drawing(collection, kind).drawn)
            heads = [t for t in figure.axes[0].get_yticklabels() if t.get_fontweight() == "bold"]
            assert len(figure.axes[0].get_yticks()) == count + len(heads)
            assert all(len(points(axes)) + len(axes.texts) == count for axes in panels(figure))
    cells = {(row["machine"], row["net"], row["agc"], row["batch"]) for row in drawing(collection, "agc-heatmap").drawn}
    assert sum(len(figure.axes[0].patches) for figure in figures(collection, "agc-heatmap")) == len(cells)
    for place in (0, 1):
        bars = 0
        for figure in figures(collection, "phases"):
            paths = [path for phase in figure.axes[place].collections for path in phase.get_paths()]
            bars += len({round(float(path.vertices[:, 1].mean() * 2)) for path in paths})
        ranks = sum(len(row.get("ranks", ())) for row in drawing(collection, "phases").drawn)
        assert bars == len(drawing(collection, "phases").drawn) + ranks


def _is_sample(line: Any) -> bool:
    return bool(line.get_label() == "_sample")


@every_case
def test_a_figure_is_as_wide_as_a_column_or_a_page_and_its_text_can_be_read_there(collection: str, kind: str) -> None:
    for figure in figures(collection, kind):
        assert figure.get_figwidth() in (COLUMN, PAGE)
        texts = [t for t in figure.findobj(Text) if t.get_text().strip() and t.get_visible()]
        assert min(t.get_fontsize() for t in texts) >= LEAST_TEXT
        # light letters stand on dark cells only, so that a figure can be read on a dark page too
        assert all(_luminance(t.get_color()) > 0.8 or 1.05 / (_luminance(t.get_color()) + 0.05) >= 2 for t in texts)
    assert STYLE["savefig.facecolor"] == "white"


@every_case
def test_no_text_covers_another_or_leaves_the_figure(collection: str, kind: str) -> None:
    for figure in figures(collection, kind):
        renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
        unseen = _unseen(figure)
        texts = [t for t in figure.findobj(Text) if t.get_visible() and t.get_text().strip() and id(t) not in unseen]
        boxes = [(text.get_text(), Text.get_window_extent(text, renderer)) for text in texts]
        width, height = figure.bbox.width, figure.bbox.height
        for text, box in boxes:
            assert box.x0 >= -2 and box.x1 <= width + 2 and box.y0 >= -2 and box.y1 <= height + 2, text
        for (one, box), (other, its) in combinations(boxes, 2):
            wide = min(box.x1, its.x1) - max(box.x0, its.x0)
            high = min(box.y1, its.y1) - max(box.y0, its.y0)
            assert wide < 2 or high < 2, (one, other)


@every_case
def test_every_axis_of_numbers_says_of_what_and_in_which_unit(collection: str, kind: str) -> None:
    for figure in figures(collection, kind):
        for axes in panels(figure):
            for axis, shared in ((axes.xaxis, axes.get_shared_x_axes()), (axes.yaxis, axes.get_shared_y_axes())):
                ticks = _numbers(axis)
                if ticks:
                    siblings = [getattr(a, f"{axis.axis_name}axis") for a in shared.get_siblings(axes)]
                    words = [a.get_label_text() for a in siblings if a.get_label_text()]
                    assert words, (axis.axis_name, ticks)
                    assert any(UNIT.search(text) for text in (*words, *ticks)), (words, ticks)
            shown = [t for t in axes.get_xticklabels() if t.get_text() and id(t) not in _unseen(figure)]
            boxes = [t.get_window_extent() for t in shown if t.get_rotation() == 0]
            assert all(one.x1 + 3 < other.x0 for one, other in pairwise(boxes)), "names of ticks run together"


@every_case
def test_entries_of_a_legend_differ_in_black_and_white_too(collection: str, kind: str) -> None:
    for figure in figures(collection, kind):
        for legend in (*figure.legends, *filter(None, (axes.get_legend() for axes in figure.axes))):
            looks = [_grey(handle) for handle in legend.legend_handles]
            assert len(set(looks)) == len(looks), [t.get_text() for t in legend.get_texts()]


def test_hostile_results_give_the_same_bytes_twice_inside_the_folder_and_nothing_of_theirs_runs() -> None:
    path, markup, *_ = all_sorts.HOSTILE
    older = msgspec.structs.replace(SOFTWARE, nfbench=markup)
    small = {"px": 32, "machine": H200}
    of = [
        *all_sorts.in_turns(markup, path, (0.1, 0.2), machine=H200),
        *(all_sorts.timed(markup, second=i, machine=H200, software=s) for i, s in enumerate((older, SOFTWARE))),
        *sweep_cases.batch_results({markup: (4, 16, 0.1), "nfnet-f0": (8, 16, 0.1)}, (4, 8, 16)),
        *sweep_cases.norm_results(),
        *sweep_cases.layout_results(),
        *(sweep_cases.step(name, 8, 0.1, precision="fp32", **small) for name in (path, markup)),
        *(
            sweep_cases.run(name, batch, clip, dataset=f"imagefolder:{markup}", machine=H200)
            for name in (path, markup)
            for batch in (8, 16)
            for clip in (0.01, "none")
        ),
        *(tuned(name, machine=H200) for name in (path, markup)),
    ]
    for folder in ("a", "b"):
        made = driver.draw(held(*of), Path(folder), (), ("svg",))
        assert len(set(made.files)) == len(made.files) and all(drawing.figures for drawing in made.drawings.values())
    names = sorted(path.name for path in Path("a").iterdir())
    assert names == sorted(path.name for path in Path("b").iterdir())
    for name in names:
        text = Path("a", name).read_bytes()
        assert text == Path("b", name).read_bytes(), name
        assert b"<script>" not in text
    assert {path.parent for path in Path().rglob("*.*") if path.is_file()} == {Path("a"), Path("b")}


def _numbers(axis: Any) -> list[str]:
    """The texts of the ticks of an axis if they are numbers, not names of rows."""
    low, high = sorted(axis.get_view_interval())
    texts = [t.label1.get_text() for t in axis.get_major_ticks() if low <= t.get_loc() <= high]
    texts = [text for text in texts if text.strip()]
    numbers = [t for t in texts if re.match(r"[-−]?[0-9.,]+(e[-+]?[0-9]+)?( ?[A-Za-zµ%°]{0,3})?$", t)]
    return texts if texts and len(numbers) == len(texts) else []


def _grey(handle: Any) -> tuple[object, ...]:
    """What a handle looks like where there is no colour."""
    names = ("marker", "linestyle", "dashes", "hatch", "fillstyle", "linewidth", "markersize")
    looks = [str(get()) if (get := getattr(handle, f"get_{name}", None)) is not None else None for name in names]
    looks.append(str(getattr(handle, "_unscaled_dash_pattern", "")))
    hollow = getattr(handle, "get_markerfacecolor", lambda: None)() == "white"
    face = getattr(handle, "get_facecolor", lambda: None)()
    return *looks, hollow, None if face is None else round(_luminance(face), 1)


def _luminance(colour: Any) -> float:
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _unseen(figure: Figure) -> set[int]:
    """The labels of ticks that are beyond the ends of their axis, which exist but are not drawn."""
    unseen = set()
    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        low, high = sorted(axis.get_view_interval())
        for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
            if not axis.axes.axison or not low <= tick.get_loc() <= high:
                unseen |= {id(tick.label1), id(tick.label2)}
    return unseen

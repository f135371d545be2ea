"""The energy of an image: by net, and against how many images a second there are."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from nfbench.analysis.rows import Row
from nfbench.showing.kinds import Drawing, Held
from nfbench.showing.labels import Label, place
from nfbench.showing.plots import each_machine
from nfbench.showing.row_names import height, labels
from nfbench.showing.style import COLUMN, PAGE, drawable, look, plain, series
from nfbench.showing.sweep_lines import legend, log_axis

_MOST = 24
_SCATTER = 3
"""Rows from which on throughput is set against energy."""
_NAMED = 10
"""Rows up to which a point bears its model's name, and no number, where the names are short."""
_SHORT = 18
_LOG = 8
"""How many times the least the most must be for a logarithmic axis."""
_TALLEST = 3.8
"""Inches of the panel of throughput."""
_NOTE = "Energy of the devices' own counters over the window: without the rest of the machine, evaluation or data."


def energy(held: Held) -> Drawing:
    """Joules of an image of each row, and from three rows on images a second against it, one figure a machine."""
    return each_machine(held, _MOST, _figure, _lacks)


def _lacks(row: Row) -> str:
    if "image_energy" not in row:
        return "no energy reading"
    sound = drawable(row["image_energy"]) and drawable(row.get("throughput"))
    return "" if sound else "an energy or throughput that no axis can hold"


def _look(row: Row) -> tuple[str, str, str]:
    """Colour, marker, and the family whose they are."""
    family = series(row["model"], row.get("family"))[1]
    return *look(family), family


def _figure(rows: Sequence[Row], machine: str) -> Figure:
    both = len(rows) >= _SCATTER
    numbered = both and (len(rows) > _NAMED or any(len(row["model"]) > _SHORT for row in rows))
    names = [f"{i}  {text}" if numbered else text for i, text in enumerate(labels(rows), 1)]
    looks = dict.fromkeys(_look(row) for row in rows)
    handles = [
        Line2D([], [], color=c, marker=m, linestyle="none", markersize=6, label=plain(f, 40) or "other")
        for c, m, f in looks
    ]
    columns = min(len(handles), 5 if both else 3)
    heights = [max(2.9 if both else 0.8, 0.4 + height(names) * len(rows)), 0.15 + 0.17 * -(-len(handles) // columns)]
    figure = Figure(figsize=(PAGE if both else COLUMN, sum(heights) + 0.8), layout="constrained")
    over = max(0.0, heights[0] - _TALLEST)
    ratios = [heights[0] - over, *([over] if over else []), heights[1]]
    grid = figure.add_gridspec(len(ratios), 1 + both, height_ratios=ratios)
    axes = figure.add_subplot(grid[:-1, 0])
    for at, row in enumerate(rows):
        _point(axes, row["image_energy"], at, row)
    axes.set_yticks(range(len(rows)), names, fontsize=7.5)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel("energy, J an image")
    _scale(axes.xaxis, [row["image_energy"] for row in rows], _bare)
    if both:
        # no taller than it is of use
        beside = figure.add_subplot(grid[0, 1])
        for row in rows:
            _point(beside, row["image_energy"], row["throughput"], row)
        _scale(beside.xaxis, [row["image_energy"] for row in rows], _bare)
        _scale(beside.yaxis, [row["throughput"] for row in rows], _bare)
        beside.set_xlabel("energy, J an image")
        beside.set_ylabel("throughput, images/s")
    legend(figure.add_subplot(grid[-1, :]), handles, columns)
    figure.suptitle(f"{plain(machine, 44)}: measured energy", x=0.01, ha="left", fontsize=9)
    note = _NOTE if both else _NOTE.replace(": ", ":\n")
    figure.supxlabel(note, x=0.01, ha="left", fontsize=7)
    if both:
        texts = [str(i) if numbered else plain(row["model"], _SHORT) for i, row in enumerate(rows, 1)]
        points = zip(rows, texts, strict=True)
        place(figure, {beside: [Label(r["image_energy"], r["throughput"], text, _look(r)[0]) for r, text in points]})
    return figure


def _point(axes: Axes, x: float, y: float, row: Row) -> None:
    colour, marker, _ = _look(row)
    axes.plot([x], [y], color=colour, marker=marker, markersize=6, linestyle="none", zorder=3)


def _bare(value: float) -> str:
    return f"{value:,.6g}"


def _scale(axis: Axis, values: Sequence[float], text: Callable[[float], str]) -> None:
    """From 0 on, or logarithmic where the values lie far apart."""
    if max(values) > _LOG * min(values):
        log_axis(axis, values, text, 10, least=1.0)
    else:
        axis._set_lim(0, 1.12 * max(values), auto=None)  # type: ignore[attr-defined]

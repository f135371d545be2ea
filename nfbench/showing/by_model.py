"""A row of dots: the step time and the throughput of each model, with intervals."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from functools import wraps

from matplotlib.figure import Figure

from nfbench.analysis.rows import Row
from nfbench.showing.file_names import distinct
from nfbench.showing.kinds import Drawing, Held, without
from nfbench.showing.plots import room_for
from nfbench.showing.style import COLUMN, drawable, interval, look, names, plain, series
from nfbench.showing.sweep_lines import log_axis, number

MOST = 40
"""Rows that a figure of nets has room for."""
_DECADE = 12
"""How many times the least value the largest may be on an axis that begins at 0."""
_LINE = 38
"""Characters of a line of a name beside an axis."""


def each_machine(figure: Callable[[Sequence[Row], str], Figure]) -> Callable[[Held], Drawing]:
    """Draw the rows of each machine that have a step time in a figure of their own."""

    @wraps(figure)
    def draw(held: Held) -> Drawing:
        machines: dict[str, list[Row]] = {}
        drawing = Drawing()
        for row in held.rows:
            if row["batch"] < 1:
                drawing.leave_out([row], "no image in its batch")
            elif drawable(row.get("step_time")):
                machines.setdefault(row["machine"], []).append(row)
            else:
                drawing.leave_out([row], without(row, "step time"))
        for machine, rows in machines.items():
            shown = room_for(rows, MOST, drawing)
            drawing.figures.append((machine, figure(shown, machine)))
            drawing.drawn.extend(shown)
        return drawing

    return draw


@each_machine
def step_time(rows: Sequence[Row], machine: str) -> Figure:
    """Milliseconds of one optimizer update per model, with intervals."""
    return _by_model(rows, machine, "step time", "ms", lambda seconds, _: 1e3 * seconds)


@each_machine
def throughput(rows: Sequence[Row], machine: str) -> Figure:
    """Images per second per model, with the intervals of the step time."""
    return _by_model(rows, machine, "throughput", "images/s", lambda seconds, row: row["batch"] / seconds)


def _by_model(rows: Sequence[Row], machine: str, what: str, unit: str, value: Callable[[float, Row], float]) -> Figure:
    figure = Figure(figsize=(COLUMN, 0.9 + 0.24 * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    extent: list[float] = []
    for at, row in enumerate(rows):
        colour, marker = look(series(row["model"], row.get("family"))[1])
        if (ends := interval(row)) is not None:
            x = sorted(value(end, row) for end in ends)
            extent += x
            axes.plot(x, [at, at], color=colour, linewidth=2, solid_capstyle="butt", zorder=2)
        centre = value(row["step_time"], row)
        axes.plot([centre], [at], color=colour, marker=marker, markersize=6, linestyle="none", zorder=3)
        extent.append(centre)
    axes.set_yticks(range(len(rows)), distinct(map(_folded, names(rows)), "{} ({})"), fontsize=7)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    if max(extent) > _DECADE * min(extent):
        log_axis(axes.xaxis, extent, number, 10, least=1.0)
    else:
        axes.set_xlim(0, 1.06 * max(extent))
    axes.set_xlabel(f"{what}, {unit}")
    figure.suptitle(f"{plain(machine, 44)}: measured {what}, 95 % intervals", x=0.01, ha="left", fontsize=9)
    return figure


def _folded(text: str) -> str:
    """A name beside an axis, in two lines at most: a long one would leave the axis no room."""
    return "\n".join(textwrap.wrap(plain(text, 2 * _LINE - 6), _LINE)[:2])

"""A row of dots: the step time and the throughput of each model, with intervals."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence

from matplotlib.figure import Figure

from nfbench.analysis.rows import Row
from nfbench.showing.file_names import distinct
from nfbench.showing.kinds import Drawing, Held
from nfbench.showing.plots import each_machine
from nfbench.showing.style import COLUMN, interval, look, names, plain, series
from nfbench.showing.sweep_lines import log_axis, number

MOST = 40
"""Rows that a figure of nets has room for."""
_DECADE = 12
"""How many times the least value the largest may be on an axis that begins at 0."""
_LINE = 38
"""Characters of a line of a name beside an axis."""


def step_time(held: Held) -> Drawing:
    """Milliseconds of one optimizer update per model, with intervals."""

    def figure(rows: Sequence[Row], machine: str) -> Figure:
        return _by_model(rows, machine, "step time", "ms", lambda seconds, _: 1e3 * seconds)

    return each_machine(held, MOST, figure, _lacks)


def throughput(held: Held) -> Drawing:
    """Images per second per model, with the intervals of the step time."""

    def figure(rows: Sequence[Row], machine: str) -> Figure:
        return _by_model(rows, machine, "throughput", "images/s", lambda seconds, row: row["batch"] / seconds)

    return each_machine(held, MOST, figure, _lacks)


def _lacks(row: Row) -> str:
    return "" if row["batch"] > 0 else "no image in its batch"


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

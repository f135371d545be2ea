"""Dots with intervals below each other, in groups with a header: what figures that compare settings share."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MultipleLocator

from nfbench.showing.labels import dark
from nfbench.showing.style import COLUMN, PAGE
from nfbench.showing.sweep_lines import columns_of, entitle, legend, log_axis

_NOTE = "Bars: 95 % intervals."


class Value(NamedTuple):
    """A value with its interval, in SI units."""

    value: float
    low: float | None = None
    high: float | None = None


class Dot(NamedTuple):
    """A row of the figure: its label, what it is drawn as and named in the legend, a value a panel or why none."""

    label: str
    colour: str
    marker: str
    named: str
    values: Sequence[Value | None]
    why: str


class Panel(NamedTuple):
    """A quantity: the label of its axis, how its ticks read, whether in powers of 2, and what is said of it below."""

    label: str
    text: Callable[[float], str]
    binary: bool = False
    note: str = ""


def draw(groups: Sequence[tuple[str, Sequence[Dot]]], panels: Sequence[Panel], title: str) -> Figure:
    """The dots of each group below its header, a column for each panel that has a value."""
    used = [i for i in range(len(panels)) if any(d.values[i] for _, dots in groups for d in dots)]
    named = {d.named: d for _, dots in groups for d in dots}
    handles = [
        Line2D([], [], color=d.colour, marker=d.marker, linestyle="none", markersize=6, label=text)
        for text, d in named.items()
    ]
    wide = COLUMN if len(used) == 1 else PAGE
    columns, deep = columns_of(handles, wide)
    number = sum(len(dots) + 1 for _, dots in groups)
    heights = [0.4 + 0.18 * number, 0.1 + 0.16 * deep]
    figure = Figure(figsize=(wide, sum(heights) + 0.3), layout="constrained")
    entitle(figure, title, " ".join(filter(None, [_NOTE, *(panels[i].note for i in used)])))
    grid = figure.add_gridspec(2, len(used), height_ratios=heights)
    longest = max(len(text) for header, dots in groups for text in (header, *(dot.label for dot in dots)))
    first: Axes | None = None
    for column, i in enumerate(used):
        axes = figure.add_subplot(grid[0, column], sharey=first)
        _dots(axes, groups, i, panels[i], (wide - 0.5 - longest * 0.052) / len(used))
        if first is not None:
            axes.tick_params(labelleft=False)
        first = first or axes
    legend(figure.add_subplot(grid[1, :]), handles, columns)
    return figure


def _dots(axes: Axes, groups: Sequence[tuple[str, Sequence[Dot]]], panel: int, what: Panel, inches: float) -> None:
    ticks: list[str] = []
    heads: list[int] = []
    values: list[float] = []
    for header, dots in groups:
        heads.append(len(ticks))
        ticks.append(header)
        for dot in dots:
            place, value = len(ticks), dot.values[panel]
            ticks.append(dot.label)
            if value is None:
                axes.annotate(
                    dot.why,
                    (0.03, place),
                    xycoords=("axes fraction", "data"),
                    fontsize=7,
                    va="center",
                    color=dark(dot.colour),
                )
                continue
            values += [v for v in value if v is not None]
            if value.low is not None and value.high is not None:
                axes.plot([value.low, value.high], [place] * 2, color=dot.colour, linewidth=2, solid_capstyle="butt")
            axes.plot([value.value], [place], color=dot.colour, marker=dot.marker, markersize=6, linestyle="none")
    axes.set_yticks(range(len(ticks)), ticks, fontsize=7)
    axes.set_ylim(len(ticks) - 0.5, -0.6)
    for head in heads:
        axes.get_yticklabels()[head].set_fontweight("bold")
        if head:
            axes.axhline(head - 0.5, color="#BBBBBB", linewidth=0.8)
    axes.set_xlabel(what.label)
    if max(values) > 8 * min(values):
        log_axis(axes.xaxis, values, what.text, 10, least=1.0, inches=inches)
    else:
        axes.set_xlim(0, 1.1 * max(values))
        if what.binary:
            axes.xaxis.set_major_locator(MultipleLocator(2.0 ** math.ceil(math.log2(max(values) / 4))))
        else:
            axes.locator_params(axis="x", nbins=max(2, min(5, int(inches / 0.6))))
        axes.xaxis.set_major_formatter(lambda value, _: what.text(value) if value else "0")

"""The step time of every rank: how far apart the devices of one run are."""

from __future__ import annotations

import math
import statistics
import textwrap
from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from nfbench import units
from nfbench.analysis import metrics
from nfbench.analysis.rows import Row
from nfbench.records import Result
from nfbench.showing.file_names import distinct
from nfbench.showing.kinds import Drawing, Held, without
from nfbench.showing.plots import room_for
from nfbench.showing.row_results import of_steps
from nfbench.showing.style import COLOURS, COLUMN, PAGE, drawable, names, plain
from nfbench.showing.sweep_lines import legend

_MOST = 8
_NOTE = (
    "Points: the median of a rank, bars from its 5th to its 95th percentile. Ranks wait for each other in every step;"
    " by itself a rank waits for none. Axes need not start at 0."
)


class _Read(NamedTuple):
    """A reading that every rank has, what it is called and drawn as, and how far beside the rank's place."""

    reading: str
    text: str
    colour: str
    marker: str
    beside: float


_READ = (
    _Read("step_time", "step, gradients reduced", COLOURS[0], "o", -0.12),
    _Read("unsynchronized_step", "step of the rank by itself", COLOURS[1], "s", 0.12),
)


class Spread(NamedTuple):
    """A rank's seconds: the median, the 5th and the 95th percentile."""

    median: float
    low: float
    high: float


def ranks(held: Held) -> Drawing:
    """Seconds of a step on each rank, a panel a row, one figure a machine."""
    drawing = Drawing()
    machines: dict[str, list[Row]] = {}
    for row in held.rows:
        if row.get("world_size", 1) < 2:
            drawing.leave_out([row], "one device only")
        elif not drawable(row.get("step_time")):
            drawing.leave_out([row], without(row, "step time"))
        else:
            machines.setdefault(row["machine"], []).append(row)
    several = [row for rows in machines.values() for row in rows]
    read = {id(made.row): _spreads(made.results) for made in of_steps(several, held.results, held.everything)}
    for machine, rows in machines.items():
        drawing.leave_out((row for row in rows if not read[id(row)]), "no whole step of each rank was timed")
        shown = room_for([row for row in rows if read[id(row)]], _MOST, drawing)
        if shown:
            drawing.figures.append((machine, _figure(shown, [read[id(row)] for row in shown], machine)))
            drawing.drawn.extend(shown)
    return drawing


_Spreads = dict[str, dict[int, Spread]]


def _spreads(results: Sequence[Result]) -> _Spreads:
    """Of each reading the spread of each rank, over the runs that have a rate; none where only one rank has it."""
    found: _Spreads = {}
    rated = [r for r in results if metrics.seconds(r) is not None]
    for read in _READ:
        values: dict[int, list[float]] = {}
        for reading in (reading for r in rated for reading in r.each(read.reading)):
            values.setdefault(reading.rank, []).extend(v for v in reading.finite if drawable(v))
        spreads = {rank: _spread(some) for rank, some in sorted(values.items()) if some}
        if len(spreads) > 1:
            found[read.reading] = spreads
    return found


def _spread(values: Sequence[float]) -> Spread:
    ordered = sorted(values)
    low, high = (ordered[round(share * (len(ordered) - 1))] for share in (0.05, 0.95))
    return Spread(statistics.median(ordered), low, high)


def _figure(rows: Sequence[Row], panels: Sequence[_Spreads], machine: str) -> Figure:
    columns = 1 if len(rows) == 1 else 2
    lines = math.ceil(len(rows) / columns)
    width = COLUMN if columns == 1 else PAGE
    note = textwrap.wrap(_NOTE, int(17.5 * width))
    heights = [2.05] * lines + [0.3 if columns == 2 else 0.45]
    figure = Figure(figsize=(width, sum(heights) + 0.5 + 0.13 * len(note)), layout="constrained")
    grid = figure.add_gridspec(lines + 1, columns, height_ratios=heights)
    titles = distinct((plain(text, 46) for text in names(rows)), "{} ({})")
    for place, (title, spreads) in enumerate(zip(titles, panels, strict=True)):
        axes = figure.add_subplot(grid[divmod(place, columns)])
        _draw(axes, spreads)
        head = [title, *(_said(read, spreads) for read in _READ if read.reading in spreads)]
        axes.set_title("\n".join(head), loc="left", fontsize=7.5)
    used = [read for read in _READ if any(read.reading in spreads for spreads in panels)]
    handles = [
        Line2D([], [], color=read.colour, marker=read.marker, markersize=5, linewidth=1.4, label=read.text)
        for read in used
    ]
    legend(figure.add_subplot(grid[lines, :]), handles, columns)
    figure.suptitle(f"{plain(machine, 44)}: measured step time by rank", x=0.01, ha="left", fontsize=9)
    figure.supxlabel("\n".join(note), x=0.01, ha="left", fontsize=7)
    return figure


def _said(read: _Read, spreads: _Spreads) -> str:
    """ "by itself: rank 3 takes 1.03 × the time of rank 0"."""
    own = spreads[read.reading]
    slow, quick = max(own, key=lambda rank: own[rank].median), min(own, key=lambda rank: own[rank].median)
    head = "reduced" if read.reading == "step_time" else "by itself"
    if own[slow].median == own[quick].median:
        return f"{head}: all ranks take the same time"
    ratio = units.significant(own[slow].median / own[quick].median, 3)
    return f"{head}: rank {slow} takes {ratio} × the time of rank {quick}"


def _draw(axes: Axes, spreads: _Spreads) -> None:
    extent: list[float] = []
    for read in _READ:
        own = spreads.get(read.reading)
        if own is None:
            continue
        x = [rank + read.beside for rank in own]
        low, middle, high = ([1e3 * getattr(s, part) for s in own.values()] for part in ("low", "median", "high"))
        axes.vlines(x, low, high, color=read.colour, linewidth=1.2)
        size = 5 if len(own) <= 16 else 3
        axes.plot(x, middle, color=read.colour, marker=read.marker, markersize=size, linestyle="none", label=read.text)
        extent += [*low, *high]
    bottom, top = min(extent), max(extent)
    # so that noise of a per cent doesn't look like a cliff
    room = max(0.08 * (top - bottom), 0.05 * top)
    axes.set_ylim(max(0.0, bottom - room), top + room)
    axes.ticklabel_format(axis="y", useOffset=False)
    axes.locator_params(axis="y", nbins=5)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=9, integer=True, min_n_ticks=1))
    axes.set_xlim(min(min(own) for own in spreads.values()) - 0.6, max(max(own) for own in spreads.values()) + 0.6)
    axes.set_xlabel("rank", fontsize=8)
    axes.set_ylabel("time, ms", fontsize=8)

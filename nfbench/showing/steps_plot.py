"""Every step of a run, with the clock, the temperature and the power of the card below it."""

from __future__ import annotations

import statistics
import textwrap
from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from nfbench import units
from nfbench.analysis import metrics
from nfbench.analysis.rows import family_of
from nfbench.records import Result
from nfbench.showing.kinds import Drawing, Held, without
from nfbench.showing.row_results import Made, of_steps, single
from nfbench.showing.style import PAGE, look, plain, series
from nfbench.showing.sweep_lines import log_axis
from nfbench.showing.timeline import Timeline, timeline
from nfbench.units import slug

_MOST = 2
_RANKS = 8
"""Ranks whose samples are drawn."""
_BEGINS = 60
"""Places of blocks up to which they are drawn."""
_LOG = 4
"""How many times the median the longest must take for a logarithmic axis."""
_GREY = "#8A8A8A"


class _Sampled(NamedTuple):
    """A quantity that is sampled beside the steps: its reading, label, factor, and what it can be at all."""

    reading: str
    label: str
    factor: float
    least: float
    most: float


_SAMPLED = (
    _Sampled("sm_clock", "SM clock,\nMHz", 1e-6, 0.0, 1e12),
    _Sampled("temperature", "temperature,\n°C", 1.0, -273.15, 1e4),
    _Sampled("power", "power,\nW", 1.0, 0.0, 1e7),
)


def steps(held: Held) -> Drawing:
    """Seconds of every step of a run, one figure each; of more runs than there is room for the newest of each row."""
    drawing = Drawing()
    several: list[tuple[int, Made, Result]] = []
    for made in of_steps(held.rows, held.results, held.everything):
        with_time = [r for r in made.results if metrics.seconds(r) is not None]
        for result in (r for r in made.results if metrics.seconds(r) is None):
            drawing.leave_out([single(made, result)], without(single(made, result), "step time"))
        newest = sorted(with_time, key=lambda r: (r.status == "ok", r.start), reverse=True)
        several += [(place, made, result) for place, result in enumerate(newest)]
    several.sort(key=lambda one: one[2].start, reverse=True)
    several.sort(key=lambda one: (one[0], one[2].status != "ok"))
    number = 0
    for _, made, result in several:
        row = single(made, result)
        line = timeline(result) if number < _MOST else None
        if number >= _MOST:
            drawing.leave_out(
                [row], f"a figure is of one run; the {_MOST} newest are drawn: use --where or fewer files"
            )
        elif line is None:
            drawing.leave_out([row], "no step time that an axis can hold")
        else:
            number += 1
            figure = _figure(result, line, made.row["machine"])
            figure.set_label(f"{slug(row['model'])}-{number}")
            drawing.figures.append((made.row["machine"], figure))
            drawing.drawn.append(row)
    return drawing


def _figure(result: Result, line: Timeline, machine: str) -> Figure:
    sampled = [s for s in _SAMPLED if any(_samples(result, s))]
    note = textwrap.wrap(_note(result, line, sampled), 125)
    heights = [2.3, *(0.85 for _ in sampled), 0.45]
    figure = Figure(figsize=(PAGE, sum(heights) + 0.85 + 0.13 * len(note)), layout="constrained")
    grid = figure.add_gridspec(len(heights), 1, height_ratios=heights)
    axes = figure.add_subplot(grid[0])
    handles = _steps(axes, result, line)
    last = axes
    for place, one in enumerate(sampled, 1):
        last.tick_params(axis="x", labelbottom=False)
        last = figure.add_subplot(grid[place], sharex=axes)
        _panel(last, _samples(result, one), one, line.end)
    last.set_xlabel("pass of the window" if result.composed else "step of the window")
    below = figure.add_subplot(grid[-1])
    below.axis("off")
    columns = len(handles) if len(handles) < 5 else 3
    below.legend(handles=handles, loc="center", ncols=columns, fontsize=7.5, frameon=False).set_in_layout(False)
    figure.align_ylabels()
    title = f"{plain(machine, 44)}: every {'pass' if result.composed else 'step'} of {plain(result.step.model, 40)}"
    figure.suptitle(f"{title}\nmeasured: {_settings(result)}", x=0.01, ha="left", fontsize=9)
    figure.supxlabel("\n".join(note), x=0.01, ha="left", fontsize=7)
    return figure


def _settings(result: Result) -> str:
    parts = [f"batch {result.step.batch}"]
    if (resolved := result.resolved) is not None:
        parts += [f"{resolved.px} px", resolved.precision, resolved.layout]
    parts += [f"{result.step.world_size} devices, the slowest of each step"] if result.step.world_size > 1 else []
    parts += [f"round {result.round + 1}"] if result.round else []
    parts += [f"turn {result.turn + 1}"] if result.turn else []
    return ", ".join([*parts, plain(result.start, 24), *([result.status] if result.status != "ok" else [])])


def _note(result: Result, line: Timeline, sampled: Sequence[_Sampled]) -> str:
    parts = list(line.notes)
    if line.middle.low is None:
        parts.append("The median has no interval: the steps are too few, or depend too much on each other.")
    if sampled:
        names = " and ".join(s.label.partition(",")[0] for s in sampled)
        parts.append(f"Of {names} there are samples over the window, placed evenly: not one a step.")
    parts += [f"They are of the first {_RANKS} ranks."] if result.step.world_size > _RANKS and sampled else []
    if result.conditions.throttle:
        parts.append(f"The card was throttled: {plain(', '.join(result.conditions.throttle), 200)}.")
    return " ".join([*parts, "The y axes need not start at 0."])


def _steps(axes: Axes, result: Result, line: Timeline) -> list[Line2D | Patch]:
    colour, _ = look(series(result.step.model, family_of(result.step.model))[1])
    what, whole = ("pass", "an update") if result.composed else ("step", "a block")
    if len(line.begins) <= _BEGINS:
        for place in line.begins:
            axes.axvline(place - 0.5, color=_GREY, linestyle="--", linewidth=0.7, zorder=1)
    size = 4 if len(line.timed) <= 200 else 2 if len(line.timed) <= 500 else 1.3
    handles: list[Line2D | Patch] = []
    for points, text, shade, marker in (
        (line.timed, what, colour, "o"),
        (line.apart, f"first {what} of {whole} (not in the median)", "black", "^"),
        (line.warm_up, "warm-up", _GREY, "x"),
    ):
        if points:
            x, y = [p.x for p in points], [1e3 * p.seconds for p in points]
            drawn = axes.plot(x, y, color=shade, marker=marker, linestyle="none", label=text, zorder=3)
            drawn[0].set_markersize(size if marker == "o" else max(size, 3))
            handles += drawn
    value, low, high = line.middle
    ends = [0.5, line.end + 0.5]
    axes.plot(ends, [1e3 * value] * 2, color="black", linewidth=1, zorder=4)
    text = f"median {units.seconds(value, 3)}"
    if low is not None and high is not None:
        axes.fill_between(ends, 1e3 * low, 1e3 * high, color=_GREY, alpha=0.35, linewidth=0, zorder=2)
        handles.insert(1, Patch(facecolor=_GREY, alpha=0.35, label="its 95 % interval"))
    handles.insert(1, Line2D([], [], color="black", linewidth=1, label=text))
    if 0 < len(line.begins) <= _BEGINS:
        text = "an update begins" if result.composed else "a block begins"
        handles.append(Line2D([], [], color=_GREY, linestyle="--", linewidth=0.7, label=text))
    axes.grid(visible=False, axis="x")
    axes.set_ylabel(f"time of a {what}, ms")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    first = min([1.0, *(p.x for p in line.warm_up)])
    axes.set_xlim(first - 0.7 - 0.01 * line.end, line.end + 0.7 + 0.01 * line.end)
    _scale(axes, [1e3 * p.seconds for p in (*line.timed, *line.apart, *line.warm_up)])
    return handles


def _scale(axes: Axes, values: Sequence[float]) -> None:
    if max(values) > _LOG * statistics.median(values):
        log_axis(axes.yaxis, values, lambda v: f"{v:,.6g}", 10, least=1.0)
    else:
        _around(axes, values, 5)


def _around(axes: Axes, values: Sequence[float], ticks: int) -> None:
    """Limits near the values, but so far that noise of a per cent doesn't look like a cliff."""
    low, high = min(values), max(values)
    room = max(0.08 * (high - low), 0.02 * abs(high), 0.5)
    axes.set_ylim(low - room if low < 0 else max(0.0, low - room), high + room)
    axes.locator_params(axis="y", nbins=ticks)
    axes.ticklabel_format(axis="y", useOffset=False)


def _samples(result: Result, of: _Sampled) -> list[list[float]]:
    """The samples of each rank, in the unit of the label; a rank without one has none."""
    ranks = [[of.factor * v for v in r.finite if of.least < v < of.most] for r in result.each(of.reading)[:_RANKS]]
    return [samples for samples in ranks if samples]


def _panel(axes: Axes, ranks: Sequence[Sequence[float]], of: _Sampled, end: float) -> None:
    for samples in ranks:
        step = end / len(samples)
        x = [0.5 + step * (i + 0.5) for i in range(len(samples))]
        axes.plot(x, samples, color="black", linewidth=0.8, marker=".", markersize=3, label=of.reading)
    axes.grid(visible=False, axis="x")
    axes.set_ylabel(of.label, fontsize=7.5)
    axes.tick_params(axis="y", labelsize=7.5)
    _around(axes, [v for samples in ranks for v in samples], 3)

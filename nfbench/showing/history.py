"""The step time of each workload over commits and versions.

A workload has a panel, since nets differ by orders of magnitude; in it, points are joined only where they are equal in
what each `auto` became.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nfbench.analysis.rows import Row, choose
from nfbench.analysis.rows import rows as rows_of
from nfbench.records import Machine, Resolved, Result, Software, StepTime, key
from nfbench.showing.kinds import Drawing, Held, Missing, without
from nfbench.showing.softwares import LINE, word
from nfbench.showing.softwares import ticks as ticks_of
from nfbench.showing.style import COLOURS, COLUMN, MARKERS, PAGE, drawable, in_order, interval, name, plain
from nfbench.showing.sweep_lines import MOST_FIGURES, entitle

_NOTE = (
    "Points are of separate runs, not interleaved: differences of a few per cent are the machine's noise between"
    " sessions; only `nfbench check` decides. A point without a bar has too few steps for an interval. The y axes need"
    " not start at 0."
)
_PANELS, _LINES = 12, 6
_DASHES = ("-", "--", ":", "-.")
_KEY = 0.135
"""Inches of a line of a legend."""


class Point(NamedTuple):
    """A row, with what it stands for and the start of the first of its results."""

    row: Row
    software: Software
    resolved: Resolved | None
    start: str


@dataclass(eq=False)
class Panel:
    """A workload on one machine: the points that can be drawn, and those that have no step time."""

    workload: StepTime
    title: str = ""
    points: list[Point] = field(default_factory=list)
    failed: list[Point] = field(default_factory=list)

    def softwares(self) -> set[Software]:
        """Those that have a point."""
        return {point.software for point in self.points}

    def lines(self) -> list[list[Point]]:
        """The points that may be joined, the longest line first."""
        found: dict[Resolved | None, list[Point]] = {}
        for point in self.points:
            found.setdefault(point.resolved, []).append(point)
        return sorted(found.values(), key=len, reverse=True)

    def names(self) -> list[str]:
        """What each line is of, in settings in which they differ; none where there is one."""
        lines = self.lines()
        resolved = [line[0].resolved for line in lines]
        named = (plain(_differences(r, resolved)) if r else "unknown settings" for r in resolved)
        return list(named) if len(lines) > 1 else []

    def legend(self) -> list[str]:
        """The names of the lines that there is room for."""
        return self.names()[:_LINES]


def history(held: Held) -> Drawing:
    """Step time over softwares in the order of their first result, one figure a machine and one panel a workload."""
    drawing = Drawing()
    for machine, panels in _panels(held.results).items():
        enough = {panel: len(panel.softwares()) for panel in panels if len(panel.softwares()) > 1}
        room = len(drawing.figures) < MOST_FIGURES
        kept = set(sorted(enough, key=lambda panel: -enough[panel])[: _PANELS * room])
        for panel in panels:
            drawing.missing += [Missing(p.row, without(p.row, "step time")) for p in panel.failed]
            rows = [point.row for point in panel.points]
            if panel in kept:
                lines = panel.lines()
                drawing.drawn += [point.row for line in lines[:_LINES] for point in line]
                left = [point.row for line in lines[_LINES:] for point in line]
                drawing.leave_out(left, f"a panel has room for {_LINES} lines: draw it from fewer files at once")
            elif panel in enough and not room:
                drawing.leave_out(rows, f"there is room for {MOST_FIGURES} figures: draw it from fewer files at once")
            elif panel in enough:
                why = f"a figure has room for {_PANELS} workloads: draw it from fewer files at once"
                drawing.leave_out(rows, why)
            else:
                drawing.leave_out(rows, "a step time by one software only; it takes two")
        if kept:
            drawn = [panel for panel in panels if panel in kept]
            _entitle(drawn)
            drawing.figures.append((machine, _figure(machine, drawn, _order(panels))))
    return drawing


def _panels(results: Iterable[Result]) -> dict[str, list[Panel]]:
    """The panels of each machine, in the order of the other figures."""
    steps = [result for result in results if isinstance(result.workload, StepTime)]
    groups = choose(steps, everything=True).groups
    found: dict[str, dict[tuple[Machine, str], Panel]] = {}
    for row, group in zip(rows_of(steps, everything=True, brief=True)[0], groups, strict=True):
        first = group[0]
        panels = found.setdefault(row["machine"], {})
        panel = panels.setdefault((first.machine, key(first.workload)), Panel(first.step))
        point = Point(row, first.software, first.resolved, min(result.start for result in group))
        (panel.points if drawable(row.get("step_time")) else panel.failed).append(point)
    return {
        machine: sorted(panels.values(), key=lambda panel: in_order((panel.points or panel.failed)[0].row))
        for machine, panels in found.items()
    }


def _entitle(panels: Sequence[Panel]) -> None:
    """Name each panel by its model and the settings in which the panels differ, no two the same."""
    common = []
    for panel in panels:
        first, *others = [point.row for point in panel.points or panel.failed]
        # what differs within a panel names its lines
        common.append({k: v for k, v in first.items() if k != "software" and all(r.get(k) == v for r in others)})
    names = [name(row, common) for row in common]
    for panel, title in zip(panels, names, strict=True):
        twins = [p.workload for p, other in zip(panels, names, strict=True) if other == title]
        asked = _differences(panel.workload, twins)
        panel.title = f"{title}, asked for {asked}" if asked else title


def _differences(record: msgspec.Struct, others: Iterable[msgspec.Struct | None]) -> str:
    """The fields in which ``others`` are not all like ``record``: "layout nhwc, threads none"."""
    names = (f.name for f in msgspec.structs.fields(record))
    differ = (n for n in names if any(getattr(other, n, None) != getattr(record, n) for other in others))
    return ", ".join(plain(f"{n} {word(getattr(record, n))}", 40) for n in differ)


def _order(panels: Iterable[Panel]) -> list[Software]:
    first: dict[Software, str] = {}
    for point in (point for panel in panels for point in (*panel.points, *panel.failed)):
        first[point.software] = min(point.start, first.get(point.software, point.start))
    return sorted(first, key=lambda software: first[software])


def _figure(machine: str, panels: Sequence[Panel], order: Sequence[Software]) -> Figure:
    drawn = set().union(*(panel.softwares() for panel in panels))
    softwares = [software for software in order if software in drawn]
    columns = 1 if len(panels) <= 6 else 2
    lines = math.ceil(len(panels) / columns)
    whole = COLUMN if columns == 1 else PAGE
    width = whole / columns - 0.8  # without the ticks and the label of the y axis
    ticks = ticks_of(softwares, width)
    since = f"; at first {ticks.since}" if ticks.since else ""
    label = textwrap.wrap(f"software, in the order of its first result{since}", int(width / 0.075))
    labelled = 1 if len(panels) == lines * columns else 2  # a column that is shorter has its labels a line higher
    keyed = sum(max(_keys(panel) for panel in panels[i : i + columns]) for i in range(0, len(panels), columns))
    height = 0.15 + 1.45 * lines + _KEY * keyed + labelled * (0.1 + LINE * len(label) + ticks.height)
    figure = Figure(figsize=(whole, height), layout="constrained")
    entitle(figure, f"{plain(machine, 44)}: measured step time, 95 % intervals", _NOTE)
    cells = figure.subplots(lines, columns, sharex=True, squeeze=False)
    for cell in cells.flat[len(panels) :]:
        cell.remove()
    for place, (axes, panel) in enumerate(zip(cells.flat, panels, strict=False)):
        # points that touch hide the line and the bars
        _draw(axes, panel, softwares, size=min(5.0, max(1.5, 25 * width / len(softwares))))
        title = plain(panel.title, int(width / 0.075))
        axes.set_title(title, loc="left", fontsize=8, pad=4 + 72 * _KEY * _keys(panel))
        if place + columns >= len(panels):
            axes.tick_params(axis="x", labelbottom=True)
            axes.set_xlabel("\n".join(label), fontsize=8)
        axes.set_xticks(ticks.places, ticks.labels, rotation=ticks.rotation, fontsize=7)
    cells[0, 0].set_xlim(-0.5, len(softwares) - 0.5)
    return figure


def _keys(panel: Panel) -> int:
    """The lines of a panel's legend, which stands between its title and its axes."""
    return len(panel.legend())


def _draw(axes: Axes, panel: Panel, softwares: Sequence[Software], size: float) -> None:
    extent: list[float] = []
    for number, (line, label) in enumerate(zip(panel.lines(), panel.legend() or [""], strict=False)):
        points = sorted(line, key=lambda point: softwares.index(point.software))
        x = [softwares.index(point.software) for point in points]
        y = [1e3 * point.row["step_time"] for point in points]
        axes.plot(
            x,
            y,
            color=COLOURS[number],
            marker=MARKERS[number],
            linestyle=_DASHES[number % len(_DASHES)],
            markersize=size,
            linewidth=1,
            label=label,
        )
        found = ((place, interval(point.row)) for place, point in zip(x, points, strict=True))
        bars = {place: (1e3 * ends[0], 1e3 * ends[1]) for place, ends in found if ends is not None}
        lows, highs = [low for low, _ in bars.values()], [high for _, high in bars.values()]
        axes.vlines(list(bars), lows, highs, color=COLOURS[number], linewidth=size / 2.5)
        extent += [*y, *lows, *highs]
    low, high = min(extent), max(extent)
    # so that noise of a per cent doesn't look like a cliff
    room = max(0.08 * (high - low), 0.05 * high)
    axes.set_ylim(max(0, low - room), high + room)
    axes.ticklabel_format(axis="y", useOffset=False)
    axes.locator_params(axis="y", nbins=4)
    axes.set_ylabel("step time, ms", fontsize=8)
    if panel.legend():
        axes.legend(
            fontsize=7,
            frameon=False,
            loc="lower left",
            bbox_to_anchor=(0, 1.01),
            borderaxespad=0,
            borderpad=0,
            labelspacing=0.25,
            handlelength=3.0,
        )

"""The step time of each workload over commits and versions.

A workload has a panel, since nets differ by orders of magnitude; in it, points are joined only where they are equal in
what each `auto` became.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nfbench.analysis.rows import Row
from nfbench.records import Software
from nfbench.showing.figures.canvas import DASHES, Picture, bars, near_axis
from nfbench.showing.figures.style import COLOURS, COLUMN, MARKERS, PAGE, headers, interval, names, plain
from nfbench.units import grouped

_NOTE = (
    "Points are of separate runs, not interleaved: differences of a few per cent are the machine's noise between"
    " sessions; only `nfbench check` decides. A point without a bar has too few steps for an interval. The y axes need"
    " not start at 0."
)
_KEY = 0.135
"""Inches of a line of a legend."""
_LETTER, _LINE = 0.063, 0.13
"""Inches that a letter of a small label is wide and its line high, with some to spare."""
_VERSIONS = ("nfbench", "torch", "torchvision", "timm", "cuda", "cudnn", "python")


def history(rows: list[Row], notes: list[str]) -> Picture:
    """Step time over softwares in the order of their first result, a panel a workload."""
    panels = list(grouped(rows, lambda row: row["of"]).values())
    softwares = list(dict.fromkeys(row["recorded"] for row in sorted(rows, key=lambda row: str(row["start"]))))
    columns = 1 if len(panels) <= 6 else 2
    high = math.ceil(len(panels) / columns)
    whole = COLUMN if columns == 1 else PAGE
    width = whole / columns - 0.8  # without the ticks and the label of the y axis
    axis = ticks(softwares, width)
    since = f"; at first {axis.since}" if axis.since else ""
    label = textwrap.wrap(f"software, in the order of its first result{since}", int(width / 0.075))
    labelled = 1 if len(panels) == high * columns else 2  # a column that is shorter has its labels a line higher
    counts = [len({row["became"] for row in panel}) for panel in panels]
    keys = [count if count > 1 else 0 for count in counts]
    keyed = sum(max(keys[i : i + columns]) for i in range(0, len(panels), columns))
    height = 1.45 * high + _KEY * keyed + labelled * (0.1 + _LINE * len(label) + axis.height)
    figure = Figure(figsize=(whole, height), layout="constrained")
    cells = figure.subplots(high, columns, sharex=True, squeeze=False)
    for cell in cells.flat[len(panels) :]:
        cell.remove()
    for place, (axes, panel, title) in enumerate(zip(cells.flat, panels, headers(panels), strict=False)):
        # points that touch hide the line and the bars
        _draw(axes, panel, softwares, size=min(5.0, max(1.5, 25 * width / len(softwares))))
        axes.set_title(plain(title, int(width / 0.075)), loc="left", fontsize=8, pad=4 + 72 * _KEY * keys[place])
        if place + columns >= len(panels):
            axes.tick_params(axis="x", labelbottom=True)
            axes.set_xlabel("\n".join(label), fontsize=8)
        axes.set_xticks(axis.places, axis.labels, rotation=axis.rotation, fontsize=7)
    cells[0, 0].set_xlim(-0.5, len(softwares) - 0.5)
    return Picture(figure, "measured step time, 95 % intervals", _NOTE)


def _draw(axes: Axes, panel: Sequence[Row], softwares: Sequence[Software], size: float) -> None:
    extent: list[float] = []
    lines = sorted(grouped(panel, lambda row: row["became"]).values(), key=len, reverse=True)
    for number, (line, label) in enumerate(
        zip(lines, names([line[0] | {"software": ""} for line in lines]), strict=True)
    ):
        points = sorted((softwares.index(row["recorded"]), 1e3 * row["step_time"]) for row in line)
        style = {"color": COLOURS[number], "marker": MARKERS[number], "linestyle": DASHES[number % len(DASHES)]}
        axes.plot(*zip(*points, strict=True), **style, markersize=size, linewidth=1, label=label)
        ends = [(softwares.index(row["recorded"]), interval(row)) for row in line]
        upright = [(place, 1e3 * each[0], 1e3 * each[1]) for place, each in ends if each is not None]
        bars(axes, upright, color=COLOURS[number], linewidth=size / 2.5)
        extent += [value for _, *values in (*points, *upright) for value in values]
    near_axis(axes.yaxis, extent, ticks=4)
    axes.set_ylabel("step time, ms", fontsize=8)
    if len(lines) > 1:
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


class Ticks(NamedTuple):
    """Where software is named and how: ``height`` is in inches, ``since`` are versions of the first."""

    places: list[int]
    labels: list[str]
    rotation: float
    height: float
    since: str = ""


def ticks(softwares: Sequence[Software], width: float) -> Ticks:
    """Labels that don't overlap in ``width`` inches: upright where there are many, not of all where there are more."""
    every = math.ceil(len(softwares) / max(1, int(width / _LINE)))
    # the newest is always named
    places = list(range(len(softwares) - 1, -1, -every))[::-1]
    named = [softwares[place] for place in places]
    varying = {v for v in _VERSIONS if len({getattr(software, v) for software in named}) > 1}
    parts = [_parts(software, named[i - 1] if i else None, varying) for i, software in enumerate(named)]
    widest = max(len(part) for label in parts for part in label)
    if _LETTER * (widest + 2) <= width / len(softwares):
        return Ticks(places, ["\n".join(label) for label in parts], 0, _LINE * max(map(len, parts)))
    versions = parts[0][1:] if _commit(named[0]) else []
    parts[0] = parts[0][: len(parts[0]) - len(versions)]
    labels = [plain(", ".join(label)) for label in parts]
    return Ticks(places, labels, 90, _LETTER * max(map(len, labels)), ", ".join(versions))


def _parts(software: Software, before: Software | None, varying: set[str]) -> list[str]:
    """The commit, and each version that differs from the one named before; the first has all that will ever differ."""
    changed = [v for v in _VERSIONS if (v in varying if before is None else getattr(software, v) != getattr(before, v))]
    commit = _commit(software)
    parts = [*([commit] if commit else []), *(f"{v} {getattr(software, v) or 'none'}" for v in changed)]
    return [plain(part, 32) for part in parts or [f"nfbench {software.nfbench}"]]


def _commit(software: Software) -> str:
    return f"{software.commit[:7]}{'+' if software.dirty else ''}" if software.commit else ""

"""Figures, each one function: PNG and SVG, the same bytes from the same rows.

A figure is drawn where the rows hold what it needs; what could not be drawn is named with the reason. Measured points
are filled, reported ones are hollow, and the legend says so.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import wraps
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from nfbench.analysis.rows import Row
from nfbench.catalog import macs, published
from nfbench.catalog.models import FAMILIES, NETS, Net
from nfbench.devices.about import slug
from nfbench.records import Result
from nfbench.showing.kinds import KINDS, Drawing, Held, find
from nfbench.showing.style import STYLE, drawable, in_order, interval, look, name, plain, save

_OTHERWISE = ("nfnet-ladder",)
"""Families whose reported accuracy was trained without augmentation: no figure sets it beside the others."""
_SHORT = {"nfnet": (6, -12), "efficientnet": (-8, 5)}
"""Families whose points are labelled by variant, and where the label stands, in points."""


class Drawn(NamedTuple):
    """The files that were written, and what was left out with the reason."""

    files: list[Path]
    left_out: list[str]


def draw(
    rows: Sequence[Row],
    folder: Path,
    results: Sequence[Result] = (),
    kinds: Iterable[str] = (),
    trained: Sequence[Row] = (),
) -> Drawn:
    """The figures of ``kinds``, or all that the rows of steps, all results and the rows of training runs hold enough
    for, into ``folder``.

    There is one file of each machine and kind, and of training runs one of each data set. Why a kind lacks something
    is told where it was asked for by name.

    Raises:
        BadResults: the folder cannot be written.
    """
    held, asked = Held(rows, results, trained), list(dict.fromkeys(kinds))
    with rc_context(STYLE), warnings.catch_warnings():
        # a name in a script that the font lacks is drawn as boxes
        warnings.filterwarnings("ignore", r"Glyph \d+", UserWarning)
        drawings = {kind: find(kind)(held) for kind in asked or KINDS}
        machines = dict.fromkeys(row["machine"] for row in rows)
        machines |= dict.fromkeys(m for d in drawings.values() for m, _ in d.figures if m is not None)
        prefixes = _prefixes(list(machines))
        files = [
            path
            for kind, drawing in drawings.items()
            for machine, figure in drawing.figures
            for path in save(figure, folder, _file(kind, figure, "" if machine is None else prefixes[machine]))
        ]
    left_out = [line for d in drawings.values() for line in (*d.left_out, *(d.lacking if asked else ()))]
    return Drawn(files, list(dict.fromkeys(left_out)))


def _file(kind: str, figure: Figure, prefix: str) -> str:
    ending = str(figure.get_label())
    return f"{prefix}{kind}{f'-{ending}' if ending else ''}"


def _prefixes(machines: Sequence[str]) -> dict[str, str]:
    """What the files of each machine begin with: nothing where there is one, else no two the same."""
    if len(machines) == 1:
        return {machines[0]: ""}
    found: dict[str, str] = {}
    for machine in machines:
        numbered = (f"{slug(machine)}{f'-{i}' if i > 1 else ''}-" for i in count(1))
        found[machine] = next(prefix for prefix in numbered if prefix not in found.values())
    return found


def each_machine(figure: Callable[[Sequence[Row], str], Figure]) -> Callable[[Held], Drawing]:
    """Draw the rows of each machine that have a step time in a figure of their own."""

    @wraps(figure)
    def draw(held: Held) -> Drawing:
        machines: dict[str, list[Row]] = {}
        drawing = Drawing([], [], [])
        for row in held.rows:
            if drawable(row.get("step_time")):
                machines.setdefault(row["machine"], []).append(row)
            else:
                drawing.left_out.append(
                    f"{plain(row['model'])} on {plain(row['machine'])}: {row['status']}, no step time"
                )
        drawing.figures.extend((machine, figure(rows, machine)) for machine, rows in machines.items())
        return drawing

    return draw


@each_machine
def step_time(rows: Sequence[Row], machine: str) -> Figure:
    """Milliseconds of one optimizer update per model, with intervals."""
    return _by_model(rows, machine, "step time, ms", lambda seconds, _: 1e3 * seconds)


@each_machine
def throughput(rows: Sequence[Row], machine: str) -> Figure:
    """Images per second per model, with the intervals of the step time."""
    return _by_model(rows, machine, "throughput, images/s", lambda seconds, row: row["batch"] / seconds)


def accuracy_vs_macs(held: Held) -> Drawing:
    """Reported ImageNet top-1 against counted MACs at the px of the report, families as lines.

    NFNets and EfficientNets are labelled by their variant, the nets that the results hold by name.
    """
    figure = Figure(figsize=(6.4, 4.6), layout="constrained")
    axes = figure.add_subplot()
    reported(axes, {row["model"] for row in held.rows})
    axes.set_xlabel("counted GMACs of one image at the test px")
    axes.set_ylabel("reported ImageNet top-1, %")
    axes.set_title("Reported accuracy, counted cost", loc="left")
    return Drawing([(None, figure)], [], [])


def reported(axes: Axes, named: Collection[str]) -> None:
    """Draw the families' reported ImageNet top-1 against counted GMACs, hollow, with a legend and names for some."""
    axes.set_xscale("log")
    handles: list[Line2D] = []
    for family, points in families():
        colour, marker = look(family)
        x, y = [p.gmacs for p in points], [p.top1 for p in points]
        axes.plot(x, y, color=colour, linewidth=1, marker=marker, markersize=5, markerfacecolor="white", zorder=2)
        label = f"{family} ({'no batch norm' if points[0].net.norm == 'none' else 'batch norm'})"
        handles.append(Line2D([], [], color=colour, marker=marker, markersize=5, markerfacecolor="white", label=label))
        for net, gmacs, top1, _ in points:
            short = net.name.rpartition("-")[2].upper() if family in _SHORT else None
            text = net.name if net.name in named else short
            if text:
                place = _SHORT.get(family, (5, -9))
                axes.annotate(
                    text, (gmacs, top1), xytext=place, textcoords="offset points", fontsize=7, ha="center", color=colour
                )
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.legend(handles=handles, fontsize=7, frameon=False, loc="lower right")


class Reported(NamedTuple):
    """A net's reported ImageNet top-1 in per cent and its counted GMACs, both at ``px``."""

    net: Net
    gmacs: float
    top1: float
    px: int


def families() -> Iterator[tuple[str, list[Reported]]]:
    """The nets of each family that have a reported top-1 and counted MACs at its px, by their MACs."""
    for family in (f for f in FAMILIES if f not in _OTHERWISE):
        points: list[Reported] = []
        for net in NETS:
            top1 = published.top1(net) if net.family == family else None
            px = (top1.px if top1 else None) or net.test_px
            count = macs.counted(net.name, px) if top1 and px else None
            if top1 and px and count:
                points.append(Reported(net, count.macs / 1e9, top1.top1, px))
        if points:
            yield family, sorted(points, key=lambda p: p.gmacs)


def _by_model(rows: Sequence[Row], machine: str, label: str, value: Callable[[float, Row], float]) -> Figure:
    ordered = sorted(rows, key=in_order)
    figure = Figure(figsize=(6.4, 1.3 + 0.3 * len(ordered)), layout="constrained")
    axes = figure.add_subplot()
    families: dict[str, Any] = {}
    for place, row in enumerate(ordered):
        colour, marker = look(row.get("family", ""))
        if (ends := interval(row)) is not None:
            x = sorted(value(end, row) for end in ends)
            axes.plot(x, [place, place], color=colour, linewidth=2, solid_capstyle="butt", zorder=2)
        centre = value(row["step_time"], row)
        (line,) = axes.plot([centre], [place], color=colour, marker=marker, markersize=6, linestyle="none", zorder=3)
        families.setdefault(row.get("family", ""), line)
    axes.set_yticks(range(len(ordered)), [name(row, ordered) for row in ordered])
    axes.invert_yaxis()
    _from_zero(axes)
    axes.set_xlabel(label)
    axes.set_title(f"{plain(machine)}: measured, with 95 % intervals", loc="left", fontsize=9)
    return figure


def _from_zero(axes: Axes) -> None:
    axes.margins(x=0.08)
    axes.set_xlim(left=0)

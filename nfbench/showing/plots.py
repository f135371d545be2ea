"""Figures, each one function: PNG, SVG and PDF, the same bytes from the same rows.

A figure is drawn where the rows hold what it needs; what could not be drawn is named with the reason. Measured points
are filled, reported ones are hollow, and the legend says so.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from nfbench.analysis.loading import no_collection
from nfbench.analysis.rows import Row, quiet
from nfbench.catalog import models, published
from nfbench.catalog.models import FAMILIES, NETS, Net
from nfbench.devices.about import slug
from nfbench.showing.file_names import distinct
from nfbench.showing.kinds import KINDS, Drawing, Held, find, without
from nfbench.showing.labels import Label, place
from nfbench.showing.style import (
    COLUMN,
    FORMATS,
    REPORTED,
    STYLE,
    drawable,
    in_order,
    look,
    save,
)

_OTHERWISE = ("nfnet-ladder",)
"""Families whose reported accuracy was trained without augmentation: no figure sets it beside the others."""
_SHORT = ("nfnet", "efficientnet")
"""Families whose points are labelled by variant."""


class Drawn(NamedTuple):
    """The files that were written, and by kind what was drawn and what was not."""

    files: list[Path]
    drawings: dict[str, Drawing]


@contextmanager
def looks() -> Iterator[None]:
    """Within it figures have the looks that all of this package share, and nothing looks for garbage among them."""
    with rc_context(STYLE), warnings.catch_warnings(), no_collection():
        # a name in a script that the font lacks is drawn as boxes
        warnings.filterwarnings("ignore", r"Glyph \d+", UserWarning)
        yield


def drawings(held: Held, kinds: Iterable[str] = ()) -> dict[str, Drawing]:
    """The figures of ``kinds``, or of all that these results ask for, by kind; within `looks` only."""
    unasked = (kind for kind in KINDS if KINDS[kind].reads != "nothing" or _beside_reports(held))
    drawn_from, noisy = _without_noise(held)
    made = {kind: find(kind)(drawn_from) for kind in list(dict.fromkeys(kinds)) or unasked}
    for kind, drawing in made.items():
        if KINDS[kind].reads in ("steps", "timed", "softwares"):
            for row in noisy:
                drawing.leave_out([row], f"noisy: {row['noisy']}")
        elif KINDS[kind].reads == "ratios" and noisy:
            drawing.notes.append(f"{len(noisy)} noisy row{'s'[: len(noisy) != 1]} in no ratio, unless --noisy")
    return made


def _without_noise(held: Held) -> tuple[Held, list[Row]]:
    """What figures are drawn from, and the rows of steps that are too noisy for it."""
    noisy = [row for row in held.rows if "noisy" in row]
    if held.noisy or not (noisy or held.results):
        return held, []
    partners = None if held.partners is None else [row for row in held.partners if "noisy" not in row]
    rows = [row for row in held.rows if "noisy" not in row]
    return replace(held, rows=rows, results=quiet(held.results), partners=partners), noisy


def _beside_reports(held: Held) -> bool:
    """Whether a net was measured that a top-1 is reported of: else nobody asks for what is reported."""
    reported = {point.net.name for _, points in families() for point in points}
    rows = (row for row in (*held.rows, *held.trained) if row.get("machine") != "fake")
    return any(row["model"] in reported for row in rows)


def draw(held: Held, folder: Path, kinds: Iterable[str] = (), formats: Sequence[str] = FORMATS) -> Drawn:
    """The figures of ``kinds``, or all that the rows hold enough for, into ``folder`` as ``formats``.

    There is one file of each machine, kind and format, and of training runs one of each data set.

    Raises:
        BadResults: the folder cannot be written.
    """
    with looks():
        made = drawings(held, kinds)
        files = [path for _, _, figure, name in named(held, made) for path in save(figure, folder, name, formats)]
    return Drawn(files, made)


def named(held: Held, made: Mapping[str, Drawing]) -> Iterator[tuple[str, str | None, Figure, str]]:
    """Kind, machine and name of each figure, without a suffix: what tells machines apart where there are several."""
    machines = dict.fromkeys(row["machine"] for row in held.rows)
    machines |= dict.fromkeys(m for d in made.values() for m, _ in d.figures if m is not None)
    prefixes = _prefixes(list(machines))
    figures = [(kind, machine, figure) for kind, drawing in made.items() for machine, figure in drawing.figures]
    names = ("-".join(filter(None, (prefixes[m], kind, str(figure.get_label())))) for kind, m, figure in figures)
    # a machine's name may end as a kind begins
    for one, name in zip(figures, distinct(names), strict=True):
        yield *one, name


def _prefixes(machines: Sequence[str]) -> dict[str | None, str]:
    """What the files of each machine begin with: nothing where there is one, else no two the same."""
    if len(machines) == 1:
        return {None: "", machines[0]: ""}
    return {None: "", **dict(zip(machines, distinct(map(slug, machines)), strict=True))}


def each_machine(
    held: Held, most: int, figure: Callable[[list[Row], str], Figure], lacks: Callable[[Row], str] = lambda _: ""
) -> Drawing:
    """A figure of each machine from its rows that have a step time, at most so many; ``lacks`` says why another of them
    cannot be drawn, nothing where it can."""
    drawing, machines = Drawing(), dict[str, list[Row]]()
    for row in held.rows:
        if why := lacks(row) if drawable(row.get("step_time")) else without(row, "step time"):
            drawing.leave_out([row], why)
        else:
            machines.setdefault(row["machine"], []).append(row)
    for machine, rows in machines.items():
        shown = room_for(rows, most, drawing)
        drawing.figures.append((machine, figure(shown, machine)))
        drawing.drawn.extend(shown)
    return drawing


def room_for(rows: Sequence[Row], most: int, drawing: Drawing) -> list[Row]:
    """The rows by family and model, at most so many: those at the batches that most have go first, since they compare.

    The rest is left out of ``drawing``.
    """
    batches = Counter(row["batch"] for row in rows)
    first = sorted(rows, key=lambda row: (-batches[row["batch"]], row["batch"], in_order(row)))
    drawing.leave_out(first[most:], f"a figure has room for {most} rows: draw fewer at once, with --where")
    return sorted(first[:most], key=lambda row: (in_order(row), row["batch"]))


def accuracy_vs_macs(held: Held) -> Drawing:
    """Reported ImageNet top-1 against counted MACs at the px of the report, families as lines.

    NFNets and EfficientNets are labelled by their variant, the nets that the results hold by name.
    """
    figure = Figure(figsize=(COLUMN, 4.2), layout="constrained")
    axes = figure.add_subplot()
    handles, labels = reported(axes, {row["model"] for row in held.rows})
    axes.legend(handles=handles, fontsize=7, frameon=False, loc="lower right")
    axes.set_xlabel("counted GMACs of one image at the test px")
    axes.set_ylabel("reported ImageNet top-1, %")
    figure.suptitle("Reported accuracy, counted cost", x=0.01, ha="left", fontsize=9)
    place(figure, {axes: labels})
    return Drawing([(None, figure)])


def reported(axes: Axes, named: Collection[str], grey: bool = False) -> tuple[list[Line2D], list[Label]]:
    """Draw the families' reported ImageNet top-1 against counted GMACs, hollow, and ``grey`` beside what was
    measured; the handles of a legend, and the labels that it wants: the variants of two families, what is ``named``."""
    labels: list[Label] = []
    axes.set_xscale("log")
    handles: list[Line2D] = []
    for family, points in families():
        colour, marker = look(family)
        colour = REPORTED if grey else colour
        x, y = [p.gmacs for p in points], [p.top1 for p in points]
        axes.plot(x, y, color=colour, linewidth=1, marker=marker, markersize=5, markerfacecolor="white", zorder=2)
        label = f"{family} ({'no batch norm' if points[0].net.norm == 'none' else 'batch norm'})"
        handles.append(Line2D([], [], color=colour, marker=marker, markersize=5, markerfacecolor="white", label=label))
        for net, gmacs, top1, _ in points:
            text = net.name if net.name in named else variant(net) if family in _SHORT else None
            if text:
                labels.append(Label(gmacs, top1, text, colour))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    return handles, labels


def variant(net: Net) -> str:
    """What a point of a reported net is labelled by: "F0", or its name where that alone says nothing."""
    return net.name.rpartition("-")[2].upper() if net.family in _SHORT else net.name


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
            count = models.counted(net.name, px) if top1 and px else None
            if top1 and px and count:
                points.append(Reported(net, count.macs / 1e9, top1.top1, px))
        if points:
            yield family, sorted(points, key=lambda p: p.gmacs)

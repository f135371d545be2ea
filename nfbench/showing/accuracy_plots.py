"""Measured top-1 of training runs against what it costs, beside what others reported on ImageNet.

Accuracy never crosses data sets or px: each has a figure of its own. Lines lead through the sizes of a family.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Sequence
from itertools import count
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullLocator

from nfbench import units
from nfbench.analysis.accuracy import front
from nfbench.analysis.rows import Row
from nfbench.catalog import macs
from nfbench.devices.about import slug
from nfbench.showing.kinds import Drawing, Held
from nfbench.showing.labels import Label, place
from nfbench.showing.plots import Reported, families, reported
from nfbench.showing.style import in_order, look, name, plain, series

_PLACE = ("machine", "dataset", "px", "test_px", "weights")
_RUN = ("batch", "epochs", "agc", "recipe", "optimizer", "lr", "schedule", "augment", "ema", "norm", "sam", "precision")
"""Runs that differ in one of these are no sizes of one family, and no line joins them."""
_GREY = "#B8B8B8"
_LEAST = 1.2
"""Decades that an axis spans at least."""
_NOTE = "Accuracies are means over seeds, bars 95 % intervals of Student's t over them; the front heeds no interval."


class Panel(NamedTuple):
    """A cost: the key of a row, its unit, and the label of its axis."""

    key: str
    unit: str
    label: str


_PANELS = (
    Panel("macs", "", "MACs of one image at {macs_px} px, forward"),
    Panel("params", "", "parameters"),
    Panel("train_step_time", "s", "training step time, data included, {batch}"),
    Panel("image_energy", "J", "energy of training on one image, {batch}"),
)


def accuracy_vs_flops(held: Held) -> Drawing:
    """Top-1 against MACs, parameters, training step time and energy, one figure a machine, data set, px and weights."""
    drawing, places = Drawing([], [], []), dict[tuple[object, ...], list[Row]]()
    for row in held.trained:
        where = f"{plain(row['model'])} on {plain(row['machine'])}, {plain(row['dataset'])}"
        drawing.left_out.extend(f"{where}: {why}" for why in _lacks(row))
        if _drawable(row):
            places.setdefault(tuple(row.get(key) for key in _PLACE), []).append(row)
    if not held.trained:
        drawing.lacking.append("accuracy-vs-flops: the results hold no training run; nfbench accuracy makes one")
    for (machine, *_), rows in places.items():
        figure = _figure(sorted(rows, key=in_order))
        drawing.figures.append((str(machine), figure))
    endings = _endings(list(places))
    for (_, figure), ending in zip(drawing.figures, endings, strict=True):
        figure.set_label(ending)
    return drawing


def _drawable(row: Row) -> bool:
    return 0 <= row.get("top1", -1) <= 1 and any(_shown(row.get(panel.key)) for panel in _PANELS)


def _shown(cost: float | None) -> bool:
    """Whether a cost can stand on a logarithmic axis: its ticks overflow with what nothing has cost."""
    return cost is not None and 1e-15 < cost < 1e18


def _lacks(row: Row) -> list[str]:
    """What of a row no figure shows."""
    updates = ", ".join(map(str, row.get("diverged_at", ())))
    at = f" at update {updates}" if updates else ""
    if not _drawable(row):
        return [f"{row['status']}{at if 'diverged' in row else ''}, no final top-1 that could be drawn"]
    failed = row["runs"] - row["seeds"]
    return [f"{failed} of {row['runs']} seeds not in the mean ({row['status']}{at})"] if failed else []


def _endings(places: Sequence[tuple[object, ...]]) -> list[str]:
    """What tells the figures of a machine apart: the data set, and px and weights where those differ."""
    found: dict[tuple[object, ...], str] = {}
    for here in places:
        same = [other for other in places if other[0] == here[0]]
        words = ("", "{}", "{}px", "tested-at-{}px", "weights-{}")
        differ = (i for i in range(1, len(here)) if len({other[i] for other in same}) > 1)
        ending = "-".join(slug(words[i].format(here[i])) for i in differ)
        used = {found[other] for other in same if other in found}
        found[here] = next(e for i in count(1) if (e := f"{ending}-{i}" if i > 1 else ending) not in used)
    return [found[here] for here in places]


def _figure(rows: Sequence[Row]) -> Figure:
    first = rows[0]
    px, test_px, dataset = first.get("px"), first.get("test_px"), str(first["dataset"])
    imagenet = dataset == "imagenet"
    if imagenet and px != test_px:
        # reported accuracies stand at the cost of the test px
        counted = {row["model"]: macs.counted(row["model"], test_px) for row in rows}
        if all(counted.values()):
            rows = [{**row, "macs": c.macs} for row in rows if (c := counted[row["model"]])]
            px = test_px
    beside = [p for _, points in families() for p in points if imagenet and p.px == test_px == px]
    panels = [panel for panel in _PANELS if any(_shown(row.get(panel.key)) for row in rows)]
    number = len(panels) + (not beside)
    lines = math.ceil(number / 2)
    figure = Figure(figsize=(10.5, 1.2 + 3.7 * lines), layout="constrained")
    grid = figure.add_gridspec(lines + 1, 2, height_ratios=[*(1.0,) * lines, 0.06])
    cells: list[Axes] = []
    for i in range(len(panels)):
        cells.append(figure.add_subplot(grid[i // 2, i % 2], sharey=cells[0] if cells else None))
    labels: dict[Axes, Sequence[Label]] = {}
    for i, (axes, panel) in enumerate(zip(cells, panels, strict=True)):
        here = [row for row in rows if _shown(row.get(panel.key))]
        labels[axes] = _draw(axes, panel, here, rows)
        if panel.key == "macs" and beside:
            labels[axes] = [*labels[axes], *_beside(axes, beside)]
        axes.set_xlabel(panel.label.format(macs_px=px, batch=_batch(rows)))
        if i % 2 == 0:
            axes.set_ylabel(f"{'' if beside else 'measured '}top-1 on {plain(dataset, 40)}, %")
        else:
            axes.tick_params(labelleft=False)
    if not beside:
        axes = figure.add_subplot(grid[(number - 1) // 2, (number - 1) % 2])
        reported(axes, ())
        axes.set_title("ImageNet, reported: not measured here", loc="left", fontsize=9)
        axes.set_xlabel("counted GMACs of one image at the test px")
        axes.set_ylabel("reported ImageNet top-1, %")
    foot = figure.add_subplot(grid[lines, :])
    foot.axis("off")
    foot.legend(handles=_handles(rows, bool(beside)), loc="center", ncols=6, fontsize=8, frameon=False)
    figure.suptitle(_title(first), x=0.01, ha="left", fontsize=10)
    others = "Hollow points were trained by others, in other ways. " if beside else ""
    carry = others if imagenet else f"Results on {plain(dataset, 40)} do not carry over to ImageNet. "
    figure.supxlabel("\n".join(textwrap.wrap(carry + _NOTE, 165)), x=0.01, ha="left", fontsize=8)
    place(figure, labels)
    return figure


def _title(row: Row) -> str:
    tested = f", tested at {row['test_px']} px" if row.get("test_px") not in (None, row.get("px")) else ""
    weights = f", from {plain(str(row['weights']), 30)} weights" if row.get("weights", "none") != "none" else ""
    where = f"{plain(row['dataset'], 40)} at {row.get('px', '?')} px{tested}{weights}"
    return f"{plain(row['machine'])}: measured top-1 on {where}"


def _batch(rows: Iterable[Row]) -> str:
    batches = {row["batch"] for row in rows}
    return f"batch {batches.pop()}" if len(batches) == 1 else "at the batch of each label"


def _draw(axes: Axes, panel: Panel, here: Sequence[Row], rows: Sequence[Row]) -> list[Label]:
    """Points, intervals, lines through sizes and the front of one panel; the labels that it wants."""
    best = front(here, panel.key)
    # the corners of the steps too, so that labels keep off them
    corners = [(row[panel.key], 100 * before["top1"]) for before, row in zip(best[:1] + best, best, strict=False)]
    places = [place for row, corner in zip(best, corners, strict=True) for place in (corner, _at(row, panel))]
    axes.plot(
        [x for x, _ in places],
        [y for _, y in places],
        color=_GREY,
        linewidth=4,
        marker="o",
        markersize=11,
        markevery=slice(1, None, 2),
        solid_joinstyle="round",
        zorder=1,
        label="_front",
    )
    lines: dict[tuple[object, ...], list[Row]] = {}
    for row in here:
        lines.setdefault((series(row["model"], row.get("family"))[0], *(row.get(k) for k in _RUN)), []).append(row)
    for points in lines.values():
        points.sort(key=lambda row: (row.get("macs", 0), row[panel.key]))
        colour, marker = look(series(points[0]["model"], points[0].get("family"))[1])
        x, y = [row[panel.key] for row in points], [100 * row["top1"] for row in points]
        axes.plot(x, y, color=colour, linewidth=1, marker=marker, markersize=6, zorder=3)
        bars = [row for row in points if "top1_low" in row]
        # no accuracy is beyond these, whatever Student's t allows
        low, high = ([min(max(100 * row[f"top1_{end}"], 0.0), 100.0) for row in bars] for end in ("low", "high"))
        axes.vlines([row[panel.key] for row in bars], low, high, color=colour, linewidth=1.2, zorder=2)
    _scale(axes, [row[panel.key] for row in here], panel.unit)
    colours = [look(series(row["model"], row.get("family"))[1])[0] for row in here]
    return [Label(*_at(row, panel), _name(row, rows), colour) for row, colour in zip(here, colours, strict=True)]


def _at(row: Row, panel: Panel) -> tuple[float, float]:
    return row[panel.key], 100 * row["top1"]


def _name(row: Row, rows: Sequence[Row]) -> str:
    """The name of a row; of tiny nets without that word where all are."""
    whole = name(row, rows)
    return whole.removeprefix("tiny-") if all(r["model"].startswith("tiny-") for r in rows) else whole


def _scale(axes: Axes, values: Sequence[float], unit: str) -> None:
    axes.set_xscale("log", base=10)
    axes.margins(y=0.12)
    low, high = math.log10(min(values)), math.log10(max(values))
    # wide enough for round ticks, and for costs that hardly differ to look so
    room = max(0.18 * (high - low), (_LEAST - high + low) / 2)
    axes.set_xlim(10 ** (low - room), 10 ** (high + room))
    axes.xaxis.set_major_locator(LogLocator(base=10, subs=(1, 2, 5) if high - low < 2.5 else (1,)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda value, _: units.si(value, unit, 1).rstrip())


def _beside(axes: Axes, points: Sequence[Reported]) -> list[Label]:
    """Draw what was reported at the same px, hollow; the labels that it wants."""
    found = []
    for net, gmacs, top1, _ in points:
        colour, marker = look(net.family)
        axes.plot([gmacs * 1e9], [top1], color=colour, marker=marker, markersize=6, markerfacecolor="white", zorder=3)
        found.append(Label(gmacs * 1e9, top1, net.name, colour))
    ends = axes.dataLim.intervalx
    _scale(axes, [float(ends[0]), float(ends[1])], "")
    return found


def _handles(rows: Sequence[Row], beside: bool) -> list[Line2D]:
    looks = dict.fromkeys(series(row["model"], row.get("family")) for row in rows)
    handles = []
    for text, family in looks:
        colour, marker = look(family)
        handles.append(Line2D([], [], color=colour, marker=marker, linewidth=1, markersize=6, label=text))
    handles.append(
        Line2D([], [], color=_GREY, linewidth=4, marker="o", markersize=9, label="Pareto front: none better for less")
    )
    if beside:
        hollow = Line2D([], [], color="black", marker="o", markerfacecolor="white", linestyle="none")
        hollow.set_label("hollow: ImageNet, reported")
        handles.append(hollow)
    return handles

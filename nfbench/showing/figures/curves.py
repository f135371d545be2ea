"""Lines over batches and clipping thresholds, a line per net, and below them a strip for what has no value.

Where a batch takes several passes its point is half-filled, and what did not fit or diverged is marked in the strip, so
that nothing is missing in silence.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import accumulate, pairwise, product
from typing import Any, NamedTuple

from matplotlib import colormaps
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedLocator

from nfbench import units
from nfbench.analysis.rows import Row
from nfbench.catalog import published
from nfbench.showing.figures.canvas import (
    DASHES,
    ENTRY,
    LETTERS,
    Look,
    Sheet,
    accuracy_axis,
    bars,
    beside,
    dark,
    entry,
    handle,
    log_axis,
    number,
    panel,
    reported_line,
    reported_panel,
    value_axis,
)
from nfbench.showing.figures.prepared import clip_place, lost, top1, top1_ends, unclipped
from nfbench.showing.figures.style import COLOURS, COLUMN, MARKERS, in_order, look, plain, series
from nfbench.units import grouped

_ACROSS = COLUMN - 0.9
"""Inches that an axis is about wide."""
_LETTER = 0.08
"""Inches that a digit of a tick is wide."""
_SEVERAL = "Of several values at one place a line leads through the lowest."
_BARS = "Bars: 95 % intervals."
_PROCESS = "Memory of the process: Python and torch are in it, so that nets differ by less than they take."
_MEANS = "Means over seeds, bars 95 % intervals of Student's t over them."
_FALLEN = (
    "The strip below shows what diverged, with the first update at which it did, and what failed. Where a point stands"
    " above it too, only some seeds did."
)
_APART = 0.5
"""How much farther than the next λ the runs without a clip stand."""
_FLOOR = 75.5
"""Per cent below which the paper's figure ends."""
_MARKS = "x+1234"


class Point(NamedTuple):
    """A value at ``x`` with its interval; ``half`` where it was reached in another way than the rest."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None
    half: bool = False


class Mark(NamedTuple):
    """What has no value at ``x``, or only some seeds have: ``what`` for the legend, ``text`` beside the mark."""

    x: float
    what: str
    text: str = ""


class Curve(NamedTuple):
    """A net over the sweep."""

    name: str
    look: Look
    points: Sequence[Point]
    failed: Sequence[Mark] = ()


Laid = Callable[[Axis, Sequence[float]], None]
"""Lays an axis out over values."""


def batch_throughput(rows: list[Row]) -> Sheet:
    """Images per second against batch, a line per net."""
    return _over_batches(rows, "throughput", "throughput, images/s", partial(value_axis, text=number), _BARS)


def batch_step_time(rows: list[Row]) -> Sheet:
    """Seconds of an optimizer update against batch."""
    return _over_batches(rows, "step_time", "step time", partial(log_axis, text=lambda v: units.si(v, "s", 1)), _BARS)


def batch_peak_memory(rows: list[Row]) -> Sheet:
    """Peak bytes against batch: those that the allocator gave out, on a CPU those of the process."""
    kinds = dict.fromkeys(row["peak_memory_of"] for row in rows if "peak_memory_of" in row)
    words = {"allocated": ", allocated on the device", "process": " of the process"}
    axis = partial(log_axis, text=lambda v: units.bytes_(v, 1), base=2, least=3.0)
    note = _PROCESS if "process" in kinds else ""
    return _over_batches(rows, "peak_memory", "peak memory", axis, note, " and".join(map(words.__getitem__, kinds)))


def _over_batches(rows: Sequence[Row], key: str, label: str, axis: Laid, note: str, whose: str = "") -> Sheet:
    lines = []
    nets = grouped(rows, lambda row: row["net"])
    for (net, alike), each in zip(nets.items(), _looks(nets), strict=True):
        points = [_point(row, key) for row in alike if key in row]
        failed = [Mark(row["batch"], row["status"].replace("_", " ")) for row in alike if key not in row]
        lines.append(Curve(net, each, points, failed))
    figure, handles = _draw(lines, label, axis, _batch_axis)
    if any(point.half for line in lines for point in line.points):
        half = {"color": "black", "marker": "o", "fillstyle": "bottom", "linestyle": "none"}
        handles.insert(len(lines), entry("several passes per update", **half))
    return Sheet(figure, f"measured {label.partition(',')[0]}{whose}", _with_several(note, lines), handles)


def _point(row: Row, key: str) -> Point:
    low, high = row.get(f"{key}_low"), row.get(f"{key}_high")
    sound = low and high and 1e-12 < low <= high < 1e18
    return Point(
        row["batch"], row[key], *((low, high) if sound else (None, None)), row.get("accumulation_steps", 1) > 1
    )


def _looks(nets: Mapping[str, Sequence[Row]]) -> list[Look]:
    """The look of each line, no two the same in marker and dash, which are told without colour.

    The first of a family has its marker; what was trained without the clip that it should have is half-filled.
    """
    looks: list[Look] = []
    free = dict.fromkeys(product(MARKERS, range(len(DASHES))))
    for first, *_ in nets.values():
        colour, marker = look(series(first["model"], first.get("family"))[1])
        turned = MARKERS[MARKERS.index(marker) :] + MARKERS[: MARKERS.index(marker)]
        marker, dash = next(pair for pair in product(turned, range(len(DASHES))) if pair in free)
        del free[marker, dash]
        looks.append(Look(colour, marker, DASHES[dash], "left" if "dataset" in first and unclipped(first) else "full"))
    return looks


def batch_accuracy(rows: list[Row]) -> Sheet:
    """Top-1 against batch, a line per net and λ; below what the paper reports (its Figure 2a)."""
    nets = dict(sorted(grouped(rows, lambda row: row["net"]).items(), key=lambda pair: (in_order(pair[1][0]), pair[0])))
    lines = [
        Curve(net, each, *_trained(alike, lambda row: row["batch"]))
        for (net, alike), each in zip(nets.items(), _looks(nets), strict=True)
    ]
    figure, handles = _draw(lines, "measured top-1, %", accuracy_axis, _batch_axis, more=2.1)
    epochs = rows[0].get("epochs")
    after = f" after {units.plural(epochs, 'epoch')}" if epochs else ""
    title = f"measured top-1 on {plain(rows[0]['dataset'], 40)}{after}"
    note = _with_several(runs_note(rows, _MEANS, _FALLEN), lines)
    return Sheet(figure, title, note, [*handles, *_reported(figure.axes[-1])], lacks=lost(rows))


def _trained(rows: Sequence[Row], x: Callable[[Row], float], aside: float = 0.0) -> tuple[list[Point], list[Mark]]:
    """The points of training runs, and what of their seeds diverged or failed."""
    points, failed = [], []
    for row in rows:
        if (top := top1(row)) is not None:
            points.append(Point(x(row) + aside, top, *(top1_ends(row) or ())))
        runs, diverged = row["runs"], row.get("diverged", 0)
        if diverged:
            text = str(min(row.get("diverged_at") or [""])) if diverged == runs else f"{diverged} of {runs}"
            failed.append(Mark(x(row), "diverged", text))
        elif row["status"] != "ok":
            failed.append(Mark(x(row), str(row["status"]).replace("_", " ")))
    return points, failed


def _scaled(nets: Mapping[str, Sequence[Row]]) -> bool:
    """Whether each net's rate is proportional to its batch."""
    rates = [[row["lr"] / row["batch"] for row in rows if row.get("lr")] for rows in nets.values()]
    return any(rates) and all(max(each) <= 1.001 * min(each) for each in rates if each)


def _reported(axes: Axes) -> list[Line2D]:
    """The paper's Figure 2a in a panel of its own, faint and hollow: ImageNet, other nets, never one line with ours."""
    handles, fallen = [], []
    for (net, agc), points in grouped(published.rows("figure2a.csv"), lambda row: (row["net"], row["agc"])).items():
        there = [(int(row["batch"]), float(row["top1"])) for row in points if row["top1"]]
        fallen += [(int(row["batch"]), _FLOOR + 0.25) for row in points if not row["top1"]]
        wide = 1.8 if net.endswith("200") else 0.8
        dash = "-" if agc == "yes" or "nf" not in net else ":"
        name, marker = f"{net}{' with AGC' if agc == 'yes' else ''}", look(net.rstrip("0123456789"))[1]
        handles.append(reported_line(axes, there, name, marker, linestyle=dash, linewidth=wide, alpha=0.8))
    handles.append(reported_line(axes, fallen, "below 70 %", "x", linestyle="none", alpha=0.8))
    _batch_axis(axes.xaxis, sorted({float(row["batch"]) for row in published.rows("figure2a.csv")}))
    axes.set_ylim(_FLOOR, 80.2)
    reported_panel(axes, f"{published.PAPER}, Figure 2a", "batch, images per update", "reported top-1, %")
    return handles


def agc_lines(rows: list[Row]) -> Sheet:
    """Top-1 against λ, a line per batch."""
    clips = sorted({row["agc"] for row in rows}, key=clip_place)
    places = {clip: i + (_APART if clip == "none" and i else 0.0) for i, clip in enumerate(clips)}
    lines = []
    batches = sorted(grouped(rows, lambda row: row["batch"]).items())
    for i, (batch, alike) in enumerate(batches):
        # side by side, since bars at one place hide each other
        aside = (i - (len(batches) - 1) / 2) * min(0.06, 0.5 / len(batches))
        style = Look(COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)], DASHES[i % len(DASHES)])
        lines.append(Curve(f"batch {number(batch)}", style, *_trained(alike, lambda row: places[row["agc"]], aside)))
    texts = [clip_text(clip) for clip in clips]

    def across(axis: Axis, values: Sequence[float]) -> None:
        small = _LETTER * (max(map(len, texts)) + 1) * len(texts) > _ACROSS
        axis.axes.set_xticks(list(places.values()), texts, fontsize=7 if small else None)
        axis.axes.set_xlim(-0.35, max(places.values()) + 0.35)
        if clips[-1] == "none" and len(clips) > 1:
            axis.axes.axvline(places["none"] - (1 + _APART) / 2, color="#888888", linewidth=0.8, linestyle=":")

    figure, handles = _draw(lines, "measured top-1, %", accuracy_axis, across, "clipping threshold λ")
    return Sheet(figure, clips_title(rows), _with_several(runs_note(rows, _MEANS, _FALLEN), lines), handles)


def clips_title(rows: Sequence[Row]) -> str:
    """What stands above a figure of the λs of a net."""
    return f"measured top-1, %, of {plain(str(rows[0]['net']), 120)} on {plain(str(rows[0]['dataset']), 30)}"


def clip_text(clip: object) -> str:
    """A λ on an axis."""
    return "no clip" if clip == "none" else f"{clip:g}"


def runs_note(rows: Sequence[Row], means: str, rest: str) -> str:
    """Seeds, epochs and px of training runs, ``means`` where there are several seeds, ``rest`` where some failed, and
    how far it goes."""
    counts = []
    for key, word in (("runs", "seed"), ("epochs", "epoch"), ("px", "px")):
        if values := sorted({row[key] for row in rows if key in row}):
            few = f"{values[0]} to " if len(values) > 1 else ""
            counts.append(f"{few}{values[-1]} px" if key == "px" else f"{few}{units.plural(values[-1], word)}")
    if any(row.get("tune", "none") == "lr" for row in rows):
        counts.append("learning rate tuned for each point")
    elif len({row["batch"] for row in rows}) > 1 and _scaled(grouped(rows, lambda row: row["net"])):
        counts.append("learning rate scaled with the batch")
    several = any(row.get("top1_low") is not None for row in rows)
    failed = any(row.get("diverged") or row["status"] != "ok" for row in rows)
    tiny = " and tiny nets" if any(row["model"].startswith("tiny-") for row in rows) else ""
    parts = [
        f"{', '.join(counts)}{f'. {means}' if several else '; no interval.'}",
        rest if failed else "",
        "" if all(row["dataset"] == "imagenet" for row in rows) else f"Small data{tiny} do not carry over to ImageNet.",
    ]
    return " ".join(filter(None, parts))


def _draw(
    lines: Sequence[Curve],
    label: str,
    axis: Laid,
    across: Laid,
    below: str = "batch, images per update",
    more: float = 0.0,
) -> tuple[Figure, list[Artist]]:
    """The lines, below them a strip of what failed, and the entries of their legend.

    At the end there is an empty panel of ``more`` inches.
    """
    failing = [line for line in lines if line.failed]
    marks = {
        what: _MARKS[i % 6] for i, what in enumerate(dict.fromkeys(f.what for line in failing for f in line.failed))
    }
    heights = [2.5, *([0.14 + 0.17 * len(failing)] if failing else [])]
    figure = Figure(figsize=(COLUMN, sum(heights) + more), layout="constrained")
    grid = figure.add_gridspec(2 if more else 1, 1, height_ratios=[sum(heights), more] if more else None)
    inner = grid[0].subgridspec(len(heights), 1, height_ratios=heights)
    axes = last = figure.add_subplot(inner[0])
    for line in lines:
        _line(axes, line)
    axes.set_ylabel(label)
    axis(axes.yaxis, [v for line in lines for p in line.points for v in (p.y, p.low, p.high) if v is not None])
    across(
        axes.xaxis, sorted({p.x for line in lines for p in line.points} | {f.x for line in lines for f in line.failed})
    )
    if failing:
        last = figure.add_subplot(inner[1], sharex=axes)
        _strip(last, failing, marks)
        axes.tick_params(axis="x", labelbottom=False)
    last.set_xlabel(below)
    if more:
        figure.add_subplot(grid[1])
    handles: list[Artist] = [handle(line.name, line.look) for line in lines]
    dots = {"color": "black", "linestyle": "none", "markersize": 6}
    return figure, handles + [entry(what, marker=marker, **dots) for what, marker in marks.items()]


def _with_several(note: str, lines: Sequence[Curve]) -> str:
    several = any(len({point.x for point in line.points}) < len(line.points) for line in lines)
    return f"{note} {_SEVERAL}".strip() if several else note


def _line(axes: Axes, line: Curve) -> None:
    points = sorted(line.points, key=lambda point: (point.x, point.y))
    colour, marker, dash, fill = line.look
    lowest = list({p.x: p for p in reversed(points)}.values())[::-1]
    axes.plot([p.x for p in lowest], [p.y for p in lowest], color=colour, linestyle=dash, linewidth=1.2, zorder=2)
    for half, alike in grouped(points, lambda point: point.half).items():
        (drawn,) = axes.plot([p.x for p in alike], [p.y for p in alike], color=colour, marker=marker, zorder=3)
        # a half is told at this size
        drawn.set(markersize=5.5 if fill == "full" else 7, markerfacecoloralt="none" if half else "white")
        drawn.set(linestyle="none", fillstyle="bottom" if half else fill, label=f"_{plain(line.name, ENTRY)}")
    upright = [(p.x, p.low, p.high) for p in points if p.low is not None and p.high is not None]
    bars(axes, upright, color=colour, linewidth=1.4, zorder=2)


def _batch_axis(axis: Axis, batches: Sequence[float]) -> None:
    """Batches, log base 2, each of them named."""
    log_axis(axis, batches, number, 2, least=0.7 + math.log2(batches[-1] / batches[0]))
    axis.set_major_locator(FixedLocator(batches))


def _strip(axes: Axes, lines: Sequence[Curve], marks: Mapping[str, str]) -> None:
    """A row for each line, told by a piece of it at the left, since names are long."""
    for place, line in enumerate(lines):
        left = {"transform": axes.get_yaxis_transform(), "clip_on": False, "markevery": [1], "markersize": 4.5}
        sample = handle("_sample", line.look, **left)
        sample.set_data([-0.095, -0.055, -0.015], [place] * 3)
        axes.add_line(sample)
        for what, failed in grouped(line.failed, lambda mark: mark.what).items():
            x = sorted({mark.x for mark in failed})
            style: dict[str, Any] = {
                "color": line.look.colour,
                "linestyle": "none",
                "marker": marks[what],
                "markersize": 6,
            }
            axes.plot(x, [place] * len(x), **style)
        _say(axes, place, line)
    axes.set_yticks([])
    axes.set_ylim(len(lines) - 0.4, -0.6)


def _say(axes: Axes, place: int, line: Curve) -> None:
    """Write the texts of a row of the strip beside their marks, where there is room up to the next."""
    texts = grouped(sorted(line.failed), lambda mark: mark.x)
    to_fraction = axes.transScale + axes.transLimits
    at = [0.0, *(float(to_fraction.transform((x, 1.0))[0]) for x in texts), 1.0]
    for i, (x, marks) in enumerate(texts.items(), 1):
        text = "; ".join(dict.fromkeys(mark.text for mark in marks if mark.text))
        wide = (0.14 + len(text) / LETTERS) / _ACROSS
        side = 1 if at[i + 1] - at[i] > wide else -1 if at[i] - at[i - 1] > 2 * wide else 0
        if text and side:
            ends = "left" if side > 0 else "right"
            beside(axes, text, (x, place), 5 * side, ha=ends, color=dark(line.look.colour))


# the map

_CELL_MEANS = "Means over seeds with 95 % intervals."
_HATCHED = "Hatched: seeds diverged, with their first update."
_BLANK = "·"
_WIDEST = 90.0
"""Per cent that the palest colour stands for at most: differences of a per cent are small in every figure."""
_TALL = 1.5
"""Inches that the label of the y axis takes."""


def agc_heatmap(rows: list[Row]) -> Sheet:
    """Top-1 by λ, down, and batch, across; cells that diverged are hatched and say so, never left blank."""
    clips = sorted({row["agc"] for row in rows}, key=clip_place)
    batches = sorted({row["batch"] for row in rows})
    cells = grouped(rows, lambda row: (row["agc"], row["batch"]))
    least = min(_WIDEST, 10.0 * (min((top for row in rows if (top := top1(row)) is not None), default=0.0) // 10))
    written = {cell: "\n".join(map(_cell, alike)) for cell, alike in cells.items()}
    # a row is as high as its fullest cell
    deep = {clip: max(written.get((clip, b), "").count("\n") + 1 for b in batches) for clip in clips}
    edges = [0.0, *accumulate(0.12 + 0.125 * max(2, lines) for lines in deep.values())]
    edges = [edge * max(1.0, _TALL / edges[-1]) for edge in edges]
    middles = [(above + below) / 2 for above, below in pairwise(edges)]
    figure, axes = panel(0.45 + edges[-1], COLUMN)
    for (down, clip), (across, batch) in product(enumerate(clips), enumerate(batches)):
        alike = cells.get((clip, batch), [])
        text = axes.text(
            across, middles[down], written.get((clip, batch), _BLANK), ha="center", va="center", fontsize=7
        )
        tops = [top for row in alike if (top := top1(row)) is not None]
        failed = any(row.get("diverged") or row["status"] != "ok" for row in alike)
        share = (sum(tops) / len(tops) - least) / (100 - least) if tops else None
        # light to dark reads in grey too, and leaves the ends that a text could not be read on
        colour: Any = "white" if share is None else colormaps["Blues"](0.08 + 0.72 * share)
        style = {"facecolor": colour, "edgecolor": "#999999", "hatch": "////" if failed else None, "linewidth": 0.5}
        if alike:
            axes.add_patch(Rectangle((across - 0.5, edges[down]), 1, edges[down + 1] - edges[down], **style))
        if failed:
            text.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 1.0})
        elif share is not None and share > 0.7:
            text.set_color("white")
    axes.set_xticks(range(len(batches)), [number(b) for b in batches])
    axes.set_yticks(middles, [clip_text(c) for c in clips])
    axes.set_xlim(-0.5, len(batches) - 0.5)
    axes.set_ylim(edges[-1], 0)
    axes.grid(False)
    axes.set_xlabel("batch, images per update")
    axes.set_ylabel("clipping threshold λ")
    colours = f"Colours: from {least:.0f} %, the palest, to 100 %, the darkest."
    blank = f"{_BLANK} not run." if len(cells) < len(clips) * len(batches) else ""
    note = " ".join(filter(None, [runs_note(rows, _CELL_MEANS, _HATCHED), colours, blank]))
    return Sheet(figure, clips_title(rows), note)


def _cell(row: Row) -> str:
    """What stands in a cell, a few short lines."""
    runs, diverged, top, ends = row["runs"], row.get("diverged", 0), top1(row), top1_ends(row)
    if top is None:
        if diverged:
            return f"diverged\nat {min(row['diverged_at'])}" if row.get("diverged_at") else "diverged"
        return str(row["status"]).replace("_", "\n").replace(", ", "\n")
    text = f"{top:.2f}"
    if ends is not None and row["top1_high"] > row["top1_low"]:
        text = units.plus_minus(top, 50 * (row["top1_high"] - row["top1_low"])).replace(" ± ", "\n± ")
    if diverged:
        return f"{text}\n{diverged} of {runs}\ndiverged"
    return text if row["status"] == "ok" else f"{text}\n{runs - row['seeds']} of {runs}\nfailed"

"""Lines over batches and clipping thresholds, a line a net, and below them a strip for what has no value.

Where a batch takes several passes its point is half-filled, and what did not fit or diverged is marked in the strip, so
that nothing is missing in silence.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator

from nfbench import units
from nfbench.analysis.rows import Row
from nfbench.catalog import published
from nfbench.showing.figures.canvas import (
    DASHES,
    ENTRY,
    LETTERS,
    Look,
    accuracy_axis,
    bars,
    dark,
    frame,
    handle,
    hollow,
    log_axis,
    number,
    value_axis,
)
from nfbench.showing.figures.prepared import clip_place, lost, top1, top1_ends, unclipped
from nfbench.showing.figures.style import COLOURS, COLUMN, MARKERS, in_order, look, plain, series
from nfbench.units import grouped

_ACROSS = COLUMN - 0.9
"""Inches that an axis is about wide."""
_LETTER = 0.08
"""Inches that a digit of a tick is wide."""
_HALF = "several passes an update"
_SEVERAL = "Of several values at one place a line leads through the lowest."
_BARS = "Bars: 95 % intervals."
_PROCESS = "Memory of the process: Python and torch are in it, so that nets differ by less than they take."
_MEANS = "Means over seeds, bars 95 % intervals of Student's t over them."
_FALLEN = (
    "Below: what diverged, with its first such update, and what failed; of a point that stands above too only some"
    " seeds."
)
_APART = 0.5
"""How much farther than the next λ the runs without a clip stand."""
_FLOOR = 75.5
"""Per cent below which the paper's figure ends."""


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


class Scale(NamedTuple):
    """A y axis: its label, how ticks read, and its base where it is logarithmic (0: chosen by the range, from 0)."""

    label: str
    text: Callable[[float], str]
    base: int = 0


def batch_throughput(rows: list[Row], notes: list[str]) -> Figure:
    """Images per second against batch, a line a net."""
    return _over_batches(rows, "throughput", Scale("throughput, images/s", number))


def batch_step_time(rows: list[Row], notes: list[str]) -> Figure:
    """Seconds of an optimizer update against batch."""
    return _over_batches(rows, "step_time", Scale("step time", lambda v: units.si(v, "s", 1), 10))


def batch_peak_memory(rows: list[Row], notes: list[str]) -> Figure:
    """Peak bytes against batch: those that the allocator gave out, on a CPU those of the process."""
    of = list(dict.fromkeys(row["peak_memory_of"] for row in rows if "peak_memory_of" in row))
    words = {"allocated": ", allocated on the device", "process": " of the process"}
    scale = Scale("peak memory", lambda v: units.bytes_(v, 1), 2)
    return _over_batches(rows, "peak_memory", scale, " and".join(map(words.__getitem__, of)))


def _over_batches(rows: Sequence[Row], key: str, scale: Scale, whose: str = "") -> Figure:
    lines = []
    nets = grouped(rows, lambda row: row["net"])
    looks = _looks(nets)
    for net, alike in nets.items():
        points = [_point(row, key) for row in alike if key in row]
        failed = [Mark(row["batch"], row["status"].replace("_", " ")) for row in alike if key not in row]
        lines.append(Curve(net, looks[net], points, failed))
    figure, handles = draw(lines, scale, _batch_axis)
    if any(point.half for line in lines for point in line.points):
        entry = Line2D([], [], color="black", marker="o", fillstyle="bottom", linestyle="none", label=_HALF)
        handles.insert(len(lines), entry)
    note = _BARS if key != "peak_memory" else _PROCESS if "process" in whose else ""
    what = scale.label.partition(",")[0]
    frame(figure, f"{plain(rows[0]['machine'], 44)}: measured {what}{whose}", _with_several(note, lines), handles)
    return figure


def _point(row: Row, key: str) -> Point:
    low, high = row.get(f"{key}_low"), row.get(f"{key}_high")
    half = row.get("accumulation_steps", 1) > 1
    if not low or not high or not 1e-12 < low <= high < 1e18:
        return Point(row["batch"], row[key], half=half)
    return Point(row["batch"], row[key], low, high, half)


def _looks(nets: Mapping[str, Sequence[Row]]) -> dict[str, Look]:
    """The look of each line by its name, no two the same in marker and dash, which are told without colour.

    The first of a family has its marker; what was trained without the clip that it should have is half-filled.
    """
    looks: dict[str, Look] = {}
    free = dict.fromkeys(product(MARKERS, range(len(DASHES))))
    for name, (first, *_) in nets.items():
        colour, marker = look(series(first["model"], first.get("family"))[1])
        turned = MARKERS[MARKERS.index(marker) :] + MARKERS[: MARKERS.index(marker)]
        marker, dash = next(pair for pair in product(turned, range(len(DASHES))) if pair in free)
        del free[marker, dash]
        looks[name] = Look(colour, marker, DASHES[dash], "left" if "dataset" in first and unclipped(first) else "full")
    return looks


def batch_accuracy(rows: list[Row], notes: list[str]) -> Figure:
    """Top-1 against batch, a line a net and λ; below what the paper reports (its Figure 2a)."""
    nets = dict(sorted(grouped(rows, lambda row: row["net"]).items(), key=lambda pair: (in_order(pair[1][0]), pair[0])))
    looks = _looks(nets)
    lines = [Curve(net, looks[net], *_trained(alike, lambda row: row["batch"])) for net, alike in nets.items()]
    notes.extend(lost(rows))
    figure, handles = draw(lines, Scale("measured top-1, %", number, 100), _batch_axis, more=2.1)
    handles += _reported(figure.axes[-1])
    epochs = rows[0].get("epochs")
    title = f"{plain(rows[0]['machine'], 44)}: measured top-1 on {plain(rows[0]['dataset'], 40)}"
    title += f" after {units.plural(epochs, 'epoch')}" if epochs else ""
    title += ", the rate scaled with the batch" if _scaled(nets) else ""
    frame(figure, title, _with_several(runs_note(rows, _MEANS, _FALLEN), lines), handles)
    return figure


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
    handles = []
    for (net, agc), points in grouped(published.rows("figure2a.csv"), lambda row: (row["net"], row["agc"])).items():
        dash = "-" if agc == "yes" or "nf" not in net else ":"
        more = {"linestyle": dash, "linewidth": 1.8 if net.endswith("200") else 0.8, "alpha": 0.8}
        style = hollow(look(net.rstrip("0123456789"))[1], **more)
        there = [(int(row["batch"]), float(row["top1"])) for row in points if row["top1"]]
        axes.plot(*zip(*there, strict=True), **style)
        fallen = [int(row["batch"]) for row in points if not row["top1"]]
        axes.plot(fallen, [_FLOOR + 0.25] * len(fallen), **hollow("x", linestyle="none", alpha=0.8))
        handles.append(Line2D([], [], label=f"reported: {net}{' with AGC' if agc == 'yes' else ''}", **style))
    handles.append(Line2D([], [], label="reported: below 70 %", **hollow("x", linestyle="none", alpha=0.8)))
    axes.set_xscale("log", base=2)
    axes.set_xticks([256, 512, 1024, 2048, 4096], ["256", "512", "1,024", "2,048", "4,096"])
    axes.minorticks_off()
    axes.set_ylim(_FLOOR, 80.2)
    axes.set_xlabel("batch, images an update")
    axes.set_ylabel("reported top-1, %")
    axes.set_title(f"ImageNet, reported: not measured here. {published.PAPER}, Figure 2a", loc="left", fontsize=8)
    return handles


def agc_lines(rows: list[Row], notes: list[str]) -> Figure:
    """Top-1 against λ, a line a batch."""
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

    def across(axes: Axes, values: Sequence[float]) -> str:
        small = _LETTER * (max(map(len, texts)) + 1) * len(texts) > _ACROSS
        axes.set_xticks(list(places.values()), texts, fontsize=7 if small else None)
        axes.set_xlim(-0.35, max(places.values()) + 0.35)
        if clips[-1] == "none" and len(clips) > 1:
            axes.axvline(places["none"] - (1 + _APART) / 2, color="#888888", linewidth=0.8, linestyle=":")
        return "clipping threshold λ"

    figure, handles = draw(lines, Scale("measured top-1, %", number, 100), across)
    note = _with_several(runs_note(rows, _MEANS, _FALLEN), lines)
    frame(figure, clips_title(rows), note, handles)
    return figure


def clips_title(rows: Sequence[Row]) -> str:
    """What stands above a figure of the λs of a net."""
    lengths = {"machine": 44, "net": 120, "dataset": 30}
    machine, net, dataset = (plain(str(rows[0][key]), most) for key, most in lengths.items())
    return f"{machine}: measured top-1, %, of {net} on {dataset}"


def clip_text(clip: object) -> str:
    """A λ on an axis."""
    return "no clip" if clip == "none" else f"{clip:g}"


def runs_note(rows: Sequence[Row], means: str, rest: str) -> str:
    """Seeds, epochs and px of training runs, ``means`` where there are several seeds, ``rest`` where some failed, and
    how far it goes."""
    parts = [_counted(sorted({row["runs"] for row in rows}), "seed")]
    if epochs := sorted({row["epochs"] for row in rows if "epochs" in row}):
        parts.append(_counted(epochs, "epoch"))
    if px := sorted({row["px"] for row in rows if "px" in row}):
        parts.append(f"{_ends(px)} px")
    several = any(row.get("top1_low") is not None for row in rows)
    tiny = "tiny nets" if any(row["model"].startswith("tiny-") for row in rows) else ""
    small = " and ".join(filter(None, ["Small data", tiny])) + " do not carry over to ImageNet."
    carries = all(row["dataset"] == "imagenet" for row in rows)
    failed = any(row.get("diverged") or row["status"] != "ok" for row in rows)
    counted = f"{', '.join(parts)}{f'. {means}' if several else '; no interval.'}"
    return " ".join(filter(None, [counted, rest if failed else "", "" if carries else small]))


def _counted(values: Sequence[int], word: str) -> str:
    return f"{_ends(values)} {word}{'s'[: values[-1] != 1]}"


def _ends(values: Sequence[int]) -> str:
    return f"{values[0]}" if len(values) == 1 else f"{values[0]} to {values[-1]}"


def draw(
    lines: Sequence[Curve], scale: Scale, across: Callable[[Axes, Sequence[float]], str], more: float = 0.0
) -> tuple[Figure, list[Artist]]:
    """The lines, below them a strip of what failed, and the entries of their legend.

    The x axis is made by ``across``, which says its label. At the end there is an empty panel of ``more`` inches.
    """
    failing = [line for line in lines if line.failed]
    marks = list(dict.fromkeys(f.what for line in failing for f in line.failed))
    heights = [2.5, *([0.14 + 0.17 * len(failing)] if failing else [])]
    figure = Figure(figsize=(COLUMN, sum(heights) + more), layout="constrained")
    grid = figure.add_gridspec(2 if more else 1, 1, height_ratios=[sum(heights), more] if more else None)
    inner = grid[0].subgridspec(len(heights), 1, height_ratios=heights)
    axes = figure.add_subplot(inner[0])
    for line in lines:
        _line(axes, line)
    values = [v for line in lines for p in line.points for v in (p.y, p.low, p.high) if v is not None]
    axes.set_ylabel(scale.label)
    if scale.base == 100:
        accuracy_axis(axes, values)
    elif scale.base:
        log_axis(axes.yaxis, values, scale.text, scale.base, least=1.0 if scale.base == 10 else 3.0)
    else:
        value_axis(axes.yaxis, values, scale.text)
    places = {p.x for line in lines for p in line.points} | {f.x for line in lines for f in line.failed}
    label = across(axes, sorted(places))
    last = axes
    if failing:
        last = figure.add_subplot(inner[1], sharex=axes)
        _strip(last, failing, marks)
        axes.tick_params(axis="x", labelbottom=False)
    last.set_xlabel(label)
    if more:
        figure.add_subplot(grid[1])
    handles: list[Artist] = [handle(line.name, line.look) for line in lines]
    handles += [Line2D([], [], color="black", linestyle="none", label=m, **_mark(marks, m)) for m in marks]
    return figure, handles


def _with_several(note: str, lines: Sequence[Curve]) -> str:
    several = any(len({point.x for point in line.points}) < len(line.points) for line in lines)
    return f"{note} {_SEVERAL}".strip() if several else note


def _line(axes: Axes, line: Curve) -> None:
    points = sorted(line.points, key=lambda point: (point.x, point.y))
    colour, marker, dash, fill = line.look
    once = list({p.x: p for p in reversed(points)}.values())[::-1]
    axes.plot([p.x for p in once], [p.y for p in once], color=colour, linestyle=dash, linewidth=1.2, zorder=2)
    for half, alike in grouped(points, lambda point: point.half).items():
        (drawn,) = axes.plot([p.x for p in alike], [p.y for p in alike], color=colour, marker=marker, zorder=3)
        # a half is told at this size
        drawn.set(markersize=5.5 if fill == "full" else 7, markerfacecoloralt="none" if half else "white")
        drawn.set(linestyle="none", fillstyle="bottom" if half else fill, label=f"_{plain(line.name, ENTRY)}")
    upright = [(p.x, p.low, p.high) for p in points if p.low is not None and p.high is not None]
    bars(axes, upright, color=colour, linewidth=1.4, zorder=2)


def _batch_axis(axes: Axes, values: Sequence[float]) -> str:
    """Batches, log base 2, those named that there is room for."""
    axes.set_xscale("log", base=2)
    low, high = math.log2(values[0]), math.log2(values[-1])
    room = max(0.05 * (high - low), 0.35)
    axes.set_xlim(2 ** (low - room), 2 ** (high + room))
    octave = _ACROSS / (high - low + 2 * room)
    ticks: list[float] = []
    for value in values:
        between = _LETTER * (len(number(value)) + len(number(ticks[-1])) + 2) / 2 if ticks else 0.0
        if not ticks or math.log2(value / ticks[-1]) * octave >= between:
            ticks.append(value)
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda value, _: number(value))
    return "batch, images an update"


def _mark(marks: Sequence[str], what: str) -> dict[str, Any]:
    """How ``what`` is drawn, one of all ``marks``."""
    return {"marker": ("x", "+", "1", "2", "3", "4")[marks.index(what) % 6], "markersize": 6}


def _strip(axes: Axes, lines: Sequence[Curve], marks: Sequence[str]) -> None:
    """A row for each line, told by a piece of it at the left, since names are long."""
    beside = axes.get_yaxis_transform()
    for place, line in enumerate(lines):
        colour = line.look.colour
        sample = handle("_sample", line.look, transform=beside, clip_on=False, markevery=[1], markersize=4.5)
        sample.set_data([-0.095, -0.055, -0.015], [place] * 3)
        axes.add_line(sample)
        for what in dict.fromkeys(failed.what for failed in line.failed):
            x = sorted({failed.x for failed in line.failed if failed.what == what})
            axes.plot(x, [place] * len(x), color=colour, linestyle="none", **_mark(marks, what))
        texts = {x: dict.fromkeys(f.text for f in at) for x, at in grouped(line.failed, lambda f: f.x).items()}
        _say(axes, place, colour, {x: "; ".join(filter(None, each)) for x, each in texts.items()})
    axes.set_yticks([])
    axes.set_ylim(len(lines) - 0.4, -0.6)


def _say(axes: Axes, place: int, colour: str, texts: Mapping[float, str]) -> None:
    """Write the texts of a row of the strip beside their marks, where there is room up to the next."""
    to_fraction = axes.transScale + axes.transLimits
    at = {x: float(to_fraction.transform((x, 1.0))[0]) for x in sorted(texts)}
    ends = [0.0, *at.values(), 1.0]
    for i, (x, here) in enumerate(at.items(), 1):
        wide = (0.14 + len(texts[x]) / LETTERS) / _ACROSS
        side = 1 if ends[i + 1] - here > wide else -1 if here - ends[i - 1] > 2 * wide else 0
        if texts[x] and side:
            written = axes.annotate(
                texts[x], (x, place), xytext=(5 * side, 0), textcoords="offset points", fontsize=7, va="center"
            )
            written.set(ha="left" if side > 0 else "right", color=dark(colour))
            written.set_in_layout(False)

"""What has an order: every step of a run, the epochs of training runs, and a workload over softwares."""

from __future__ import annotations

import math
import statistics
import textwrap
from collections.abc import Sequence
from typing import Any, NamedTuple

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from nfbench import units
from nfbench.analysis import stats, sweeps
from nfbench.analysis.metrics import step_time
from nfbench.analysis.rows import Row
from nfbench.analysis.stats import Estimate
from nfbench.records import MAX_KEPT_STEPS, PHASES, Result, Software
from nfbench.showing.figures.canvas import DASHES, Label, Sheet, bare, bars, entry, log_axis, near_axis, panel
from nfbench.showing.figures.prepared import by_epoch, lost
from nfbench.showing.figures.style import (
    COLOURS,
    COLUMN,
    MARKERS,
    PAGE,
    apart,
    distinct,
    drawable,
    headers,
    interval,
    look,
    names,
    plain,
    series,
)
from nfbench.units import grouped

_CLOSE = 1e-3
"""The share of a block by which the steps in it may miss its time."""
_WARM_UP = 20
"""Steps of the warm-up that there is always room for."""
_BEGINS = 60
"""Places of blocks up to which they are drawn."""
_LOG = 4
"""How many times the median the longest must take for a logarithmic axis."""
_GREY = "#8A8A8A"


def steps(rows: list[Row]) -> Sheet | None:
    """Seconds of every step of a run; None without one that can be drawn."""
    result: Result = rows[0]["result"]
    line = timeline(result)
    if line is None:
        return None
    figure, axes = panel(2.7, PAGE)
    what, whole = ("pass", "update") if result.composed else ("step", "block")
    an = "an" if result.composed else "a"
    colour = look(series(rows[0]["model"], rows[0].get("family"))[1])[0]
    size = 4 if len(line.timed) <= 200 else 2 if len(line.timed) <= 500 else 1.3
    handles: list[Artist] = []
    for points, text, shade, marker in (
        (line.timed, what, colour, "o"),
        (line.apart, f"first {what} of {an} {whole} (not in the median)", "black", "^"),
        (line.warm_up, "warm-up", _GREY, "x"),
    ):
        if points:
            style = {"color": shade, "marker": marker, "linestyle": "none", "label": text, "zorder": 3}
            x, y = [x for x, _ in points], [1e3 * t for _, t in points]
            handles += axes.plot(x, y, markersize=size if marker == "o" else max(size, 3), **style)  # type: ignore[arg-type]
    value, low, high = line.middle
    ends = [0.5, line.end + 0.5]
    (median,) = axes.plot(ends, [1e3 * value] * 2, color="black", linewidth=1, zorder=4)
    median.set_label(f"median {units.seconds(value, 3)}")
    handles.insert(1, median)
    if low is not None and high is not None:
        axes.fill_between(ends, 1e3 * low, 1e3 * high, color=_GREY, alpha=0.35, linewidth=0, zorder=2)
        handles.insert(2, Patch(facecolor=_GREY, alpha=0.35, label="its 95 % interval"))
    if 0 < len(line.begins) <= _BEGINS:
        dashed: dict[str, Any] = {"color": _GREY, "linestyle": "--", "linewidth": 0.7}
        for place in line.begins:
            axes.axvline(place - 0.5, zorder=1, **dashed)
        handles.append(entry(f"{an} {whole} begins", **dashed))
    axes.grid(visible=False, axis="x")
    axes.set_xlabel(f"{what} of the window")
    axes.set_ylabel(f"time of a {what}, ms")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    first = min([1.0, *(x for x, _ in line.warm_up)])
    axes.set_xlim(first - 0.7 - 0.01 * line.end, line.end + 0.7 + 0.01 * line.end)
    values = [1e3 * t for _, t in (*line.timed, *line.apart, *line.warm_up)]
    if max(values) > _LOG * statistics.median(values):
        log_axis(axes.yaxis, values, bare)
    else:
        near_axis(axes.yaxis, values)
    title = f"every {what} of {plain(result.step.model, 40)}, measured: {_settings(result)}"
    return Sheet(figure, title, _note(result, line), handles)


def _settings(result: Result) -> str:
    parts = [f"batch {result.step.batch}"]
    if (resolved := result.resolved) is not None:
        parts += [f"{resolved.px} px", resolved.precision, resolved.layout]
    parts += [f"{result.step.world_size} devices, the slowest of each step"] if result.step.world_size > 1 else []
    parts += [f"round {result.round + 1}"] if result.round else []
    parts += [f"turn {result.turn + 1}"] if result.turn else []
    return ", ".join([*parts, plain(result.start, 24), *([result.status] if result.status != "ok" else [])])


def _note(result: Result, line: Timeline) -> str:
    parts = list(line.notes)
    if line.middle.low is None:
        parts.append("The median has no interval: the steps are too few, or depend too much on each other.")
    if result.conditions.throttle:
        parts.append(f"The card was throttled: {plain(', '.join(result.conditions.throttle), 200)}.")
    return " ".join([*parts, "The y axis need not start at 0."])


Updates = list[tuple[float, float]]
"""Updates, or passes, each by its number in the window (0 and below: before it), with its seconds."""


class Timeline(NamedTuple):
    """A window: what was timed, what was kept apart (the first of each block), the warm-up before it, the places where
    a block or a composed update begins, the number of the last update, and the middle of what was timed."""

    timed: Updates
    apart: Updates
    warm_up: Updates
    begins: list[float]
    end: float
    middle: Estimate
    notes: list[str]


def timeline(result: Result) -> Timeline | None:
    """The updates of ``result``, or its passes where the step is composed of them; None without one that can be drawn.

    Of several ranks the slowest counts in each update; passes are rank 0's.
    """
    return _passes(result) if result.composed else _every_step(result)


def _every_step(result: Result) -> Timeline | None:
    middle = step_time(result)
    ranks = [r.values for r in result.each("step_time")]
    if middle is None or not drawable(middle.value) or not ranks:
        return None
    slowest = [None if None in step else max(v for v in step if v is not None) for step in zip(*ranks, strict=False)]
    every = _every(result, len(slowest))
    refills, blocks = (_values(result, name) for name in ("refill", "block_time"))
    counts = None if every > 1 else _counts([v or 0.0 for v in ranks[0]], refills, blocks)
    places: list[float] = []
    begins: list[float] = []
    apart: Updates = []
    at = 1
    if counts is None:
        places = [1.0 + every * i for i in range(len(slowest))]
        at += every * len(slowest)
    else:
        first = len(refills) // len(counts)
        for number, count in enumerate(counts):
            begins.append(float(at))
            apart += [(at + i, t) for i, t in enumerate(refills[number * first : (number + 1) * first])]
            places += [float(at + first + i) for i in range(count)]
            at += first + count
    timed = [(x, t) for x, t in zip(places, slowest, strict=True) if t is not None and drawable(t)]
    notes = [f"Of {result.value('steps') or 0:,.0f} steps one in {every} was kept."] if every > 1 else []
    if counts is None and refills:
        notes.append("The first step of each block is not drawn: where the blocks begin is not known.")
    warm_up = _warm_up(result, len(timed), notes)
    apart = [(x, t) for x, t in apart if drawable(t)]
    return Timeline(timed, apart, warm_up, begins[1:], at - 1, middle, notes) if timed else None


def _passes(result: Result) -> Timeline | None:
    phases = [r for r in result.readings if r.rank == 0 and r.name in PHASES and r.scope == "micro_step"]
    times = [sum(t) for t in zip(*(r.finite for r in phases), strict=False)]
    timed: Updates = [(i, t) for i, t in enumerate(times, 1) if drawable(t)]
    passes = round(result.value("passes") or 0)
    if step_time(result) is None or not timed or passes < 1:
        return None
    begins = [float(x) for x in range(1 + passes, len(times) + 1, passes)]
    notes = [f"Composed: the step is put together from updates of {passes} passes; each point is a pass."]
    return Timeline(timed, [], [], begins, len(times), stats.median([t for _, t in timed]), notes)


def _warm_up(result: Result, window: int, notes: list[str]) -> Updates:
    times = _values(result, "warm_up")
    drawn = times[-max(_WARM_UP, window // 2) :]
    if len(drawn) < len(times):
        notes.append(f"Of {len(times)} steps of the warm-up the last {len(drawn)} are drawn.")
    return [(i - len(drawn) + 1, t) for i, t in enumerate(drawn) if drawable(t)]


def _every(result: Result, count: int) -> int:
    """Every n-th step was kept, so that at most `MAX_KEPT_STEPS` values are."""
    steps = result.value("steps") or 0
    # no window has had so many
    every = math.ceil(steps / MAX_KEPT_STEPS) if steps < 1e12 else 1
    return every if every > 1 and math.ceil(steps / every) == count else 1


def _values(result: Result, name: str) -> list[float]:
    reading = result.reading(name)
    return reading.finite if reading else []


def _counts(steps: Sequence[float], refills: Sequence[float], blocks: Sequence[float]) -> list[int] | None:
    """How many of ``steps`` are in each block; None where the times of the blocks do not tell it."""
    if not blocks or len(refills) % len(blocks):
        return None
    first = len(refills) // len(blocks)
    counts, at = [], 0
    for number, block in enumerate(blocks):
        left = block - sum(refills[number * first : (number + 1) * first])
        spent, begun = 0.0, at
        while at < len(steps) and spent < left - _CLOSE * block:
            spent += steps[at]
            at += 1
        if not abs(spent - left) <= _CLOSE * block:
            return None
        counts.append(at - begun)
    return counts if at == len(steps) else None


# by epoch

_NUMBERS = 3
"""Updates that are named beside a cross."""
_LOSS_LOG = 50
"""How many times the least the largest loss must be for a logarithmic axis."""
_BEYOND = 2
"""How many times the largest loss of runs that did not diverge the axis shows of those that did."""


class _Net(NamedTuple):
    runs: Sequence[Row]
    name: str
    colour: str
    marker: str


def training_curves(rows: list[Row]) -> Sheet:
    """The curves of each training run, a line per net."""
    dataset = str(rows[0]["dataset"])
    nets = _nets(rows)
    lacks = lost(net.runs[0]["row"] for net in nets)
    loss = any(_points(row, "train_loss") for row in rows)
    figure = Figure(figsize=(PAGE, 4.8) if loss else (COLUMN, 3.3), layout="constrained")
    panels = figure.subplots(1 + loss, 1, squeeze=False, sharex=True, height_ratios=[3.1, 1.5][: 1 + loss])
    axes, last = panels[0, 0], panels[-1, 0]
    _curves(axes, nets, "top1", 100)
    _curves(axes, nets, "ema_top1", 100, "--")
    labels = _crosses(axes, nets)
    axes.set_ylabel(f"measured top-1 on {plain(dataset, 24)}, %")
    beyond = ""
    if loss:
        _curves(last, nets, "train_loss", 1)
        last.set_ylabel("training loss")
        beyond = _loss_axis(last, rows)
    last.set_xlabel("epoch")
    last.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    diverged = [row["diverged_in"] for row in rows if row["diverged_in"] is not None]
    end = max([1.0, *(len(by_epoch(row, "top1")) for row in rows), *diverged])
    axes.set_xlim(-0.02 * end if diverged else 1 - 0.02 * end, 1.02 * end)
    title = f"measured top-1{' and training loss' if loss else ''} on {plain(dataset, 30)}"
    return Sheet(figure, title, beyond, _handles(nets, rows), {axes: labels}, lacks)


def _nets(rows: Sequence[Row]) -> list[_Net]:
    """The nets with names, and with looks: the first of a family has its own, and no two have the same marker."""
    runs = list(grouped(rows, lambda row: row["of"]).values())
    nets_rows = [seeds[0]["row"] for seeds in runs]
    names = [plain(name) for name in sweeps.names(nets_rows, swept=())]
    if len({row["batch"] for row in nets_rows}) > 1:
        names = [f"{name}, batch {row['batch']}" for name, row in zip(names, nets_rows, strict=True)]
    texts = distinct((plain(text, 90) for text in apart(names, nets_rows)), "{} ({})")
    families = [look(series(row["model"], row.get("family"))[1]) for row in nets_rows]
    free = [colour for colour in COLOURS if colour not in dict(families)]
    nets: list[_Net] = []
    for seeds, text, (colour, marker) in zip(runs, texts, families, strict=True):
        if any(other.colour == colour for other in nets) and free:
            colour = free.pop(0)
        taken = {other.marker for other in nets}
        marker = marker if marker not in taken else next(m for m in MARKERS if m not in taken)
        nets.append(_Net(seeds, text, colour, marker))
    return nets


def _points(run: Row, name: str) -> list[tuple[float, float]]:
    """The values of a run with their epochs, from 1; one in which it diverged was evaluated where it broke off."""
    end = run["diverged_in"]
    values = enumerate(by_epoch(run, name), 1)
    return [(epoch if end is None else min(epoch, end), v) for epoch, v in values if not math.isnan(v)]


def _curves(axes: Axes, nets: Sequence[_Net], of: str, scale: float, dash: str = "-") -> None:
    """Draw ``of`` of each net: its seeds thin, and what all that are ok have in common as a thick line."""
    whole = dash == "-"
    for number, net in enumerate(nets):
        for run in net.runs if whole else ():
            points = _points(run, of)
            style = {"color": net.colour, "linewidth": 0.6, "alpha": 0.6, "marker": ".", "markersize": 2}
            label = f"_seed {run['seed']} {net.name}"
            axes.plot([x for x, _ in points], [scale * y for _, y in points], label=label, **style)  # type: ignore[arg-type]
        sound = [by_epoch(run, of) for run in net.runs if run["status"] == "ok"]
        # as far as all of them have a value
        means = enumerate((scale * sum(each) / len(each) for each in zip(*sound, strict=False)), 1)
        points = [(epoch, mean) for epoch, mean in means if not math.isnan(mean)]
        # so that the markers of lines that lie together do not
        stride = max(1, len(points) // 8)
        style = {"color": net.colour, "linestyle": dash, "marker": net.marker, "markevery": (number % stride, stride)}
        style |= {"linewidth": 1.8 if whole else 1.2, "markersize": 5 if whole else 3.5, "zorder": 3}
        axes.plot([x for x, _ in points], [y for _, y in points], label=f"_{of} {net.name}", **style)  # type: ignore[arg-type]


def _crosses(axes: Axes, nets: Sequence[_Net]) -> list[Label]:
    """Draw a cross where each run diverged, at its last top-1 or else at the bottom; returns what stands beside."""
    low, high = axes.get_ylim() if any(len(line.get_xdata()) for line in axes.lines) else (0.0, 100.0)  # type: ignore[arg-type]
    room = 0.06 * (high - low)
    low, high = max(low, 0.0) - room, min(high, 100.0) + room
    axes.set_ylim(low, high)
    labels: list[Label] = []
    for net in nets:
        diverged = [run for run in net.runs if run["diverged_in"] is not None]
        spots: list[tuple[float, float]] = []
        for run in diverged:
            x = run["diverged_in"]
            last, y = ([(x, low + room / 2)] + [(epoch, 100 * top) for epoch, top in _points(run, "top1")])[-1]
            axes.plot([last, x], [y, y], color=net.colour, linewidth=0.6, alpha=0.6, linestyle=":")
            axes.plot([x], [y], color=net.colour, marker="x", markersize=6, linestyle="none", label="_diverged")
            spots.append((x, y))
        if spots:
            updates = [f"{run['result'].value('diverged_at'):.0f}" for run in diverged]
            text = ", ".join(updates[:_NUMBERS]) + (", …" if len(updates) > _NUMBERS else "")
            labels.append(Label(*max(spots), f"update{'s'[: len(updates) != 1]} {text}", net.colour))
    return labels


def _loss_axis(axes: Axes, rows: Sequence[Row]) -> str:
    """Limits that one run which diverged doesn't press all others flat under, and what is beyond them, if anything."""
    values = [v for row in rows for _, v in _points(row, "train_loss")]
    sound = [v for row in rows if row["status"] == "ok" for _, v in _points(row, "train_loss")] or values
    most = max(max(sound), min(max(values), _BEYOND * max(sound)))
    inside = [v for v in values if v <= most]
    if most > _LOSS_LOG * min(inside):
        log_axis(axes.yaxis, inside, bare)
    else:
        axes.set_ylim(0, 1.06 * most)
    if max(values) <= most:
        return ""
    return f"Beyond the axis of the loss: up to {max(values):.3g}, of runs that diverged or failed."


def _handles(nets: Sequence[_Net], rows: Sequence[Row]) -> list[Artist]:
    entries: list[tuple[str, dict[str, Any], bool]]
    entries = [(net.name, {"color": net.colour, "marker": net.marker, "linewidth": 1.8}, True) for net in nets]
    several = any(len(net.runs) > 1 for net in nets)
    averaged = any(_points(row, "ema_top1") for row in rows)
    diverged = any(row["diverged_in"] is not None for row in rows)
    entries += [
        ("mean of the seeds", {"linewidth": 1.8}, several),
        ("a seed", {"linewidth": 0.6, "alpha": 0.6}, several),
        ("averaged weights (EMA)", {"linewidth": 1.2, "linestyle": "--"}, averaged),
        ("diverged", {"marker": "x", "markersize": 6, "linestyle": "none"}, diverged),
    ]
    return [entry(text, **({"color": "black", "markersize": 5} | style)) for text, style, there in entries if there]


# over softwares

_SESSIONS = (
    "Points are of separate runs, not interleaved: differences of a few per cent are the machine's noise between"
    " sessions; only `nfbench check` decides. A point without a bar has too few steps for an interval. The y axes need"
    " not start at 0."
)
_KEY = 0.135
"""Inches of a line of a legend."""
_TICK_LETTER, _TICK_LINE = 0.063, 0.13
"""Inches that a letter of a small label is wide and its line high, with some to spare."""
_VERSIONS = ("nfbench", "torch", "torchvision", "timm", "cuda", "cudnn", "python")


def history(rows: list[Row]) -> Sheet:
    """Step time over softwares in the order of their first result, a panel a workload."""
    workloads = list(grouped(rows, lambda row: row["of"]).values())
    softwares = list(dict.fromkeys(row["recorded"] for row in sorted(rows, key=lambda row: str(row["start"]))))
    columns = 1 if len(workloads) <= 6 else 2
    high = math.ceil(len(workloads) / columns)
    whole = COLUMN if columns == 1 else PAGE
    width = whole / columns - 0.8  # without the ticks and the label of the y axis
    axis = ticks(softwares, width)
    label = textwrap.wrap(f"software, in the order of its first result{axis.since}", int(width / 0.075))
    labelled = 1 if len(workloads) == high * columns else 2  # a column that is shorter has its labels a line higher
    counts = [len({row["became"] for row in workload}) for workload in workloads]
    keys = [count if count > 1 else 0 for count in counts]
    keyed = sum(max(keys[i : i + columns]) for i in range(0, len(workloads), columns))
    height = 1.45 * high + _KEY * keyed + labelled * (0.1 + _TICK_LINE * len(label) + axis.height)
    figure = Figure(figsize=(whole, height), layout="constrained")
    cells = figure.subplots(high, columns, sharex=True, squeeze=False)
    for cell in cells.flat[len(workloads) :]:
        cell.remove()
    for place, (axes, workload, title) in enumerate(zip(cells.flat, workloads, headers(workloads), strict=False)):
        # points that touch hide the line and the bars
        _workload(axes, workload, softwares, size=min(5.0, max(1.5, 25 * width / len(softwares))))
        axes.set_title(plain(title, int(width / 0.075)), loc="left", fontsize=8, pad=4 + 72 * _KEY * keys[place])
        if place + columns >= len(workloads):
            axes.tick_params(axis="x", labelbottom=True)
            axes.set_xlabel("\n".join(label), fontsize=8)
        axes.set_xticks(axis.places, axis.labels, rotation=axis.rotation, fontsize=7)
    cells[0, 0].set_xlim(-0.5, len(softwares) - 0.5)
    return Sheet(figure, "measured step time, 95 % intervals", _SESSIONS)


def _workload(axes: Axes, rows: Sequence[Row], softwares: Sequence[Software], size: float) -> None:
    extent: list[float] = []
    lines = sorted(grouped(rows, lambda row: row["became"]).values(), key=len, reverse=True)
    labels = names([line[0] | {"software": ""} for line in lines])
    for number, (line, label) in enumerate(zip(lines, labels, strict=True)):
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
        tight = {"borderaxespad": 0, "borderpad": 0, "labelspacing": 0.25, "handlelength": 3.0, "frameon": False}
        axes.legend(fontsize=7, loc="lower left", bbox_to_anchor=(0, 1.01), **tight)


class Ticks(NamedTuple):
    """Where software is named and how: ``height`` is in inches, ``since`` says the versions of the first."""

    places: list[int]
    labels: list[str]
    rotation: float
    height: float
    since: str


def ticks(softwares: Sequence[Software], width: float) -> Ticks:
    """Labels that don't overlap in ``width`` inches: upright where there are many, not of all where there are more."""
    every = math.ceil(len(softwares) / max(1, int(width / _TICK_LINE)))
    # the newest is always named
    places = list(range(len(softwares) - 1, -1, -every))[::-1]
    shown = [softwares[place] for place in places]
    labels = [_told_from(software, before) for before, software in zip(shown[:1] + shown, shown, strict=False)]
    varying = [v for v in _VERSIONS if len({getattr(software, v) for software in shown}) > 1]
    first = ", ".join(text for v in varying if (text := _version(shown[0], v)) != labels[0])
    longest = max(map(len, labels))
    upright = _TICK_LETTER * (longest + 2) > width / len(softwares)
    height = _TICK_LETTER * longest if upright else _TICK_LINE
    return Ticks(places, labels, 90 if upright else 0, height, f"; at first {first}" if first else "")


def _told_from(software: Software, before: Software) -> str:
    """The commit, and each version that differs from the one named before."""
    commit = f"{software.commit[:7]}{'+' if software.dirty else ''}" if software.commit else ""
    changed = [_version(software, v) for v in _VERSIONS if getattr(software, v) != getattr(before, v)]
    return plain(", ".join(filter(None, [commit, *changed])) or _version(software, "nfbench"))


def _version(software: Software, of: str) -> str:
    return plain(f"{of} {getattr(software, of) or 'none'}", 32)

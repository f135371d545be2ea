"""Rows below each other, in groups with a header, each with a dot and its interval in every panel."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import accumulate, pairwise
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MultipleLocator

from nfbench import units
from nfbench.analysis import sweeps, turn_ratios
from nfbench.analysis.rows import Row
from nfbench.analysis.stats import LEAST_ROUNDS, Estimate
from nfbench.catalog import published
from nfbench.records import PHASES
from nfbench.showing.figures.canvas import Sheet, bare, beside, dark, entry, hollow, log_axis, value_axis
from nfbench.showing.figures.style import (
    COLOURS,
    COLUMN,
    PAGE,
    apart,
    distinct,
    drawable,
    headers,
    interval,
    labels,
    look,
    names,
    plain,
    series,
    wrapped,
)
from nfbench.units import grouped

_NORMS = {"none": "o", "batch": "s", "sync_batch": "P", "group": "^", "frozen": "D"}
_LAYOUTS = {"nchw": "oD^PH", "nhwc": "sdvXp"}
"""Markers by precision."""
_PRECISIONS = ("fp32", "tf32", "fp16", "bf16")
_HOLLOW = "Ds^v<>phd"
"""Markers of the reported, one a source."""
_BARS = "Bars: 95 % intervals."
_TURNS = f"Bars: 95 % intervals over rounds; a point without one was measured in fewer than {LEAST_ROUNDS} rounds."
_REPORTS = "Reported: on the devices and at the settings of the source, which are not those measured here."
_OVER_IMAGES = "Memory: the peak over the images of a pass, weights and optimizer included."

Fill = Callable[[Axes, Sequence[float]], None]
"""Draws a panel, given the place of each row."""


def below_each_other(
    groups: Sequence[tuple[str, Sequence[str]]], panels: Sequence[tuple[str, float, Fill]], high: float = 0.19
) -> Figure:
    """Rows by their labels, those of a group below its header if it has one, in panels with an axis each of that label
    and share of the width; a line is ``high`` inches."""
    ticks: list[str] = []
    heads: set[int] = set()
    for header, texts in groups:
        if header:
            heads.add(len(ticks))
            ticks.append(header if "\n" in header else wrapped(header))
        ticks += texts
    # a row is as high as its label
    places = [0.0]
    for one, other in pairwise(ticks):
        places.append(places[-1] + 1 + 0.19 / high * 0.35 * (one.count("\n") + other.count("\n")))
    wide = COLUMN if len(panels) == 1 else PAGE
    figure = Figure(figsize=(wide, 0.55 + high * (places[-1] + 1)), layout="constrained")
    widths = [width for _, width, _ in panels]
    cells = figure.subplots(1, len(panels), sharey=True, squeeze=False, width_ratios=widths)[0]
    cells[0].set_yticks(places, ticks, fontsize=7)
    cells[0].set_ylim(places[-1] + 0.6, -0.6)
    for place in heads:
        cells[0].get_yticklabels()[place].set_fontweight("bold")
    for axes, (label, _, fill) in zip(cells, panels, strict=True):
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel(label)
        for place in heads - {0}:
            axes.axhline((places[place - 1] + places[place]) / 2, color="#BBBBBB", linewidth=0.8)
        fill(axes, [y for i, y in enumerate(places) if i not in heads])
    return figure


class Dot(NamedTuple):
    """A row: its label, what it is drawn as and named in the legend, if at all, and a value a panel or why there is
    none. Beside it stand values that were ``reported``, each with its source, and at its end a text."""

    label: str
    look: tuple[str, str]
    named: str
    values: Sequence[Estimate | None]
    why: str = ""
    reported: Sequence[published.ReportedRatio] = ()
    text: str = ""


class Quantity(NamedTuple):
    """What a panel shows: the label of its axis, how that is laid out over the values, and what is said of it below."""

    label: str
    axis: Callable[[Axis, Sequence[float]], None]
    note: str = ""


def _memory_axis(axis: Axis, values: Sequence[float]) -> None:
    value_axis(axis, values, lambda v: units.bytes_(v, 2))
    if axis.get_scale() == "linear":
        axis.set_major_locator(MultipleLocator(2.0 ** math.ceil(math.log2(max(values) / 4))))


def _ratio_axis(axis: Axis, values: Sequence[float]) -> None:
    axis.axes.axvline(1, color="black", linewidth=1, zorder=1)
    log_axis(axis, [1.0, *values], lambda v: units.significant(v, 1), least=0.6)


_in_seconds = partial(value_axis, text=lambda v: units.si(v, "s", 2))
_IMAGE = Quantity("time per image", _in_seconds)
_MEMORY = Quantity("peak memory per image", _memory_axis, _OVER_IMAGES)
_STEP = Quantity("step time", _in_seconds)
_RATIO = Quantity("times as fast as the second net (1: equally fast)", _ratio_axis)


def step_time(rows: list[Row]) -> Sheet:
    """Milliseconds of one optimizer update per model, with intervals."""
    return _by_model(rows, "step time, ms", lambda seconds, row: 1e3 * seconds)


def throughput(rows: list[Row]) -> Sheet:
    """Images per second per model, with the intervals of the step time."""
    return _by_model(rows, "throughput, images/s", lambda seconds, row: row["batch"] / seconds)


def _by_model(rows: Sequence[Row], label: str, value: Callable[[float, Row], float]) -> Sheet:
    dots = []
    for row, text in zip(rows, labels(rows), strict=True):
        ends = sorted(value(end, row) for end in interval(row) or ())
        family = look(series(row["model"], row.get("family"))[1])
        dots.append(Dot(text, family, "", [Estimate(value(row["step_time"], row), *ends)]))
    quantity = Quantity(label, partial(value_axis, text=bare))
    return _draw([("", dots)], [quantity], f"measured {label.partition(',')[0]}")


def norm_cost(rows: list[Row]) -> Sheet:
    """Time and peak bytes of an image by model and norm; its counterpart nf-NAME stands with a net."""
    groups = grouped(rows, lambda row: (row["base"], row.get("software")))
    headers_of = names([{"model": base, "software": software} for base, software in groups])
    headed = zip(headers_of, map(_norm_dots, groups.values()), strict=True)
    sheet = _draw(list(headed), (_IMAGE, _MEMORY), "measured cost of an image, by norm")
    whole = f"peak memory on {plain(rows[0]['machine'])}: it is of the whole process, Python and torch included"
    return sheet._replace(lacks=[whole] if any(row.get("peak_memory_of") == "process" for row in rows) else [])


def layouts(rows: list[Row]) -> Sheet:
    """Step time by model, layout, precision and compile mode."""
    groups = list(grouped(rows, lambda row: (row["model"], row["beside"])).values())
    headed = zip(headers(groups), map(_layout_dots, groups), strict=True)
    return _draw(list(headed), (_STEP,), "measured step time, by layout, precision and compile mode")


def speedup(rows: list[Row]) -> Sheet:
    """The measured ratio of each pair with its interval, over 1 where the net is faster.

    The reported ratios of the pair stand in its row, hollow.
    """
    pairs = []
    for row in rows:
        ratio = row["ratio"]
        family = series(row["model"], row.get("family"))[1]
        ends = [end for end in (row.get("speedup_low"), row.get("speedup_high")) if end is not None and drawable(end)]
        value = Estimate(row["speedup"], *(ends if len(ends) == 2 else ()))
        reported = turn_ratios.reported(ratio.net, ratio.baseline)
        named = f"measured: {plain(family, 40) or 'other'}"
        text = units.ratio(*ratio.speedup)
        dot = Dot(wrapped(str(row["settings"])), look(family), named, [value], "", reported, text)
        pairs.append((f"{plain(str(row['net']), 30)}\nagainst {plain(str(row['baseline']), 30)}", [dot]))
    note = f"{_TURNS} {_REPORTS}" if any(dot.reported for _, (dot,) in pairs) else _TURNS
    return _draw(pairs, [_RATIO], "measured speed-up, in turns", note)


def _draw(
    groups: Sequence[tuple[str, Sequence[Dot]]], quantities: Sequence[Quantity], title: str, note: str = _BARS
) -> Sheet:
    """The dots of each group below its header, in a panel for each quantity of which there is a value."""
    dots = [dot for _, of_group in groups for dot in of_group]
    looks = {dot.named: {"color": dot.look[0], "marker": dot.look[1], "markersize": 6} for dot in dots if dot.named}
    sources = list(dict.fromkeys(_source(r) for dot in dots for r in dot.reported))
    markers = {source: _HOLLOW[i % len(_HOLLOW)] for i, source in enumerate(sources)}
    looks |= {f"reported: {source}": hollow(marker) for source, marker in markers.items()}
    used = [(i, q) for i, q in enumerate(quantities) if any(dot.values[i] for dot in dots)]
    panels = [(q.label, 1.0, partial(_fill, dots=dots, panel=i, quantity=q, markers=markers)) for i, q in used]
    figure = below_each_other([(header, [dot.label for dot in of_group]) for header, of_group in groups], panels)
    handles = [entry(text, linestyle="none", **style) for text, style in looks.items()]
    return Sheet(figure, title, " ".join(filter(None, [note, *(q.note for _, q in used)])), handles)


def _fill(
    axes: Axes,
    places: Sequence[float],
    dots: Sequence[Dot],
    panel: int,
    quantity: Quantity,
    markers: dict[str, str],
) -> None:
    extent: list[float] = []
    for y, dot in zip(places, dots, strict=True):
        colour, marker = dot.look
        value = dot.values[panel]
        if value is None:
            beside(axes, dot.why, (0.03, y), 0, xycoords=("axes fraction", "data"), color=dark(colour))
            continue
        if value.low is not None and value.high is not None:
            axes.plot([value.low, value.high], [y, y], color=colour, linewidth=2, solid_capstyle="butt")
        axes.plot([value.value], [y], color=colour, marker=marker, markersize=6, linestyle="none", zorder=4)
        for reported in dot.reported:
            axes.plot([reported.value], [y], **hollow(markers[_source(reported)], linestyle="none"))
        if dot.text:
            ends = {"xycoords": ("axes fraction", "data"), "fontsize": 8}
            beside(axes, dot.text, (1, y), 4, **ends).set_in_layout(True)
        extent += [v for v in (*value, *(reported.value for reported in dot.reported)) if v is not None]
    quantity.axis(axes.xaxis, extent)


def _source(reported: published.ReportedRatio) -> str:
    """Who says it, each work named once: "arXiv 2102.06171, Table 3 and Table 6, TPUv3"."""
    work = reported.source.partition(",")[0]
    # claims name the device as a part of the table, tables after a comma
    return re.sub(r"(Table \d+) (?=TPUv3|V100)", r"\1, ", reported.source.replace(f" and {work}, ", " and "))


def _time(row: Row, images: float = 1) -> Estimate | None:
    """The step time with its interval, over so many images."""
    if not drawable(row.get("step_time")) or images <= 0:
        return None
    return Estimate(*(end / images for end in (row["step_time"], *(interval(row) or ()))))


def _why(row: Row) -> str:
    status = str(row.get("status"))
    return "absent" if status == "ok" else status.replace("_", " ")


def _norm_dots(rows: Sequence[Row]) -> list[Dot]:
    texts = sweeps.names(rows, swept=("norm", "agc", "agc_impl"))
    batches = len({row["batch"] for row in rows}) > 1
    pairs = [(row, text) for row, text in zip(rows, texts, strict=True)]
    pairs.sort(key=lambda pair: (pair[0]["normed"] != "none", pair[1], pair[0]["batch"], pair[0]["normed"]))
    ordered = [row for row, _ in pairs]
    named = [
        ", ".join(
            [plain(text, 60), *([] if _normed(row) in text else [_normed(row)]), *([f"batch {row['batch']}"] * batches)]
        )
        for row, text in pairs
    ]
    dots = []
    for row, label in zip(ordered, distinct(map(wrapped, apart(named, ordered)), "{} ({})"), strict=True):
        place = [*_NORMS, row["normed"]].index(row["normed"])
        memory = None if row.get("peak_memory_of") == "process" else row.get("memory_image")
        peak = Estimate(memory) if memory is not None and 1 <= memory < 1e18 else None
        marker = COLOURS[place], _NORMS.get(row["normed"], "X")
        dots.append(Dot(label, marker, _normed(row), (_time(row, row["batch"]), peak), _why(row)))
    return dots


def _normed(row: Row) -> str:
    return "no norm" if row["normed"] == "none" else f"{row['normed'].replace('_', ' ')} norm"


def _layout_dots(rows: Sequence[Row]) -> list[Dot]:
    ordered = sorted(rows, key=lambda row: (*map(str, row["way"][:2]), row["way"][2] != "none", str(row["way"][2])))
    known = [tuple(str(part or "?") for part in row["way"]) for row in ordered]
    named = [", ".join([*each[:2], *([f"compile {each[2]}"] if each[2] != "none" else [])]) for each in known]
    dots = []
    for row, (layout, precision, _), label in zip(ordered, known, apart(named, ordered), strict=True):
        place = _PRECISIONS.index(precision) if precision in _PRECISIONS else len(_PRECISIONS)
        marker = _LAYOUTS.get(layout, "<>*h8")[place]
        dots.append(Dot(label, (COLOURS[place], marker), f"{layout}, {precision}", (_time(row),), _why(row)))
    return dots


# phases

_FITS = 0.07
"""The share of a step from which on it can be written into its segment."""
_REST = "rest"
_HIGH = 0.7
"""Of a row, how high its bar is."""
_MOST_BARS = 60
"""Bars below each other that a figure has room for: beyond them those of ranks are left out."""
# colour, hatch and name: told apart in grey by how dark they are and by their hatch
_LOOKS = {
    "ascent": ("#CC79A7", "---", "ascent (SAM)"),
    "forward": ("#0072B2", "", "forward"),
    "backward": ("#56B4E9", "//", "backward"),
    "unscale": ("#999999", "\\\\", "unscale (fp16)"),
    "clip": ("#D55E00", "xxxx", "clip (AGC)"),
    "update": ("#F0E442", "..", "update"),
    "average": ("#009E73", "++", "average (EMA)"),
    _REST: ("white", "", "rest of the step"),
}
_MEDIANS = "Each phase is a median of its own: they need not add up to the step, whose median stands at the bar."
_RANKS = "A rank's bar is of its own medians; by itself it waits for no other."
_UNTIMED = "A white bar is of a step without timed phases, as under a CUDA graph."
_ENERGY = "Energy of the devices' own counters over the window: without the rest of the machine, evaluation or data."


class _Bar(NamedTuple):
    """A bar: its label, the seconds of its step and of each phase, what stands at it, and joules of an image."""

    label: str
    step: float
    parts: Mapping[str, float]
    text: str
    energy: float | None = None


def phases(rows: list[Row]) -> Sheet:
    """Forward, backward, clip and the other phases of each step: in milliseconds, as shares, and joules of an image.

    Where several devices shared a step, a bar a rank stands below it.
    """
    bars, lacks = _bars(rows, ranks=True), []
    if len(bars) > _MOST_BARS:
        count = units.plural(sum("ranks" in row for row in rows), "row")
        lacks = [f"no room for the ranks of {count}: draw fewer at once, with --where"]
        bars = _bars(rows, ranks=False)
    letters = max(len(bar.text) for bar in bars)
    panels = [
        ("time of the phases, ms", 0.8 + 0.03 * letters, partial(_times, bars=bars)),
        ("share of the step, %", 1.5, partial(_shares, bars=bars)),
    ]
    if energy := any(bar.energy for bar in bars):
        panels.append(("energy, J per image", 0.8, partial(_energies, bars=bars)))
    figure = below_each_other([("", [bar.label for bar in bars])], panels, high=0.26)
    handles = [
        Patch(facecolor=colour, hatch=hatch, edgecolor="black", linewidth=0.5, label=name)
        for phase, (colour, hatch, name) in _LOOKS.items()
        if any(phase in bar.parts for bar in bars)
    ]
    texts = {
        _MEDIANS: True,
        _UNTIMED: any(set(bar.parts) == {_REST} for bar in bars),
        _RANKS: any("ranks" in row for row in rows),
        _ENERGY: energy,
    }
    title = f"measured phases of a step{' and energy' if energy else ''}"
    return Sheet(figure, title, " ".join(text for text, holds in texts.items() if holds), handles, lacks=lacks)


def _bars(rows: Sequence[Row], ranks: bool) -> list[_Bar]:
    bars = []
    for row, label in zip(rows, labels(rows), strict=True):
        energy = row.get("image_energy")
        joules = energy if drawable(energy) else None
        bars.append(_Bar(label, row["step_time"], _parts(row), units.seconds(row["step_time"], 3), joules))
        for rank, each in row.get("ranks", {}).items() if ranks else ():
            alone = each.get("unsynchronized_step")
            by_itself = f" ({units.seconds(alone, 3)} by itself)" if alone else ""
            text = f"{units.seconds(each['step_time'], 3)}{by_itself}"
            bars.append(_Bar(f"rank {rank}", each["step_time"], _parts(each), text))
    return bars


def _parts(row: Row) -> dict[str, float]:
    """Seconds of each phase that was read, and of the rest where the step takes longer than they do together."""
    parts = {phase: row[phase] for phase in PHASES if drawable(row.get(phase))}
    rest = row["step_time"] - sum(parts.values())
    return parts | ({_REST: rest} if rest > 0 else {})


def _times(axes: Axes, places: Sequence[float], bars: Sequence[_Bar]) -> None:
    ends = _stack(axes, places, bars, lambda bar: 1e3)
    for y, end, bar in zip(places, ends, bars, strict=True):
        beside(axes, bar.text, (end, y))
    axes.set_xlim(0, (1.1 + 0.03 * max(len(bar.text) for bar in bars)) * max(ends))
    axes.xaxis.set_major_formatter(lambda value, _: bare(value))


def _shares(axes: Axes, places: Sequence[float], bars: Sequence[_Bar]) -> None:
    widest = max(_stack(axes, places, bars, lambda bar: 100 / bar.step))
    for y, bar in zip(places, bars, strict=True):
        shares = [100 * seconds / bar.step for seconds in bar.parts.values()]
        for phase, share, end in zip(bar.parts, shares, accumulate(shares), strict=True):
            if phase == "clip":
                beside(axes, f"clip {units.percent(share / 100, 2) if share >= 0.05 else 'below 0.1 %'}", (widest, y))
            elif share >= 100 * _FITS:
                ink = "white" if phase == "forward" else "black"
                inside = beside(axes, f"{share:.0f}", (end - share / 2, y), 0, ha="center", color=ink)
                inside.set_bbox(None if ink == "white" else {"facecolor": "white", "edgecolor": "none", "pad": 0.6})
    axes.set_xlim(0, 1.28 * widest)
    axes.set_xticks(range(0, 101, 20))


def _energies(axes: Axes, places: Sequence[float], bars: Sequence[_Bar]) -> None:
    joules = {y: bar.energy for y, bar in zip(places, bars, strict=True) if bar.energy}
    axes.barh(list(joules), list(joules.values()), _HIGH, color="#999999", edgecolor="black", linewidth=0.3)
    for y, value in joules.items():
        beside(axes, units.si(value, "J", 2), (value, y))
    axes.set_xlim(0, 1.45 * max(joules.values()))
    axes.xaxis.set_major_formatter(lambda value, _: bare(value))


def _stack(axes: Axes, places: Sequence[float], bars: Sequence[_Bar], scale: Callable[[_Bar], float]) -> list[float]:
    """Draw each bar of its parts end to end, and say where it ends: one artist a phase, since each takes its time."""
    stacked: dict[str, list[list[tuple[float, float]]]] = {}
    ends = []
    for place, bar in zip(places, bars, strict=True):
        edges = [scale(bar) * at for at in (0.0, *accumulate(bar.parts.values()))]
        low, high = place - _HIGH / 2, place + _HIGH / 2
        for phase, (left, right) in zip(bar.parts, pairwise(edges), strict=True):
            stacked.setdefault(phase, []).append([(left, low), (left, high), (right, high), (right, low)])
        ends.append(edges[-1])
    for phase, corners in stacked.items():
        colour, hatch, _ = _LOOKS[phase]
        drawn = PolyCollection(corners, facecolor=colour, hatch=hatch, edgecolor="black", linewidth=0.3)
        drawn.set_label(f"_{phase}")
        axes.add_collection(drawn)
    return ends

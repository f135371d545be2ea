"""Dots with intervals below each other, in groups with a header: step times, throughputs, costs and ratios of nets."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MultipleLocator

from nfbench import units
from nfbench.analysis import sweeps, turn_ratios
from nfbench.analysis.rows import Row
from nfbench.analysis.stats import LEAST_ROUNDS, Estimate
from nfbench.catalog import published
from nfbench.showing.figures import prepared
from nfbench.showing.figures.canvas import ENTRY, bare, dark, frame, hollow, log_axis, value_axis
from nfbench.showing.figures.prepared import norm, way
from nfbench.showing.figures.style import (
    COLOURS,
    COLUMN,
    PAGE,
    apart,
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
_LETTERS = 40
_BARS = "Bars: 95 % intervals."
_TURNS = f"Bars: 95 % intervals over rounds; a point without one was measured in fewer than {LEAST_ROUNDS} rounds."
_REPORTS = "Reported: on the devices and at the settings of the source, which are not those measured here."


class Dot(NamedTuple):
    """A row of the figure: its label, what it is drawn as and named in the legend, if at all, and a value a panel or
    why there is none. Beside it stand values that were ``reported``, each with its source, and at its end a text."""

    label: str
    colour: str
    marker: str
    named: str
    values: Sequence[Estimate | None]
    why: str = ""
    reported: Sequence[published.ReportedRatio] = ()
    text: str = ""


class Panel(NamedTuple):
    """A quantity: the label of its axis, how its ticks read, whether in powers of 2, and what is said of it below."""

    label: str
    text: Callable[[float], str]
    binary: bool = False
    note: str = ""


_IMAGE = Panel("time an image", lambda v: units.si(v, "s", 2))
_MEMORY = Panel(
    "peak memory an image",
    lambda v: units.bytes_(v, 2),
    binary=True,
    note="Memory: the peak over the images of a pass, weights and optimizer included.",
)
_STEP = Panel("step time", lambda v: units.si(v, "s", 2))
_RATIO = "times as fast as the second net (1: equally fast)"

Groups = Sequence[tuple[str, Sequence[Dot]]]


def step_time(rows: list[Row], notes: list[str]) -> Figure:
    """Milliseconds of one optimizer update per model, with intervals."""
    return _by_model(rows, Panel("step time, ms", bare), lambda seconds, row: 1e3 * seconds)


def throughput(rows: list[Row], notes: list[str]) -> Figure:
    """Images per second per model, with the intervals of the step time."""
    return _by_model(rows, Panel("throughput, images/s", bare), lambda seconds, row: row["batch"] / seconds)


def _by_model(rows: Sequence[Row], panel: Panel, value: Callable[[float, Row], float]) -> Figure:
    dots = []
    for row, label in zip(rows, labels(rows), strict=True):
        ends = sorted(value(end, row) for end in interval(row) or ())
        family = look(series(row["model"], row.get("family"))[1])
        dots.append(Dot(label, *family, "", [Estimate(value(row["step_time"], row), *ends)]))
    return draw([("", dots)], [panel], f"{plain(rows[0]['machine'], 44)}: measured {panel.label.partition(',')[0]}")


def norm_cost(rows: list[Row], notes: list[str]) -> Figure:
    """Time and peak bytes of an image by model and norm; its counterpart nf-NAME stands with a net."""
    machine = rows[0]["machine"]
    if any(row.get("peak_memory_of") == "process" for row in rows):
        notes.append(f"peak memory on {plain(machine)}: it is of the whole process, Python and torch included")
    groups = grouped(rows, lambda row: (row["base"], row.get("software")))
    headers_of = names([{"model": base, "software": software} for base, software in groups])
    headed = zip(headers_of, map(_norm_dots, groups.values()), strict=True)
    return draw(list(headed), (_IMAGE, _MEMORY), f"{plain(machine, 44)}: measured cost of an image, by norm")


def layouts(rows: list[Row], notes: list[str]) -> Figure:
    """Step time by model, layout, precision and compile mode."""
    groups = list(grouped(rows, lambda row: tuple(row.get(k) for k in ("model", *prepared.BESIDE_LAYOUT))).values())
    headed = zip(headers(groups), map(_layout_dots, groups), strict=True)
    title = "measured step time, by layout, precision and compile mode"
    return draw(list(headed), (_STEP,), f"{plain(rows[0]['machine'], 44)}: {title}")


def speedup(rows: list[Row], notes: list[str]) -> Figure:
    """The measured ratio of each pair with its interval, over 1 where the net is faster.

    The reported ratios of the pair stand in its row, hollow.
    """
    pairs = []
    for row in rows:
        ratio = row["ratio"]
        family = series(row["model"], row.get("family"))[1]
        ends = (row.get("speedup_low"), row.get("speedup_high"))
        sound = ends if all(map(drawable, ends)) else (None, None)
        reported = turn_ratios.reported(ratio.net, ratio.baseline)
        shown = units.interval(*ratio.speedup)
        label = wrapped(str(row["settings"]))
        entry = f"measured: {plain(family, 40) or 'other'}"
        dot = Dot(label, *look(family), entry, [Estimate(row["speedup"], *sound)], "", reported, shown)
        pairs.append((f"{plain(str(row['net']), 30)}\nagainst {plain(str(row['baseline']), 30)}", [dot]))
    note = f"{_TURNS} {_REPORTS}" if any(dot.reported for _, dots in pairs for dot in dots) else _TURNS
    panel = Panel(_RATIO, lambda v: units.significant(v, 1))
    return draw(pairs, [panel], f"{plain(rows[0]['machine'], 44)}: measured speed-up, in turns", note)


def draw(groups: Groups, panels: Sequence[Panel], title: str, note: str = _BARS) -> Figure:
    """The dots of each group below its header, if it has one, a column for each panel that has a value."""
    groups = [(header if "\n" in header else wrapped(header), dots) for header, dots in groups]
    every = [dot for _, dots in groups for dot in dots]
    used = [i for i in range(len(panels)) if any(dot.values[i] for dot in every)]
    sources = list(dict.fromkeys(_source(r) for dot in every for r in dot.reported))
    looks = {dot.named: {"color": dot.colour, "marker": dot.marker, "markersize": 6} for dot in every if dot.named}
    looks |= {f"reported: {source}": hollow(_HOLLOW[i % len(_HOLLOW)]) for i, source in enumerate(sources)}
    handles = [Line2D([], [], linestyle="none", label=plain(text, 80), **style) for text, style in looks.items()]  # type: ignore[arg-type]
    wide = COLUMN if len(used) == 1 else PAGE
    ticks = [tick for header, dots in groups for tick in ([header] if header else []) + [dot.label for dot in dots]]
    # a row is as high as its label
    places = [0.0]
    for one, other in pairwise(ticks):
        places.append(places[-1] + 1 + 0.35 * (one.count("\n") + other.count("\n")))
    figure = Figure(figsize=(wide, 0.55 + 0.19 * (places[-1] + 1)), layout="constrained")
    longest = max(len(line) for tick in ticks for line in tick.split("\n")) if len(ticks) > len(every) else 20
    inches = (wide - 0.5 - min(longest, ENTRY) * 0.052) / len(used)
    cells = figure.subplots(1, len(used), sharey=True, squeeze=False)[0]
    for axes, i in zip(cells, used, strict=True):
        _dots(axes, groups, places, i, sources)
        _axis(axes, panels[i], [v for dot in every for v in _extent(dot, i)], inches)
    first = cells[0]
    first.set_yticks(places, ticks, fontsize=7)
    first.set_ylim(places[-1] + 0.6, -0.6)
    at = 0
    for header, dots in groups:
        if header:
            first.get_yticklabels()[at].set_fontweight("bold")
            for axes in cells if at else ():
                axes.axhline((places[at - 1] + places[at]) / 2, color="#BBBBBB", linewidth=0.8)
        at += bool(header) + len(dots)
    frame(figure, title, " ".join(filter(None, [note, *(panels[i].note for i in used)])), handles)
    return figure


def _dots(axes: Axes, groups: Groups, places: Sequence[float], panel: int, sources: Sequence[str]) -> None:
    at = -1
    for header, dots in groups:
        at += bool(header)
        for dot in dots:
            at += 1
            y, value = places[at], dot.values[panel]
            if value is None:
                beside = ("axes fraction", "data")
                axes.annotate(dot.why, (0.03, y), xycoords=beside, fontsize=7, va="center", color=dark(dot.colour))
                continue
            if value.low is not None and value.high is not None:
                axes.plot([value.low, value.high], [y, y], color=dot.colour, linewidth=2, solid_capstyle="butt")
            axes.plot([value.value], [y], color=dot.colour, marker=dot.marker, markersize=6, linestyle="none", zorder=4)
            for reported in dot.reported:
                marker = _HOLLOW[sources.index(_source(reported)) % len(_HOLLOW)]
                axes.plot([reported.value], [y], **hollow(marker, linestyle="none"))
            if dot.text:
                axes.annotate(
                    dot.text, (1, y), xytext=(4, 0), xycoords=("axes fraction", "data"), textcoords="offset points",
                    va="center", fontsize=8,
                )  # fmt: skip


def _extent(dot: Dot, panel: int) -> list[float]:
    values = [v for v in dot.values[panel] or () if v is not None]
    return [*values, *(reported.value for reported in dot.reported)]


def _axis(axes: Axes, panel: Panel, values: Sequence[float], inches: float) -> None:
    axes.grid(visible=False, axis="y")
    axes.set_xlabel(panel.label)
    if panel.label == _RATIO:
        axes.axvline(1, color="black", linewidth=1, zorder=1)
        log_axis(axes.xaxis, [1.0, *values], panel.text, 10, least=0.6, inches=inches)
        return
    value_axis(axes.xaxis, values, panel.text, inches=inches)
    if panel.binary and axes.get_xscale() == "linear":
        axes.xaxis.set_major_locator(MultipleLocator(2.0 ** math.ceil(math.log2(max(values) / 4))))


def _source(reported: published.ReportedRatio) -> str:
    """Who says it, each work named once: "arXiv 2102.06171, Table 3 and Table 6, TPUv3"."""
    work = reported.source.partition(",")[0]
    # claims name the device as a part of the table, tables after a comma
    return re.sub(r"(Table \d+) (?=TPUv3|V100)", r"\1, ", reported.source.replace(f" and {work}, ", " and "))


def _time(row: Row, share: float = 1.0) -> Estimate | None:
    if not drawable(row.get("step_time")):
        return None
    return Estimate(*(end * share for end in (row["step_time"], *(interval(row) or ()))))


def _why(row: Row) -> str:
    status = str(row.get("status"))
    return "absent" if status == "ok" else status.replace("_", " ")


def _norm_dots(rows: Sequence[Row]) -> list[Dot]:
    names = sweeps.names(rows, swept=("norm", "agc", "agc_impl"))
    batches = len({row["batch"] for row in rows}) > 1
    ordered = sorted(
        zip(rows, names, strict=True),
        key=lambda pair: (norm(pair[0]) != "none", pair[1], pair[0]["batch"], norm(pair[0])),
    )
    labels = []
    for row, text in ordered:
        normed = [] if _normed(row) in text else [_normed(row)]
        labels.append(", ".join([plain(text, _LETTERS), *normed, *([f"batch {row['batch']}"] if batches else [])]))
    dots = []
    for (row, _), label in zip(ordered, apart(labels, [row for row, _ in ordered]), strict=True):
        place = list(_NORMS).index(norm(row)) if norm(row) in _NORMS else len(_NORMS)
        memory = None if row.get("peak_memory_of") == "process" else row.get("memory_image")
        values = (
            _time(row, 1 / row["batch"]) if row["batch"] > 0 else None,
            Estimate(memory) if memory is not None and 1 <= memory < 1e18 else None,
        )
        dots.append(Dot(label, COLOURS[place], _NORMS.get(norm(row), "X"), _normed(row), values, _why(row)))
    return dots


def _normed(row: Row) -> str:
    return "no norm" if norm(row) == "none" else f"{norm(row).replace('_', ' ')} norm"


def _layout_dots(rows: Sequence[Row]) -> list[Dot]:
    ordered = sorted(rows, key=lambda row: (*map(str, way(row)[:2]), way(row)[2] != "none", str(way(row)[2])))
    labels = []
    for layout, precision, compile in map(way, ordered):
        parts = [str(layout or "?"), str(precision or "?"), *([f"compile {compile}"] if compile != "none" else [])]
        labels.append(", ".join(parts))
    dots = []
    for row, label in zip(ordered, apart(labels, ordered), strict=True):
        layout, precision, _ = way(row)
        place = _PRECISIONS.index(str(precision)) if precision in _PRECISIONS else len(_PRECISIONS)
        marker = _LAYOUTS.get(str(layout), "<>*h8")[place]
        entry = f"{layout or '?'}, {precision or '?'}"
        dots.append(Dot(label, COLOURS[place], marker, entry, (_time(row),), _why(row)))
    return dots

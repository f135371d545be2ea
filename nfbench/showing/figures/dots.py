"""Rows below each other, in groups with a header, each with a dot and its interval in every panel."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator

from nfbench import units
from nfbench.analysis import sweeps, turn_ratios
from nfbench.analysis.rows import Row
from nfbench.analysis.stats import LEAST_ROUNDS, Estimate
from nfbench.catalog import published
from nfbench.showing.figures import prepared
from nfbench.showing.figures.canvas import Picture, bare, beside, dark, entry, hollow, log_axis, value_axis
from nfbench.showing.figures.prepared import norm, way
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
    ticks, heads = [], set()
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
_IMAGE = Quantity("time an image", _in_seconds)
_MEMORY = Quantity("peak memory an image", _memory_axis, _OVER_IMAGES)
_STEP = Quantity("step time", _in_seconds)
_RATIO = Quantity("times as fast as the second net (1: equally fast)", _ratio_axis)


def step_time(rows: list[Row], notes: list[str]) -> Picture:
    """Milliseconds of one optimizer update per model, with intervals."""
    return _by_model(rows, "step time, ms", lambda seconds, row: 1e3 * seconds)


def throughput(rows: list[Row], notes: list[str]) -> Picture:
    """Images per second per model, with the intervals of the step time."""
    return _by_model(rows, "throughput, images/s", lambda seconds, row: row["batch"] / seconds)


def _by_model(rows: Sequence[Row], label: str, value: Callable[[float, Row], float]) -> Picture:
    dots = []
    for row, text in zip(rows, labels(rows), strict=True):
        ends = sorted(value(end, row) for end in interval(row) or ())
        family = look(series(row["model"], row.get("family"))[1])
        dots.append(Dot(text, family, "", [Estimate(value(row["step_time"], row), *ends)]))
    quantity = Quantity(label, partial(value_axis, text=bare))
    return _draw([("", dots)], [quantity], f"measured {label.partition(',')[0]}")


def norm_cost(rows: list[Row], notes: list[str]) -> Picture:
    """Time and peak bytes of an image by model and norm; its counterpart nf-NAME stands with a net."""
    if any(row.get("peak_memory_of") == "process" for row in rows):
        whose = "it is of the whole process, Python and torch included"
        notes.append(f"peak memory on {plain(rows[0]['machine'])}: {whose}")
    groups = grouped(rows, lambda row: (row["base"], row.get("software")))
    headers_of = names([{"model": base, "software": software} for base, software in groups])
    headed = zip(headers_of, map(_norm_dots, groups.values()), strict=True)
    return _draw(list(headed), (_IMAGE, _MEMORY), "measured cost of an image, by norm")


def layouts(rows: list[Row], notes: list[str]) -> Picture:
    """Step time by model, layout, precision and compile mode."""
    groups = list(grouped(rows, lambda row: tuple(row.get(k) for k in ("model", *prepared.BESIDE_LAYOUT))).values())
    headed = zip(headers(groups), map(_layout_dots, groups), strict=True)
    return _draw(list(headed), (_STEP,), "measured step time, by layout, precision and compile mode")


def speedup(rows: list[Row], notes: list[str]) -> Picture:
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
        text = units.interval(*ratio.speedup)
        dot = Dot(wrapped(str(row["settings"])), look(family), named, [value], "", reported, text)
        pairs.append((f"{plain(str(row['net']), 30)}\nagainst {plain(str(row['baseline']), 30)}", [dot]))
    note = f"{_TURNS} {_REPORTS}" if any(dot.reported for _, (dot,) in pairs) else _TURNS
    return _draw(pairs, [_RATIO], "measured speed-up, in turns", note)


def _draw(
    groups: Sequence[tuple[str, Sequence[Dot]]], quantities: Sequence[Quantity], title: str, note: str = _BARS
) -> Picture:
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
    return Picture(figure, title, " ".join(filter(None, [note, *(q.note for _, q in used)])), handles)


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
    pairs.sort(key=lambda pair: (norm(pair[0]) != "none", pair[1], pair[0]["batch"], norm(pair[0])))
    ordered = [row for row, _ in pairs]
    named = [
        ", ".join(
            [plain(text, 60), *([] if _normed(row) in text else [_normed(row)]), *([f"batch {row['batch']}"] * batches)]
        )
        for row, text in pairs
    ]
    dots = []
    for row, label in zip(ordered, distinct(map(wrapped, apart(named, ordered)), "{} ({})"), strict=True):
        place = list(_NORMS).index(norm(row)) if norm(row) in _NORMS else len(_NORMS)
        memory = None if row.get("peak_memory_of") == "process" else row.get("memory_image")
        peak = Estimate(memory) if memory is not None and 1 <= memory < 1e18 else None
        marker = COLOURS[place], _NORMS.get(norm(row), "X")
        dots.append(Dot(label, marker, _normed(row), (_time(row, row["batch"]), peak), _why(row)))
    return dots


def _normed(row: Row) -> str:
    return "no norm" if norm(row) == "none" else f"{norm(row).replace('_', ' ')} norm"


def _layout_dots(rows: Sequence[Row]) -> list[Dot]:
    ordered = sorted(rows, key=lambda row: (*map(str, way(row)[:2]), way(row)[2] != "none", str(way(row)[2])))
    known = [tuple(str(part or "?") for part in way(row)) for row in ordered]
    named = [", ".join([*each[:2], *([f"compile {each[2]}"] if each[2] != "none" else [])]) for each in known]
    dots = []
    for row, (layout, precision, _), label in zip(ordered, known, apart(named, ordered), strict=True):
        place = _PRECISIONS.index(precision) if precision in _PRECISIONS else len(_PRECISIONS)
        marker = _LAYOUTS.get(layout, "<>*h8")[place]
        dots.append(Dot(label, (COLOURS[place], marker), f"{layout}, {precision}", (_time(row),), _why(row)))
    return dots

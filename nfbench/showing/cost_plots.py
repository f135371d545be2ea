"""What a normalization costs, and what a layout, precision or compile mode saves: dots with intervals, by model."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MultipleLocator

from nfbench import units
from nfbench.analysis import lines
from nfbench.analysis.accuracy import norm_of
from nfbench.analysis.rows import Row
from nfbench.analysis.sweeps import batch_sweep, records
from nfbench.catalog.models import find, normalizer_free
from nfbench.errors import UnknownModel
from nfbench.showing.kinds import Drawing, Held
from nfbench.showing.style import COLOURS, drawable, plain
from nfbench.showing.sweep_lines import WIDTH, columns_of, legend, log_axis

_NORMS = {"none": "o", "batch": "s", "sync_batch": "P", "group": "^", "frozen": "D"}
_LAYOUTS = {"nchw": "o", "nhwc": "s"}
_PRECISIONS = ("fp32", "tf32", "fp16", "bf16")
_MOST = 36
"""Dots that a figure has room for."""
_NOTE = "Bars: 95 % intervals."
_MEMORY_NOTE = f"{_NOTE} Memory: the peak over the images of a pass, weights and optimizer included."


class Value(NamedTuple):
    """A value with its interval, in SI units."""

    value: float
    low: float | None = None
    high: float | None = None


class Dot(NamedTuple):
    """A row of the figure: its label, what it is drawn as and named in the legend, a value a panel or why none."""

    label: str
    colour: str
    marker: str
    named: str
    values: Sequence[Value | None]
    why: str


class Panel(NamedTuple):
    """A quantity: the label of its axis and how its ticks read."""

    label: str
    text: Callable[[float], str]


_IMAGE = Panel("time an image", lambda v: units.si(v, "s", 2))
_MEMORY = Panel("peak memory an image", lambda v: units.bytes_(v, 2))
_STEP = Panel("step time", lambda v: units.si(v, "s", 2))


def norm_cost(held: Held) -> Drawing:
    """Time and peak bytes of an image by model and norm, one figure a machine.

    It takes a net under two norms, or beside its batch-normalized twin; its counterpart nf-NAME stands with them.
    """
    why = "no other norm of it, nor its twin"
    groups = _groups(held, lambda row: (_base(row["model"]),))
    few = {key for key, rows in groups.items() if not _two_norms(rows)}
    panels = _IMAGE, _MEMORY
    drawing = _drawing("norm-cost", groups, few, why, _norm_dots, panels, "measured, by norm", _MEMORY_NOTE)
    drawn = {machine for machine, _ in drawing.figures}
    shared = (row["machine"] for key, rows in groups.items() if key not in few for row in rows if _of_process(row))
    drawing.left_out.extend(
        f"norm-cost: peak memory on {plain(machine)}: it is of the whole process, Python and torch included"
        for machine in dict.fromkeys(shared)
        if machine in drawn
    )
    return drawing


def layouts(held: Held) -> Drawing:
    """Step time by model, layout, precision and compile mode, one figure a machine.

    It takes a net in two of them at one batch and px.
    """
    rest = ("px", "norm", "agc", "sam", "ema", "optimizer")
    groups = _groups(held, lambda row: (row["model"], row["batch"], *(row.get(key) for key in rest)))
    few = {key for key, rows in groups.items() if len({_way(row) for row in rows}) < 2}
    why = "one layout, precision and compile mode only"
    title = "measured step time, by layout, precision and compile mode"
    return _drawing("layouts", groups, few, why, _layout_dots, (_STEP,), title, _NOTE)


_Groups = dict[tuple[object, ...], list[Row]]


def _groups(held: Held, key: Callable[[Row], tuple[object, ...]]) -> _Groups:
    found: _Groups = {}
    for row in records(batch_sweep(held.rows)):
        found.setdefault((row["machine"], *key(row)), []).append(row)
    return found


def _drawing(
    kind: str,
    groups: _Groups,
    few: set[tuple[object, ...]],
    why: str,
    dots: Callable[[Sequence[Row]], list[Dot]],
    panels: Sequence[Panel],
    title: str,
    note: str,
) -> Drawing:
    drawing = Drawing([], [], [])
    if not groups:
        drawing.lacking.append(f"{kind}: the results hold no step; nfbench step-time measures one")
    machines: dict[str, list[tuple[str, list[Dot]]]] = {}
    for key, rows in groups.items():
        machine = str(key[0])
        if key in few:
            drawing.lacking.extend(f"{kind}: {_said(row)}: {why}" for row in rows)
            continue
        there = machines.setdefault(machine, [])
        if sum(len(some) for _, some in there) + len(rows) > _MOST:
            drawing.left_out.extend(f"{kind}: {_said(row)}: a figure has room for {_MOST} rows" for row in rows)
        else:
            there.append((_header(key, groups), dots(rows)))
    for machine, some in machines.items():
        if any(value for _, each in some for dot in each for value in dot.values):
            drawing.figures.append((machine, _figure(some, panels, f"{plain(machine)}: {title}", note)))
        else:
            drawing.lacking.append(f"{kind}: on {plain(machine)}: no value")
    return drawing


def _header(key: tuple[object, ...], groups: _Groups) -> str:
    """The model of a group, with the batch and px where another group of that model has others."""
    same = [other for other in groups if other[:2] == key[:2]]
    words = ("batch {}", "{} px", "{} norm", "λ {}", "SAM {}", "EMA {}", "{}")
    differ = [i for i in range(2, len(key)) if len({other[i] for other in same}) > 1]
    return ", ".join([plain(str(key[1]), 32), *(words[i - 2].format(key[i]) for i in differ)])


def _said(row: Row) -> str:
    return f"{plain(row['net'])} on {plain(row['machine'])}, batch {row['batch']}"


def _base(model: str) -> str:
    """The normalizer-free net that a net is compared with, itself where there is none."""
    nf = normalizer_free(model)
    if nf is not None:
        return nf.name
    try:
        return find(model).name
    except UnknownModel:
        return model


def _norm(row: Row) -> str:
    return str(row.get("norm") or norm_of(row["model"]) or "unknown")


def _two_norms(rows: Sequence[Row]) -> bool:
    norms: dict[str, set[str]] = {}
    for row in rows:
        norms.setdefault(row["model"], set()).add(_norm(row))
    twin = any(name.startswith("bn-") and name.removeprefix("bn-") in norms for name in norms)
    return twin or any(len(each) > 1 for each in norms.values())


def _way(row: Row) -> tuple[object, ...]:
    return row.get("layout"), row.get("precision"), row.get("compile")


def _time(row: Row, share: float = 1.0) -> Value | None:
    ends = row.get("step_time_low"), row.get("step_time_high")
    if not drawable(row.get("step_time")):
        return None
    low, high = (end * share if drawable(end) and end is not None else None for end in ends)
    return Value(row["step_time"] * share, low, high)


def _why(row: Row) -> str:
    status = str(row.get("status"))
    return "absent" if status == "ok" else status.replace("_", " ")


def _norm_dots(rows: Sequence[Row]) -> list[Dot]:
    names = lines.names(rows, swept=("norm", "agc", "agc_impl"))
    batches = len({row["batch"] for row in rows}) > 1
    found = []
    for row, name in sorted(
        zip(rows, names, strict=True), key=lambda pair: (_norm(pair[0]) != "none", pair[1], pair[0]["batch"])
    ):
        norm = _norm(row)
        label = ", ".join([plain(name, 30), norm.replace("_", " "), *([f"batch {row['batch']}"] if batches else [])])
        place = list(_NORMS).index(norm) if norm in _NORMS else len(_NORMS)
        memory = None if _of_process(row) else row.get("memory_image")
        values = (
            _time(row, 1 / row["batch"]) if row["batch"] > 0 else None,
            Value(memory) if memory is not None and 1 <= memory < 1e18 else None,
        )
        named = "no norm" if norm == "none" else f"{norm.replace('_', ' ')} norm"
        found.append(Dot(label, COLOURS[place], _NORMS.get(norm, "X"), named, values, _why(row)))
    return found


def _of_process(row: Row) -> bool:
    return row.get("peak_memory_of") == "process"


def _in_way(row: Row) -> tuple[str, str, bool, str]:
    layout, precision, compile = map(str, _way(row))
    return layout, precision, compile != "none", compile


def _layout_dots(rows: Sequence[Row]) -> list[Dot]:
    found = []
    for row in sorted(rows, key=_in_way):
        layout, precision, compile = _way(row)
        place = _PRECISIONS.index(str(precision)) if precision in _PRECISIONS else len(_PRECISIONS)
        parts = [str(layout or "?"), str(precision or "?"), *([f"compile {compile}"] if compile != "none" else [])]
        named = f"{layout or '?'}, {precision or '?'}"
        marker = _LAYOUTS.get(str(layout), "X")
        found.append(Dot(", ".join(parts), COLOURS[place], marker, named, (_time(row),), _why(row)))
    return found


def _figure(groups: Sequence[tuple[str, Sequence[Dot]]], panels: Sequence[Panel], title: str, note: str) -> Figure:
    used = [i for i in range(len(panels)) if any(d.values[i] for _, dots in groups for d in dots)]
    named = {d.named: d for _, dots in groups for d in dots}
    handles = [
        Line2D([], [], color=d.colour, marker=d.marker, linestyle="none", markersize=6, label=text)
        for text, d in named.items()
    ]
    columns, deep = columns_of(handles)
    number = sum(len(dots) + 1 for _, dots in groups)
    heights = [0.5 + 0.21 * number, 0.15 + 0.17 * deep]
    figure = Figure(figsize=(WIDTH, sum(heights) + 0.75), layout="constrained")
    grid = figure.add_gridspec(2, len(used), height_ratios=heights)
    first: Axes | None = None
    for column, i in enumerate(used):
        axes = figure.add_subplot(grid[0, column], sharey=first)
        _dots(axes, groups, i, panels[i])
        if first is not None:
            axes.tick_params(labelleft=False)
        first = first or axes
    legend(figure.add_subplot(grid[1, :]), handles, columns)
    figure.suptitle(title, x=0.01, ha="left", fontsize=9)
    figure.supxlabel(note if _MEMORY in [panels[i] for i in used] else _NOTE, x=0.01, ha="left", fontsize=7)
    return figure


def _dots(axes: Axes, groups: Sequence[tuple[str, Sequence[Dot]]], panel: int, what: Panel) -> None:
    ticks: list[str] = []
    heads: list[int] = []
    values: list[float] = []
    for header, dots in groups:
        heads.append(len(ticks))
        ticks.append(header)
        for dot in dots:
            place, value = len(ticks), dot.values[panel]
            ticks.append(dot.label)
            if value is None:
                axes.annotate(
                    dot.why,
                    (0.03, place),
                    xycoords=("axes fraction", "data"),
                    fontsize=7,
                    va="center",
                    color=dot.colour,
                )
                continue
            values += [v for v in value if v is not None]
            if value.low is not None and value.high is not None:
                axes.plot([value.low, value.high], [place] * 2, color=dot.colour, linewidth=2, solid_capstyle="butt")
            axes.plot([value.value], [place], color=dot.colour, marker=dot.marker, markersize=6, linestyle="none")
    axes.set_yticks(range(len(ticks)), ticks, fontsize=7)
    axes.set_ylim(len(ticks) - 0.5, -0.6)
    for head in heads:
        axes.get_yticklabels()[head].set_fontweight("bold")
        if head:
            axes.axhline(head - 0.5, color="#BBBBBB", linewidth=0.8)
    axes.set_xlabel(what.label)
    if max(values) > 8 * min(values):
        log_axis(axes.xaxis, values, what.text, 10, least=1.0)
    else:
        axes.set_xlim(0, 1.1 * max(values))
        if what is _MEMORY:
            axes.xaxis.set_major_locator(MultipleLocator(2.0 ** math.ceil(math.log2(max(values) / 4))))
        else:
            axes.locator_params(axis="x", nbins=4)
        axes.xaxis.set_major_formatter(lambda value, _: what.text(value) if value else "0")

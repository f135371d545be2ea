"""Bars and cells: where the time of a step goes, and top-1 by clipping threshold and batch (the paper's Figure 2b)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise, product
from typing import Any, NamedTuple

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from nfbench import units
from nfbench.analysis.rows import Row
from nfbench.records import PHASES
from nfbench.showing.figures.canvas import bare, frame, number
from nfbench.showing.figures.curves import clip_text, clips_title, runs_note
from nfbench.showing.figures.prepared import clip_place, top1, top1_ends
from nfbench.showing.figures.style import COLUMN, PAGE, drawable, labels, plain
from nfbench.units import grouped

_FITS = 0.07
"""The share of a step from which on it can be written into its segment."""
_REST = "rest"
_HIGH = 0.7
"""Of a row, how high its bar is."""
_MOST_BARS = 60
"""Bars below each other that a figure has room for: beyond them those of ranks are left out."""


class _Look(NamedTuple):
    colour: str
    hatch: str
    text: str


# told apart in grey by how dark they are and by their hatch
_LOOKS = {
    "ascent": _Look("#CC79A7", "---", "ascent (SAM)"),
    "forward": _Look("#0072B2", "", "forward"),
    "backward": _Look("#56B4E9", "//", "backward"),
    "unscale": _Look("#999999", "\\\\", "unscale (fp16)"),
    "clip": _Look("#D55E00", "xxxx", "clip (AGC)"),
    "update": _Look("#F0E442", "..", "update"),
    "average": _Look("#009E73", "++", "average (EMA)"),
    _REST: _Look("white", "", "rest of the step"),
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


def phases(rows: list[Row], notes: list[str]) -> Figure:
    """Forward, backward, clip and the other phases of each step: in milliseconds, as shares, and joules of an image.

    Where several devices shared a step, a bar a rank stands below it.
    """
    bars = _bars(rows, ranks=True)
    if len(bars) > _MOST_BARS:
        count = units.plural(sum("ranks" in row for row in rows), "row")
        notes.append(f"no room for the ranks of {count}: draw fewer at once, with --where")
        bars = _bars(rows, ranks=False)
    widths = [1.0, 1.5, *([0.8] if any(bar.energy for bar in bars) else [])]
    lines = 1 + max(bar.label.count("\n") for bar in bars)
    high = 0.6 + (0.28 if lines == 1 else 0.18 + 0.125 * (lines - 1)) * len(bars)
    figure = Figure(figsize=(PAGE, high), layout="constrained")
    times, shares, *energies = figure.subplots(1, len(widths), sharey=True, width_ratios=widths)
    _times(times, bars)
    _shares(shares, bars)
    for axes in energies:
        _energies(axes, bars)
    times.set_yticks(range(len(bars)), [bar.label for bar in bars], fontsize=7.5)
    times.set_ylim(len(bars) - 0.4, -0.6)
    for axes in (times, shares, *energies):
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
    used = [phase for phase in _LOOKS if any(phase in bar.parts for bar in bars)]
    handles = [
        Patch(facecolor=look.colour, hatch=look.hatch, edgecolor="black", linewidth=0.5, label=look.text)
        for look in map(_LOOKS.__getitem__, used)
    ]
    texts = {
        _MEDIANS: True,
        _UNTIMED: any(set(bar.parts) == {_REST} for bar in bars),
        _RANKS: any("ranks" in row for row in rows),
        _ENERGY: bool(energies),
    }
    title = f"{plain(rows[0]['machine'])}: measured phases of a step{' and energy' if energies else ''}"
    frame(figure, title, " ".join(text for text, holds in texts.items() if holds), handles)
    return figure


def _bars(rows: Sequence[Row], ranks: bool) -> list[_Bar]:
    bars = []
    for row, label in zip(rows, labels(rows), strict=True):
        several = row.get("ranks", {}) if ranks else {}
        energy = row.get("image_energy")
        joules = energy if drawable(energy) else None
        bars.append(_Bar(label, row["step_time"], _parts(row), units.seconds(row["step_time"], 3), joules))
        for rank, each in several.items():
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


def _times(axes: Axes, bars: Sequence[_Bar]) -> None:
    _stack(axes, bars, [1e3] * len(bars))
    for place, bar in enumerate(bars):
        _write(axes, 1e3 * sum(bar.parts.values()), place, bar.text)
    letters = max(len(bar.text) for bar in bars)
    axes.set_xlim(0, 1e3 * (1.1 + 0.03 * letters) * max(sum(bar.parts.values()) for bar in bars))
    axes.set_xlabel("time of the phases, ms")
    axes.locator_params(axis="x", nbins=3)
    axes.xaxis.set_major_formatter(lambda value, _: bare(value))


def _shares(axes: Axes, bars: Sequence[_Bar]) -> None:
    _stack(axes, bars, [100 / bar.step for bar in bars])
    widest = max(sum(bar.parts.values()) / bar.step for bar in bars)
    for place, bar in enumerate(bars):
        at = 0.0
        for phase, seconds in bar.parts.items():
            share = seconds / bar.step
            if share >= _FITS and phase != "clip":
                _inside(axes, 100 * (at + share / 2), place, f"{100 * share:.0f}", phase)
            at += share
        if "clip" in bar.parts:
            _write(axes, 100 * widest, place, f"clip {_per_cent(bar.parts['clip'] / bar.step)}")
    axes.set_xlim(0, 128 * widest)
    axes.set_xticks(range(0, 101, 20))
    axes.set_xlabel("share of the step, %")


def _energies(axes: Axes, bars: Sequence[_Bar]) -> None:
    places = [place for place, bar in enumerate(bars) if bar.energy]
    joules = [bar.energy for bar in bars if bar.energy]
    axes.barh(places, joules, _HIGH, color="#999999", edgecolor="black", linewidth=0.3)
    for place, value in zip(places, joules, strict=True):
        _write(axes, value, place, units.si(value, "J", 2))
    axes.set_xlim(0, 1.45 * max(joules))
    axes.set_xlabel("energy, J an image")
    axes.locator_params(axis="x", nbins=3)
    axes.xaxis.set_major_formatter(lambda value, _: bare(value))


def _stack(axes: Axes, bars: Sequence[_Bar], scales: Sequence[float]) -> None:
    """Draw each bar of its parts end to end: one artist a phase, since each takes its time."""
    stacked: dict[str, list[list[tuple[float, float]]]] = {}
    for place, (bar, scale) in enumerate(zip(bars, scales, strict=True)):
        at = 0.0
        for phase, seconds in bar.parts.items():
            left, right, low, high = scale * at, scale * (at + seconds), place - _HIGH / 2, place + _HIGH / 2
            stacked.setdefault(phase, []).append([(left, low), (left, high), (right, high), (right, low)])
            at += seconds
    for phase, corners in stacked.items():
        look = _LOOKS[phase]
        drawn = PolyCollection(corners, facecolor=look.colour, hatch=look.hatch, edgecolor="black", linewidth=0.3)
        drawn.set_label(f"_{phase}")
        axes.add_collection(drawn)


def _inside(axes: Axes, x: float, place: int, text: str, phase: str) -> None:
    dark = phase == "forward"
    behind = None if dark else {"facecolor": "white", "edgecolor": "none", "pad": 0.6}
    written = axes.text(x, place, text, ha="center", va="center", fontsize=7, color="white" if dark else "black")
    written.set_bbox(behind)
    written.set_in_layout(False)


def _write(axes: Axes, x: float, place: int, text: str) -> None:
    written = axes.annotate(text, (x, place), xytext=(3, 0), textcoords="offset points", va="center", fontsize=7)
    # the limits leave room for it
    written.set_in_layout(False)


def _per_cent(share: float) -> str:
    return "below 0.1 %" if share < 5e-4 else units.percent(share, 2)


_MEANS = "Means over seeds with 95 % intervals."
_HATCHED = "Hatched: seeds diverged, with their first update."
_BLANK = "·"
_WIDEST = 90.0
"""Per cent that the palest colour stands for at most: differences of a per cent are small in every figure."""
_TALL = 1.5
"""Inches that the label of the y axis takes."""


def agc_heatmap(rows: list[Row], notes: list[str]) -> Figure:
    """Top-1 by λ, down, and batch, across; cells that diverged are hatched and say so, never left blank."""
    clips = sorted({row["agc"] for row in rows}, key=clip_place)
    batches = sorted({row["batch"] for row in rows})
    cells = grouped(rows, lambda row: (row["agc"], row["batch"]))
    values = [top for row in rows if (top := top1(row)) is not None]
    least = min(_WIDEST, 10.0 * (min(values, default=0.0) // 10))
    written = {cell: "\n".join(map(_cell, alike)) for cell, alike in cells.items()}
    # a row is as high as its fullest cell
    deep = {clip: max(written.get((clip, b), "").count("\n") + 1 for b in batches) for clip in clips}
    edges = [0.0, *accumulate(0.12 + 0.125 * max(2, lines) for lines in deep.values())]
    edges = [edge * max(1.0, _TALL / edges[-1]) for edge in edges]
    figure = Figure(figsize=(COLUMN, 0.45 + edges[-1]), layout="constrained")
    axes = figure.add_subplot()
    blank = [cell for cell in product(clips, batches) if cell not in cells]
    for clip, batch in blank:
        place = clips.index(clip)
        axes.text(batches.index(batch), sum(edges[place : place + 2]) / 2, _BLANK, ha="center", va="center")
    for (clip, batch), alike in cells.items():
        place = clips.index(clip)
        corner = batches.index(batch) - 0.5, edges[place]
        _draw_cell(axes, corner, edges[place + 1] - edges[place], written[clip, batch], alike, least)
    axes.set_xticks(range(len(batches)), [number(b) for b in batches])
    axes.set_yticks([(a + b) / 2 for a, b in pairwise(edges)], [clip_text(c) for c in clips])
    axes.set_xlim(-0.5, len(batches) - 0.5)
    axes.set_ylim(edges[-1], 0)
    axes.grid(False)
    axes.set_xlabel("batch, images an update")
    axes.set_ylabel("clipping threshold λ")
    colours = f"Colours: from {least:.0f} %, the palest, to 100 %, the darkest."
    note = [runs_note(rows, _MEANS, _HATCHED), colours, *([f"{_BLANK} not run."] if blank else [])]
    frame(figure, clips_title(rows), " ".join(note))
    return figure


def _draw_cell(
    axes: Axes, corner: tuple[float, float], high: float, text: str, rows: Sequence[Row], least: float
) -> None:
    tops = [top for row in rows if (top := top1(row)) is not None]
    failed = any(row.get("diverged") or row["status"] != "ok" for row in rows)
    share = (sum(tops) / len(tops) - least) / (100 - least) if tops else None
    # light to dark reads in grey too, and leaves the ends that a text could not be read on
    colour: Any = "white" if share is None else colormaps["Blues"](0.08 + 0.72 * share)
    hatch = "////" if failed else None
    axes.add_patch(Rectangle(corner, 1, high, facecolor=colour, edgecolor="#999999", hatch=hatch, lw=0.5))
    ink = "white" if share is not None and share > 0.7 and not failed else "black"
    x, y = corner[0] + 0.5, corner[1] + high / 2
    written = axes.text(x, y, text, ha="center", va="center", fontsize=7, color=ink)
    if failed:
        written.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 1.0})


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

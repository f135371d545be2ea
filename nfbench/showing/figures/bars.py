"""Bars and cells: where the time of a step goes, and top-1 by clipping threshold and batch (the paper's Figure 2b)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import accumulate, pairwise, product
from typing import Any, NamedTuple

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.patches import Patch, Rectangle

from nfbench import units
from nfbench.analysis.rows import Row
from nfbench.records import PHASES
from nfbench.showing.figures.canvas import Picture, bare, beside, number, panel
from nfbench.showing.figures.curves import clip_text, clips_title, runs_note
from nfbench.showing.figures.dots import below_each_other
from nfbench.showing.figures.prepared import clip_place, top1, top1_ends
from nfbench.showing.figures.style import COLUMN, drawable, labels
from nfbench.units import grouped

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


def phases(rows: list[Row], notes: list[str]) -> Picture:
    """Forward, backward, clip and the other phases of each step: in milliseconds, as shares, and joules of an image.

    Where several devices shared a step, a bar a rank stands below it.
    """
    bars = _bars(rows, ranks=True)
    if len(bars) > _MOST_BARS:
        count = units.plural(sum("ranks" in row for row in rows), "row")
        notes.append(f"no room for the ranks of {count}: draw fewer at once, with --where")
        bars = _bars(rows, ranks=False)
    letters = max(len(bar.text) for bar in bars)
    panels = [
        ("time of the phases, ms", 0.8 + 0.03 * letters, partial(_times, bars=bars)),
        ("share of the step, %", 1.5, partial(_shares, bars=bars)),
    ]
    if energy := any(bar.energy for bar in bars):
        panels.append(("energy, J an image", 0.8, partial(_energies, bars=bars)))
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
    return Picture(figure, title, " ".join(text for text, holds in texts.items() if holds), handles)


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


_MEANS = "Means over seeds with 95 % intervals."
_HATCHED = "Hatched: seeds diverged, with their first update."
_BLANK = "·"
_WIDEST = 90.0
"""Per cent that the palest colour stands for at most: differences of a per cent are small in every figure."""
_TALL = 1.5
"""Inches that the label of the y axis takes."""


def agc_heatmap(rows: list[Row], notes: list[str]) -> Picture:
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
    axes.set_xlabel("batch, images an update")
    axes.set_ylabel("clipping threshold λ")
    colours = f"Colours: from {least:.0f} %, the palest, to 100 %, the darkest."
    blank = f"{_BLANK} not run." if len(cells) < len(clips) * len(batches) else ""
    note = " ".join(filter(None, [runs_note(rows, _MEANS, _HATCHED), colours, blank]))
    return Picture(figure, clips_title(rows), note)


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

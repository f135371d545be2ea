"""Figures over clipping thresholds: top-1 by λ and batch, as lines and as a map (the paper's Figure 2b).

A figure is of one net on one data set and machine, and takes two λs. What diverged is marked, never left blank.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise, product
from typing import Any

from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from nfbench import units
from nfbench.analysis.rows import Row
from nfbench.analysis.sweeps import agc_sweep
from nfbench.showing.batch_plots import each_software
from nfbench.showing.file_names import endings
from nfbench.showing.kinds import Drawing, Held, without
from nfbench.showing.style import COLOURS, COLUMN, MARKERS, plain
from nfbench.showing.sweep_lines import DASHES, MOST_FIGURES, Across, Line, Look, Scale, draw, entitle, number
from nfbench.showing.trained import runs_note, top1_failure, top1_point

_APART = 0.5
"""How much farther than the next λ the runs without a clip stand."""
_MOST_LINES, _MOST_CELLS, _MOST_CLIPS = 12, 7, 12
"""Batches that a figure has room for as lines and as cells beside each other, and λs."""
_IN_A_CELL = 2
"""Rows of one λ and batch, which differ in what no name tells."""
_MEANS = "Means over seeds, bars 95 % intervals of Student's t over them."
_NOTE = "Below: what diverged, with its first such update, or how many of the seeds did."
_MAP_MEANS = "Means over seeds with 95 % intervals."
_MAP_NOTE = "Hatched: seeds diverged, with their first update."
_BLANK = "·"
_WIDEST = 90.0
"""Per cent that the palest colour stands for at most: differences of a per cent are small in every figure."""
_TALL = 1.5
"""Inches that the label of the y axis takes."""


def agc_lines(held: Held) -> Drawing:
    """Top-1 against λ, a line a batch."""
    return _each(held, _lines, _MOST_LINES)


def agc_heatmap(held: Held) -> Drawing:
    """Top-1 by λ, down, and batch, across; cells that diverged are hatched and say so."""
    return _each(held, _map, _MOST_CELLS)


def _each(held: Held, figure: Callable[[list[Row], str], Figure], most: int) -> Drawing:
    drawing = Drawing()
    nets: dict[tuple[str, str, str], list[Row]] = {}
    for row in each_software(held.trained, agc_sweep):
        if why := _unplaced(row):
            drawing.leave_out([row], why)
        else:
            nets.setdefault((row["machine"], row["dataset"], row["net"]), []).append(row)
    drawn: list[tuple[str, str, str]] = []
    for (machine, dataset, net), rows in nets.items():
        shown = _shown(rows, most, drawing)
        if len({row["agc"] for row in shown}) < 2:
            drawing.leave_out(shown, "one λ only; it takes two")
        elif len(drawn) == MOST_FIGURES:
            drawing.leave_out(shown, _room(f"{MOST_FIGURES} figures", "there is"))
        else:
            title = f"{plain(machine, 44)}: measured top-1, %, of {plain(net, 120)} on {plain(dataset, 30)}"
            drawing.figures.append((machine, figure(shown, title)))
            drawing.drawn.extend(shown)
            drawn.append((machine, dataset, net))
    for (_, made), ending in zip(drawing.figures, endings(drawn), strict=True):
        made.set_label(ending)
    return drawing


def _shown(rows: Sequence[Row], most: int, drawing: Drawing) -> list[Row]:
    """The rows that a figure has room for: of so many batches and λs, and few in one cell."""
    batches, clips = sorted({row["batch"] for row in rows})[-most:], _clips(rows)[-_MOST_CLIPS:]
    cells: Counter[tuple[Any, int]] = Counter()
    shown = []
    for row in rows:
        cell = row["agc"], row["batch"]
        if row["batch"] not in batches:
            drawing.leave_out([row], _room(f"{most} batches"))
        elif row["agc"] not in clips:
            drawing.leave_out([row], _room(f"{_MOST_CLIPS} λs"))
        elif cells[cell] == _IN_A_CELL:
            drawing.leave_out([row], _room(f"{_IN_A_CELL} rows of one λ and batch"))
        else:
            cells[cell] += 1
            shown.append(row)
    return shown


def _room(what: str, where: str = "a figure has") -> str:
    return f"{where} room for {what}: draw fewer at once, with --where"


def _unplaced(row: Row) -> str:
    """Why a row has no place in a figure, empty where it has one."""
    clip = row.get("agc")
    if clip != "none" and not (isinstance(clip, float | int) and 0 < clip < 1e9):
        return "no known λ"
    if not 0 < row["batch"] < 1e15:
        return "a batch that no axis can hold"
    done = top1_point(row, 0.0) is not None or top1_failure(row, 0.0) is not None
    return "" if done else without(row, "top-1 that could be drawn")


def _clips(rows: Sequence[Row]) -> list[Any]:
    """The λs in order, none last."""
    return sorted(
        dict.fromkeys(row["agc"] for row in rows), key=lambda clip: (clip == "none", clip if clip != "none" else 0)
    )


def _lines(rows: list[Row], title: str) -> Figure:
    clips = _clips(rows)
    places = {clip: i + (_APART if clip == "none" and i else 0.0) for i, clip in enumerate(clips)}
    lines, batches = [], sorted({row["batch"] for row in rows})
    for i, batch in enumerate(batches):
        some = [row for row in rows if row["batch"] == batch]
        # side by side, since bars at one place hide each other
        aside = (i - (len(batches) - 1) / 2) * min(0.06, 0.5 / len(batches))
        points = [p for row in some if (p := top1_point(row, places[row["agc"]] + aside)) is not None]
        failed = [f for row in some if (f := top1_failure(row, places[row["agc"]])) is not None]
        look = Look(COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)], DASHES[i % len(DASHES)])
        lines.append(Line(f"batch {number(batch)}", look, points, failed))
    across = Across("clipping threshold λ", list(places.values()), [_clip(clip) for clip in clips])
    figure, axes, _ = draw(
        lines, Scale("measured top-1, %", number, 100), title, runs_note(rows, _MEANS, _NOTE), across=across
    )
    if clips[-1] == "none" and len(clips) > 1:
        axes.axvline(places["none"] - (1 + _APART) / 2, color="#888888", linewidth=0.8, linestyle=":")
    return figure


def _clip(clip: object) -> str:
    return "no clip" if clip == "none" else f"{clip:g}"


def _map(rows: list[Row], title: str) -> Figure:
    clips, batches = _clips(rows), sorted({row["batch"] for row in rows})
    cells: dict[tuple[Any, int], list[Row]] = {}
    for row in rows:
        cells.setdefault((row["agc"], row["batch"]), []).append(row)
    values = [p.y for row in rows if (p := top1_point(row, 0.0)) is not None]
    least = min(_WIDEST, 10.0 * (min(values, default=0.0) // 10))
    written = {cell: "\n".join(map(_cell, some)) for cell, some in cells.items()}
    # a row is as high as its fullest cell
    high_as = {clip: max(written.get((clip, b), "").count("\n") + 1 for b in batches) for clip in clips}
    edges = [0.0, *accumulate(0.12 + 0.125 * max(2, lines) for lines in high_as.values())]
    edges = [edge * max(1.0, _TALL / edges[-1]) for edge in edges]
    figure = Figure(figsize=(COLUMN, 0.75 + edges[-1]), layout="constrained")
    blank = [cell for cell in product(clips, batches) if cell not in cells]
    note = [runs_note(rows, _MAP_MEANS, _MAP_NOTE), f"Colours: from {least:.0f} %, the palest, to 100 %, the darkest."]
    entitle(figure, title, " ".join([*note, *([f"{_BLANK} not run."] if blank else [])]))
    axes = figure.add_subplot()
    for clip, batch in blank:
        place = clips.index(clip)
        axes.text(batches.index(batch), sum(edges[place : place + 2]) / 2, _BLANK, ha="center", va="center")
    for (clip, batch), some in cells.items():
        x, place = batches.index(batch), clips.index(clip)
        top, bottom = edges[place : place + 2]
        tops = [p.y for row in some if (p := top1_point(row, 0.0)) is not None]
        failed = any(top1_failure(row, 0.0) is not None for row in some)
        share = (sum(tops) / len(tops) - least) / (100 - least) if tops else None
        # light to dark reads in grey too, and leaves the ends that a text could not be read on
        colour = "white" if share is None else colormaps["Blues"](0.08 + 0.72 * share)
        hatch = "////" if failed else None
        corner, high = (x - 0.5, top), bottom - top
        axes.add_patch(Rectangle(corner, 1, high, facecolor=colour, edgecolor="#999999", hatch=hatch, lw=0.5))
        ink = "white" if share is not None and share > 0.7 and not failed else "black"
        text = axes.text(x, (top + bottom) / 2, written[clip, batch], ha="center", va="center", fontsize=7, color=ink)
        if failed:
            text.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 1.0})
    axes.set_xticks(range(len(batches)), [number(b) for b in batches])
    axes.set_yticks([(a + b) / 2 for a, b in pairwise(edges)], [_clip(c) for c in clips])
    axes.set_xlim(-0.5, len(batches) - 0.5)
    axes.set_ylim(edges[-1], 0)
    axes.grid(False)
    axes.set_xlabel("batch, images an update")
    axes.set_ylabel("clipping threshold λ")
    return figure


def _cell(row: Row) -> str:
    """What stands in a cell, a few short lines."""
    runs, diverged, point = row["runs"], row.get("diverged", 0), top1_point(row, 0.0)
    if point is None:
        if diverged:
            return f"diverged\nat {row['diverged_at']}" if "diverged_at" in row else "diverged"
        return str(row["status"]).replace("_", "\n").replace(", ", "\n")
    text = f"{point.y:.2f}"
    if point.low is not None and point.high is not None and row["top1_high"] > row["top1_low"]:
        text = units.plus_minus(point.y, 50 * (row["top1_high"] - row["top1_low"])).replace(" ± ", "\n± ")
    if diverged:
        return f"{text}\n{diverged} of {runs}\ndiverged"
    return text if row["status"] == "ok" else f"{text}\n{runs - row['seeds']} of {runs}\nfailed"

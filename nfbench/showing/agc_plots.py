"""Figures over clipping thresholds: top-1 by λ and batch, as lines and as a map (the paper's Figure 2b).

A figure is of one net on one data set and machine, and takes two λs. What diverged is marked, never left blank.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from typing import Any

from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from nfbench import units
from nfbench.analysis.rows import Row
from nfbench.analysis.sweeps import agc_sweep, records
from nfbench.devices.about import slug
from nfbench.showing.batch_plots import runs_note, top1_failure, top1_point
from nfbench.showing.kinds import Drawing, Held
from nfbench.showing.style import COLOURS, MARKERS, plain
from nfbench.showing.sweep_lines import DASHES, WIDTH, Across, Line, Look, Scale, draw, number

_APART = 0.5
"""How much farther than the next λ the runs without a clip stand."""
_MOST = 12
"""Batches that a figure has room for."""
_MEANS = "Means over seeds, bars 95 % intervals of Student's t over them."
_NOTE = "Below: what diverged, with its first such update, or how many of the seeds did."
_MAP_MEANS = "Means over seeds with 95 % intervals."
_MAP_NOTE = "Top-1 in per cent. Hatched: seeds diverged, with their first update."


def agc_lines(held: Held) -> Drawing:
    """Top-1 against λ, a line a batch."""
    return _each(held, "agc-lines", _lines)


def agc_heatmap(held: Held) -> Drawing:
    """Top-1 by λ, down, and batch, across; cells that diverged are hatched and say so."""
    return _each(held, "agc-heatmap", _map)


def _each(held: Held, kind: str, figure: Callable[[list[Row], str], Figure]) -> Drawing:
    drawing = Drawing([], [], [])
    nets: dict[tuple[str, str, str], list[Row]] = {}
    for row in records(agc_sweep(held.trained)):
        nets.setdefault((row["machine"], row["dataset"], row["net"]), []).append(row)
    if not nets:
        drawing.lacking.append(f"{kind}: the results hold no training run; nfbench agc-sweep makes them")
    drawn: list[tuple[str, str, str]] = []
    for (machine, dataset, net), rows in nets.items():
        where = f"{kind}: {plain(net)} on {plain(machine)}, {plain(dataset, 40)}"
        good = [row for row in rows if _placed(row)]
        clips = dict.fromkeys(row["agc"] for row in good)
        if len(clips) < 2:
            said = ", ".join(f"λ {clip}" for clip in clips) or "no known λ"
            drawing.lacking.append(f"{where}: {len(rows)} of {said} only; it takes two λs")
            continue
        batches = sorted({row["batch"] for row in good})
        shown = [row for row in good if row["batch"] in batches[-_MOST:]]
        left = [row for row in rows if all(row is not other for other in shown)]
        why = f"a figure has room for {_MOST} batches and for what is drawable"
        drawing.left_out.extend(f"{where}: λ {r.get('agc', '?')}, batch {r['batch']}: {why}" for r in left)
        title = f"{plain(machine, 40)}: measured top-1 of {plain(net, 48)} on {plain(dataset, 30)}"
        drawing.figures.append((machine, figure(shown, title)))
        drawn.append((machine, dataset, net))
    for (_, made), ending in zip(drawing.figures, _endings(drawn), strict=True):
        made.set_label(ending)
    return drawing


def _placed(row: Row) -> bool:
    clip = row.get("agc")
    known = clip == "none" or (isinstance(clip, float | int) and 0 < clip < 1e9)
    done = top1_point(row, 0.0) is not None or top1_failure(row, 0.0) is not None
    return known and done and 0 < row["batch"] < 1e15


def _endings(drawn: Sequence[tuple[str, str, str]]) -> list[str]:
    """What tells the figures of a machine apart: the data set and the net, no two the same."""
    found: dict[tuple[str, str, str], str] = {}
    for here in drawn:
        same = [other for other in drawn if other[0] == here[0]]
        parts = [slug(here[i]) for i in (1, 2) if len({other[i] for other in same}) > 1]
        ending = "-".join(parts)
        used = {found[other] for other in same if other in found}
        number = 1
        while (name := f"{ending}-{number}" if number > 1 else ending) in used:
            number += 1
        found[here] = name
    return [found[here] for here in drawn]


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
    low, high = min(values, default=0.0), max(values, default=100.0)
    figure = Figure(figsize=(WIDTH, 1.65 + 0.52 * len(clips)), layout="constrained")
    axes = figure.add_subplot()
    size = min(8.0, max(5.0, 52 / len(batches)))
    for (clip, batch), some in cells.items():
        x, y = batches.index(batch), clips.index(clip)
        tops = [p.y for row in some if (p := top1_point(row, 0.0)) is not None]
        lost = any(top1_failure(row, 0.0) is not None for row in some)
        share = None if not tops else (sum(tops) / len(tops) - low) / (high - low) if high > low else 1.0
        # light to dark reads in grey too, and leaves the ends that a text could not be read on
        colour = "white" if share is None else colormaps["Blues"](0.08 + 0.72 * share)
        hatch = "////" if lost else None
        axes.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=colour, edgecolor="#999999", hatch=hatch, lw=0.5))
        ink = "white" if share is not None and share > 0.7 and not lost else "black"
        text = axes.text(x, y, "\n".join(map(_cell, some)), ha="center", va="center", fontsize=size, color=ink)
        if lost:
            text.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 1.0})
    axes.set_xticks(range(len(batches)), [number(b) for b in batches])
    axes.set_yticks(range(len(clips)), [_clip(c) for c in clips])
    axes.set_xlim(-0.5, len(batches) - 0.5)
    axes.set_ylim(len(clips) - 0.5, -0.5)
    axes.grid(False)
    axes.set_xlabel("batch, images an update")
    axes.set_ylabel("clipping threshold λ")
    figure.suptitle(title, x=0.01, ha="left", fontsize=9)
    note = "\n".join(textwrap.wrap(runs_note(rows, _MAP_MEANS, _MAP_NOTE), 118))
    figure.supxlabel(note, x=0.01, ha="left", fontsize=7)
    return figure


def _cell(row: Row) -> str:
    """What stands in a cell, a few short lines."""
    runs, diverged, point = row["runs"], row.get("diverged", 0), top1_point(row, 0.0)
    if point is None:
        if diverged:
            return f"diverged\nat {row['diverged_at']}" if "diverged_at" in row else "diverged"
        return str(row["status"]).replace("_", "\n", 1).replace("_", " ").replace(", ", "\n")
    text = f"{point.y:.2f}"
    if point.low is not None and point.high is not None and row["top1_high"] > row["top1_low"]:
        text = units.plus_minus(point.y, 50 * (row["top1_high"] - row["top1_low"])).replace(" ± ", "\n± ")
    if diverged:
        return f"{text}\n{diverged} of {runs}\ndiverged"
    return text if row["status"] == "ok" else f"{text}\n{runs - row['seeds']} of {runs}\nfailed"

"""How many times as fast one net is as another, measured in turns, with what was reported of the same pair."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import blended_transform_factory

from nfbench import units
from nfbench.analysis import compare
from nfbench.analysis.compare import Ratio
from nfbench.analysis.rows import Row, family_of
from nfbench.analysis.stats import LEAST_ROUNDS
from nfbench.catalog import published
from nfbench.showing import ratios
from nfbench.showing.kinds import Drawing, Held
from nfbench.showing.style import COLUMN, drawable, look, plain, series
from nfbench.showing.sweep_lines import log_axis

_MOST = 20
_HOLLOW = "Ds^v<>phd"
"""Markers of the reported, one a source."""
_FAINT = "#666666"
_BAND = 0.12
"""Of a row, inches above and below its dot that are the dot's alone."""
_NOTE = (
    f"Bars: 95 % intervals over rounds; a point without one was measured in fewer than {LEAST_ROUNDS} rounds. Reported:"
    " on the devices and at the settings of the source, which are not those measured here."
)


class _Pair(NamedTuple):
    row: Row
    ratio: Ratio
    reported: Sequence[published.ReportedRatio]


def speedup(held: Held) -> Drawing:
    """The measured ratio of each pair with its interval, over 1 where the net is faster, one figure a machine.

    The reported ratios of the pair stand in its row, hollow.
    """
    drawing = Drawing()
    machines: dict[str, list[_Pair]] = {}
    for row, ratio in zip(ratios.rows(held.ratios), held.ratios, strict=True):
        if drawable(row["speedup"]):
            reported = compare.reported(ratio.net, ratio.baseline)
            machines.setdefault(row["machine"], []).append(_Pair(row, ratio, reported))
        else:
            drawing.leave_out([row], "a ratio that no axis can hold")
    for machine, pairs in machines.items():
        # those that something was reported of say the most
        ordered = sorted(pairs, key=lambda pair: not pair.reported)
        shown = ordered[:_MOST]
        why = f"a figure has room for {_MOST} rows: draw fewer at once, with --where"
        drawing.leave_out([pair.row for pair in ordered[_MOST:]], why)
        drawing.figures.append((machine, _figure(shown, machine)))
        drawing.drawn.extend(pair.row for pair in shown)
    return drawing


def _figure(pairs: Sequence[_Pair], machine: str) -> Figure:
    sources = list(dict.fromkeys(_source(r) for pair in pairs for r in pair.reported))
    handles = [*_measured(pairs), *(Line2D([], [], label=f"reported: {s}", **_hollow(s, sources)) for s in sources)]
    texts = [_texts(pair) for pair in pairs]
    # a row is its name, its settings in lines, and the dot below them
    deep = [0.52 + 0.12 * text.count("\n") for _, text in texts]
    note = textwrap.wrap(_NOTE if sources else _NOTE.partition(" Reported:")[0], 88)
    heights = [0.25 + sum(deep), 0.12 + 0.17 * len(handles)]
    figure = Figure(figsize=(COLUMN, sum(heights) + 0.75 + 0.13 * len(note)), layout="constrained")
    grid = figure.add_gridspec(2, 1, height_ratios=heights)
    axes = figure.add_subplot(grid[0])
    at = 0.0
    for pair, (title, settings), height in zip(pairs, texts, deep, strict=True):
        dot = at + height - 0.13
        # in the band of the dot only, since a line through the texts above crosses letters between them
        axes.plot([1, 1], [dot - _BAND, dot + _BAND], color="black", linewidth=1, solid_capstyle="butt", zorder=1)
        _dots(axes, pair, dot, sources)
        _text(axes, at + 0.03, title, 8)
        _text(axes, at + 0.165, settings, 7)
        axes.annotate(
            units.interval(*pair.ratio.speedup), (1.0, dot), xytext=(4, 0), xycoords=("axes fraction", "data"),
            textcoords="offset points", va="center", fontsize=8,
        )  # fmt: skip
        at += height
        if pair is not pairs[-1]:
            axes.axhline(at, color="#CCCCCC", linewidth=0.6, zorder=0)
    axes.set_ylim(at + 0.06, -0.05)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    log_axis(axes.xaxis, [1.0, *_values(pairs)], lambda v: units.significant(v, 1), 10, least=0.6)
    axes.set_xlabel("times as fast as the second net (1: equally fast)")
    below = figure.add_subplot(grid[1])
    below.axis("off")
    across = blended_transform_factory(figure.transFigure, below.transAxes)
    below.legend(
        handles=handles,
        loc="center left",
        bbox_to_anchor=(0.01, 0.5),
        bbox_transform=across,
        fontsize=7.5,
        frameon=False,
    ).set_in_layout(False)
    figure.suptitle(f"{plain(machine, 44)}: measured speed-up, in turns", x=0.01, ha="left", fontsize=9)
    figure.supxlabel("\n".join(note), x=0.01, ha="left", fontsize=7)
    return figure


def _texts(pair: _Pair) -> tuple[str, str]:
    net, baseline = (plain(str(pair.row[key]), 34) for key in ("net", "baseline"))
    lines = textwrap.wrap(plain(str(pair.row["settings"]), 150), 76)
    return f"{net} against {baseline}", "\n".join(lines)


def _look(pair: _Pair) -> tuple[str, str, str]:
    """Colour, marker, and the family whose they are."""
    model = pair.ratio.net.workload.model
    family = series(model, family_of(model))[1]
    return *look(family), family


def _dots(axes: Axes, pair: _Pair, y: float, sources: Sequence[str]) -> None:
    colour, marker, _ = _look(pair)
    low, high = pair.row.get("speedup_low"), pair.row.get("speedup_high")
    if low is not None and high is not None and drawable(low) and drawable(high):
        axes.plot([low, high], [y, y], color=colour, linewidth=2, solid_capstyle="butt", zorder=3)
    axes.plot([pair.row["speedup"]], [y], color=colour, marker=marker, markersize=6, linestyle="none", zorder=4)
    for reported in pair.reported:
        axes.plot([reported.value], [y], **_hollow(_source(reported), sources))


def _measured(pairs: Sequence[_Pair]) -> list[Line2D]:
    looks = dict.fromkeys(_look(pair) for pair in pairs)
    return [
        Line2D([], [], color=c, marker=m, markersize=6, linestyle="none", label=f"measured: {plain(f, 40) or 'other'}")
        for c, m, f in looks
    ]


def _source(reported: published.ReportedRatio) -> str:
    """Who says it, each work named once: "arXiv 2102.06171, Table 3 and Table 6, TPUv3"."""
    work = reported.source.partition(",")[0]
    # claims name the device as a part of the table, tables after a comma
    return re.sub(r"(Table \d+) (?=TPUv3|V100)", r"\1, ", reported.source.replace(f" and {work}, ", " and "))


def _hollow(source: str, sources: Sequence[str]) -> dict[str, Any]:
    marker = _HOLLOW[sources.index(source) % len(_HOLLOW)]
    return {"color": _FAINT, "marker": marker, "markerfacecolor": "white", "markersize": 5, "linestyle": "none"}


def _values(pairs: Sequence[_Pair]) -> list[float]:
    found = [pair.row.get(key) for pair in pairs for key in ("speedup", "speedup_low", "speedup_high")]
    return [v for v in found if v is not None and drawable(v)] + [r.value for pair in pairs for r in pair.reported]


def _text(axes: Axes, y: float, text: str, size: float) -> None:
    # the lines of the grid pass behind it
    behind = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}
    across = axes.get_yaxis_transform()
    written = axes.text(0, y, text, transform=across, va="top", fontsize=size, bbox=behind, zorder=2)
    written.set_in_layout(False)

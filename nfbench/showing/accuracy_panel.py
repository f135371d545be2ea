"""One panel of top-1 against a cost: points, intervals, lines through sizes and the Pareto front."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from nfbench import units
from nfbench.analysis import lines
from nfbench.analysis.accuracy import front
from nfbench.analysis.rows import Row
from nfbench.showing.labels import Label
from nfbench.showing.plots import Reported, variant
from nfbench.showing.style import REPORTED, look, plain, series
from nfbench.showing.sweep_lines import Look, handle, log_axis

_RUN = ("batch", "epochs", "agc", "recipe", "optimizer", "lr", "schedule", "augment", "ema", "norm", "sam", "precision")
"""Runs that differ in one of these are no sizes of one family, and no line joins them."""
_GREY = "#B8B8B8"
_LETTERS = 34
_NAMED = 14
"""Runs up to which each has a label."""
_INCHES = 2.9
"""Of an axis, about."""
_LEAST = 1.2
"""Decades that an axis spans at least."""


class Panel(NamedTuple):
    """A cost: the key of a row, its unit, the label of its axis and its name in a sentence."""

    key: str
    unit: str
    label: str
    name: str


PANELS = (
    Panel("macs", "", "MACs of one image at {macs_px}, forward", "MACs"),
    Panel("params", "", "parameters", "parameters"),
    Panel("train_step_time", "s", "training step time, data included, {batch}", "training step time"),
    Panel("image_energy", "J", "energy of training on one image, {batch}", "energy"),
)


IMAGE_TIME = Panel("image_time", "s", "training time of one image, data included, {batch}", "training time of an image")
"""Takes the place of the step time where batches differ: a step of few images is short."""


def shown(cost: float | None) -> bool:
    """Whether a cost can stand on a logarithmic axis: its ticks overflow with what nothing has cost."""
    return cost is not None and 1e-15 < cost < 1e18


def common_epochs(rows: Sequence[Row]) -> int | None:
    """The epochs that most rows have, of several the most; what was trained for longer is no better for less."""
    epochs = Counter(row.get("epochs") for row in rows)
    return max(epochs, key=lambda number: (epochs[number], number or 0), default=None)


def draw(axes: Axes, panel: Panel, here: Sequence[Row], rows: Sequence[Row]) -> list[Label]:
    """Points, intervals, lines through sizes and the front of one panel; the labels that it wants.

    The front is of runs of the epochs that most ``rows`` have.
    """
    epochs = common_epochs(rows)
    best = front((row for row in here if row.get("epochs") == epochs), panel.key)
    # the corners of the steps too, so that labels keep off them
    corners = [(row[panel.key], 100 * before["top1"]) for before, row in zip(best[:1] + best, best, strict=False)]
    places = [place for row, corner in zip(best, corners, strict=True) for place in (corner, _at(row, panel))]
    axes.plot(
        [x for x, _ in places],
        [y for _, y in places],
        color=_GREY,
        linewidth=4,
        marker="o",
        markersize=11,
        markevery=slice(1, None, 2),
        solid_joinstyle="round",
        zorder=1,
        label="_front",
    )
    sizes: dict[tuple[object, ...], list[Row]] = {}
    for row in here:
        sizes.setdefault((series(row["model"], row.get("family"))[0], *(row.get(k) for k in _RUN)), []).append(row)
    for points in sizes.values():
        points.sort(key=lambda row: (row.get("macs", 0), row[panel.key]))
        colour, marker = look(series(points[0]["model"], points[0].get("family"))[1])
        x, y = [row[panel.key] for row in points], [100 * row["top1"] for row in points]
        axes.plot(x, y, color=colour, linewidth=1, marker=marker, markersize=6, zorder=3)
        bars = [row for row in points if "top1_low" in row]
        # no accuracy is beyond these, whatever Student's t allows
        low, high = ([min(max(100 * row[f"top1_{end}"], 0.0), 100.0) for row in bars] for end in ("low", "high"))
        axes.vlines([row[panel.key] for row in bars], low, high, color=colour, linewidth=1.2, zorder=2)
    _scale(axes, [row[panel.key] for row in here], panel.unit)
    colours = [look(series(row["model"], row.get("family"))[1])[0] for row in here]
    names = _names(rows)
    return [
        Label(*_at(row, panel), names[id(row)], colour)
        for row, colour in zip(here, colours, strict=True)
        if id(row) in names
    ]


def _at(row: Row, panel: Panel) -> tuple[float, float]:
    return row[panel.key], 100 * row["top1"]


def all_named(rows: Sequence[Row]) -> bool:
    """Whether there is room for a label of each run, and not only of the most accurate of each net."""
    return len(rows) <= _NAMED or len({row["model"] for row in rows}) == len(rows)


def _names(rows: Sequence[Row]) -> dict[int, str]:
    """What each row, by its id, differs in from the others; of tiny nets without that word where all are."""
    tiny = all(row["model"].startswith("tiny-") for row in rows)
    if not all_named(rows):
        best: dict[str, Row] = {}
        for row in sorted(rows, key=lambda row: float(row["top1"])):
            best[row["model"]] = row
        return {id(row): plain(model.removeprefix("tiny-") if tiny else model, _LETTERS) for model, row in best.items()}
    batches = len({row["batch"] for row in rows}) > 1
    found = {}
    for row, name in zip(rows, lines.names(rows, swept=()), strict=True):
        short = name.removeprefix("tiny-") if tiny else name
        found[id(row)] = plain(f"{short}, batch {row['batch']}" if batches else short, _LETTERS)
    return found


def _scale(axes: Axes, values: Sequence[float], unit: str) -> None:
    # room at the ends for labels
    ends = [min(values) ** 1.1 / max(values) ** 0.1, max(values) ** 1.1 / min(values) ** 0.1]
    log_axis(axes.xaxis, ends, lambda value: units.si(value, unit, 1).rstrip(), 10, least=_LEAST, inches=_INCHES)


def draw_beside(axes: Axes, points: Sequence[Reported]) -> list[Label]:
    """Draw what was reported at these px, hollow and grey; the labels that it wants."""
    found = []
    for net, gmacs, top1, _ in points:
        axes.plot([gmacs * 1e9], [top1], **_reported_look(net.family))
        found.append(Label(gmacs * 1e9, top1, variant(net), REPORTED))
    ends = axes.dataLim.intervalx
    _scale(axes, [float(ends[0]), float(ends[1])], "")
    return found


def family_handles(rows: Sequence[Row]) -> list[Line2D]:
    """A legend's entry for each family of the rows; nets of none share a look and an entry."""
    named: dict[tuple[str, str], list[str]] = {}
    for text, family in dict.fromkeys(series(row["model"], row.get("family")) for row in rows):
        named.setdefault(look(family), []).append(text)
    return [
        handle(f"measured: {texts[0] if len(texts) == 1 else 'other nets'}", Look(*each, "-"), markersize=6)
        for each, texts in named.items()
    ]


def _reported_look(family: str) -> dict[str, Any]:
    style = {"color": REPORTED, "marker": look(family)[1], "markerfacecolor": "white"}
    return style | {"markersize": 6, "linestyle": "none", "zorder": 2}


def handles_of(rows: Sequence[Row], beside: Sequence[Reported]) -> list[Line2D]:
    """The legend: the families, the front and the families of the reported points ``beside``."""
    found = family_handles(rows)
    found.append(
        Line2D([], [], color=_GREY, linewidth=4, marker="o", markersize=9, label="Pareto front: none better for less")
    )
    for family in dict.fromkeys(point.net.family for point in beside):
        found.append(Line2D([], [], label=f"reported: {family}, on ImageNet", **_reported_look(family)))
    return found

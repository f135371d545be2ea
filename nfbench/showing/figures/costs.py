"""Measured top-1 of training runs against what they cost, beside what others reported on ImageNet.

Accuracy never crosses data sets or px: each has a figure of its own. Lines lead through the sizes of a family.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from nfbench import units
from nfbench.analysis import sweeps
from nfbench.analysis.rows import Row
from nfbench.analysis.training_runs import front
from nfbench.catalog import published
from nfbench.catalog.models import FAMILIES, NETS, Net, counted
from nfbench.showing.figures.canvas import (
    DASHES,
    Label,
    accuracy_axis,
    bars,
    family_handles,
    frame,
    hollow,
    log_axis,
    place,
)
from nfbench.showing.figures.prepared import image_time, lost, on_log_axis, top1, top1_ends
from nfbench.showing.figures.style import COLUMN, PAGE, REPORTED, interval, look, plain, series
from nfbench.units import grouped

_RUN = ("batch", "epochs", "agc", "recipe", "optimizer", "lr", "schedule", "augment", "ema", "norm", "sam", "precision")
"""Runs that differ in one of these are no sizes of one family, and no line joins them."""
_OTHERWISE = ("nfnet-ladder",)
"""Families whose reported accuracy was trained without augmentation: no figure sets it beside the others."""
_VARIANTS = ("nfnet", "efficientnet")
"""Families whose reported points are labelled, by variant."""
_GREY = "#B8B8B8"
_LETTERS = 34
_NAMED = 14
"""Runs up to which each has a label."""
_INCHES = 2.9
"""Of an axis, about."""
_TPU_BATCH = 32
"""Images a device, at which the paper's times were reported."""
_ABSENT = "Hp8"
"""Markers of the paper's families that the catalogue has no net of."""
_CROWDED = " Of each net its most accurate run is labelled."
_MEANS = "Accuracies are means over seeds, bars 95 % intervals of Student's t over them; the front heeds no interval."
_APART = "ImageNet, reported: not measured here"


class Cost(NamedTuple):
    """A cost: its key in a row, its unit, the label of its axis and its name in a sentence."""

    key: str
    unit: str
    label: str
    name: str


_COSTS = (
    Cost("macs", "", "MACs of one image at {macs_px}, forward", "MACs"),
    Cost("params", "", "parameters", "parameters"),
    Cost("train_step_time", "s", "training step time, data included, {batch}", "training step time"),
    Cost("image_energy", "J", "energy of training on one image, {batch}", "energy"),
)
_IMAGE_TIME = Cost("image_time", "s", "training time of one image, data included, {batch}", "training time of an image")
"""Takes the place of the step time where batches differ: a step of few images is short."""


def accuracy_vs_flops(rows: list[Row], notes: list[str]) -> Figure:
    """Top-1 against MACs, parameters, training step time and energy, with the front of each."""
    notes.extend([*lost(rows), *_lacking(rows)])
    rows = [row | {"image_time": image_time(row)} for row in rows]
    imagenet = rows[0]["dataset"] == "imagenet"
    shown, at, several = _at_test_px(rows) if imagenet else (rows, f"{rows[0].get('px')} px", False)
    beside = _beside(shown, several) if imagenet and all(r.get("px") == r.get("test_px") for r in shown) else []
    panels = [cost for cost in _COSTS if any(on_log_axis(row.get(cost.key)) for row in shown)]
    if len({row["batch"] for row in rows}) > 1:
        panels = [_IMAGE_TIME if cost.key == "train_step_time" else cost for cost in panels]
    number = len(panels) + (not beside)
    high = math.ceil(number / 2)
    figure = Figure(figsize=(PAGE, 2.7 * high), layout="constrained")
    grid = figure.add_gridspec(high, 2)
    cells: list[Axes] = []
    wanted: dict[Axes, list[Label]] = {}
    for i, cost in enumerate(panels):
        axes = figure.add_subplot(grid[i // 2, i % 2], sharey=cells[0] if cells else None)
        cells.append(axes)
        wanted[axes] = _draw(axes, cost, [row for row in shown if on_log_axis(row.get(cost.key))], shown)
        if cost.key == "macs" and beside:
            wanted[axes] += _draw_beside(axes, beside)
        axes.set_xlabel(cost.label.format(macs_px=at, batch=_batch(rows)), fontsize=8)
        if i % 2 == 0:
            axes.set_ylabel("ImageNet top-1, %" if beside and cost.key == "macs" else "measured top-1, %")
        else:
            axes.tick_params(labelleft=False)
    # shared by all panels
    accuracy_axis(cells[0], [*_extent(shown), *(point.top1 for point in beside)], room=0.14)
    entry = "Pareto front: none better for less"
    front_handle = Line2D([], [], color=_GREY, linewidth=4, marker="o", markersize=9, label=entry)
    handles: list[Artist] = [*family_handles(shown), front_handle]
    for family in dict.fromkeys(point.net.family for point in beside):
        style = hollow(look(family)[1], linestyle="none", markersize=6)
        handles += [Line2D([], [], label=f"reported: {family}, on ImageNet", **style)]
    if not beside:
        axes = figure.add_subplot(grid[(number - 1) // 2, (number - 1) % 2])
        hollow_handles, wanted[axes] = _reported(axes)
        handles += hollow_handles
    carry = "" if imagenet else f"Results on {plain(rows[0]['dataset'], 40)} do not carry over to ImageNet. "
    others = "Grey and hollow: reported, trained by others, in other ways. "
    note = others + carry + _MEANS + _front_of(rows) + ("" if _all_named(rows) else _CROWDED)
    frame(figure, _title(rows), note, handles)
    notes.extend(place(figure, wanted))
    return figure


def _lacking(rows: Sequence[Row]) -> list[str]:
    """How many of the rows a panel lacks that others are in."""
    first = rows[0]
    where = f"{plain(first['dataset'], 40)} on {plain(first['machine'])}"
    number = {cost.name: sum(on_log_axis(row.get(cost.key)) for row in rows) for cost in _COSTS}
    return [
        f"{len(rows) - there} of {len(rows)} runs on {where} have no {name}: they are in the other panels only"
        for name, there in number.items()
        if 0 < there < len(rows)
    ]


def _at_test_px(rows: Sequence[Row]) -> tuple[Sequence[Row], str, bool]:
    """The rows with the MACs at which their accuracy was read, the px of those in words, and whether there are several.

    Where one of the nets cannot be counted at its test px all stand at the px that they were counted at.
    """
    tested = []
    for row in rows:
        if row.get("px") != row.get("test_px"):
            count = counted(row["model"], row["test_px"]) if row.get("test_px") else None
            row = {**row, "macs": count.macs, "px": row["test_px"]} if count else row
        tested.append(row)
    whole = all(row.get("px") == row.get("test_px") for row in tested)
    shown = tested if whole else rows
    several = len({row.get("px") for row in shown}) > 1
    return shown, f"each net's {'test' if whole else 'training'} px" if several else f"{shown[0].get('px')} px", several


def _title(rows: Sequence[Row]) -> str:
    row = rows[0]
    tested = f", tested at {row['test_px']} px" if row.get("test_px") not in (None, row.get("px")) else ""
    at = f" at {row.get('px', '?')} px{tested}"
    if len({(one.get("px"), one.get("test_px")) for one in rows}) > 1:
        at = ", each net at its px"
    weights = f", from {plain(str(row['weights']), 30)} weights" if row.get("weights", "none") != "none" else ""
    return f"{plain(row['machine'], 44)}: measured top-1 on {plain(row['dataset'], 40)}{at}{weights}"


def _common_epochs(rows: Sequence[Row]) -> int | None:
    """The epochs that most rows have, of several the most; what was trained for longer is no better for less."""
    epochs = Counter(row.get("epochs") for row in rows)
    return max(epochs, key=lambda number: (epochs[number], number or 0), default=None)


def _front_of(rows: Sequence[Row]) -> str:
    """Which runs the front is of, where they differ in epochs: longer ones are better for what is no cost here."""
    epochs = _common_epochs(rows)
    if all(row.get("epochs") == epochs for row in rows):
        return ""
    number = sum(row.get("epochs") == epochs for row in rows)
    others = sorted({row["epochs"] for row in rows if "epochs" in row} - {epochs})
    several = units.plural(epochs or 0, "epoch")
    return f" The front is of the {number} runs of {several}; those of {', '.join(map(str, others))} are not in it."


def _batch(rows: Iterable[Row]) -> str:
    batches = {row["batch"] for row in rows}
    return f"batch {batches.pop()}" if len(batches) == 1 else "each at its batch"


def _extent(rows: Sequence[Row]) -> list[float]:
    return [top for row in rows for top in (top1(row), *(top1_ends(row) or ())) if top is not None]


def _draw(axes: Axes, cost: Cost, here: Sequence[Row], rows: Sequence[Row]) -> list[Label]:
    """Draw points, intervals, lines through sizes and the front of one panel; the labels that it wants.

    The front is of runs of the epochs that most ``rows`` have.
    """
    epochs = _common_epochs(rows)
    best = front((row for row in here if row.get("epochs") == epochs), cost.key)
    # the corners of the steps too, so that labels keep off them
    corners = [(row[cost.key], top1(before)) for before, row in zip(best[:1] + best, best, strict=False)]
    ends = [(row[cost.key], top1(row)) for row in best]
    places = [place for pair in zip(corners, ends, strict=True) for place in pair]
    axes.plot(
        *(zip(*places, strict=True) if places else ([], [])),
        color=_GREY,
        linewidth=4,
        marker="o",
        markersize=11,
        markevery=slice(1, None, 2),
        solid_joinstyle="round",
        zorder=1,
        label="_front",
    )
    _sizes(axes, here, lambda row: row[cost.key], lambda row: (row.get("macs", 0), row[cost.key]))
    _log(axes, [row[cost.key] for row in here], cost.unit)
    names = _names(rows)
    return [_label(row, row[cost.key], names[id(row)]) for row in here if id(row) in names]


def _label(row: Row, x: float, text: str) -> Label:
    return Label(x, top1(row) or 0.0, text, look(series(row["model"], row.get("family"))[1])[0])


def _sizes(axes: Axes, rows: Sequence[Row], x: Callable[[Row], float], order: Callable[[Row], object]) -> None:
    """Draw the runs with their intervals, and a line through those that are sizes of one family."""
    families = grouped(rows, lambda row: (series(row["model"], row.get("family")), tuple(map(row.get, _RUN))))
    for ((_, family), _), sizes in families.items():
        colour, marker = look(family)
        sizes.sort(key=order)  # type: ignore[arg-type]
        tops = [top1(row) for row in sizes]
        axes.plot(list(map(x, sizes)), tops, color=colour, linewidth=1, marker=marker, markersize=6, zorder=3)  # type: ignore[arg-type]
        upright = [(x(row), *ends) for row in sizes if (ends := top1_ends(row)) is not None]
        bars(axes, upright, color=colour, linewidth=1.2, zorder=2)


def _all_named(rows: Sequence[Row]) -> bool:
    """Whether there is room for a label of each run, and not only of the most accurate of each net."""
    return len(rows) <= _NAMED or len({row["model"] for row in rows}) == len(rows)


def _names(rows: Sequence[Row]) -> dict[int, str]:
    """What each row, by its id, differs in from the others; of tiny nets without that word where all are."""
    names = sweeps.names(rows, swept=())
    batches = len({row["batch"] for row in rows}) > 1
    if _all_named(rows):
        texts = {id(r): f"{n}, batch {r['batch']}" if batches else n for r, n in zip(rows, names, strict=True)}
    else:
        best = {row["model"]: row for row in sorted(rows, key=lambda row: float(row["top1"]))}
        texts = {id(row): model for model, row in best.items()}
    tiny = all(row["model"].startswith("tiny-") for row in rows)
    return {key: plain(text.removeprefix("tiny-") if tiny else text, _LETTERS) for key, text in texts.items()}


def _log(axes: Axes, values: Sequence[float], unit: str) -> None:
    # room at the ends for labels
    ends = [min(values) ** 1.1 / max(values) ** 0.1, max(values) ** 1.1 / min(values) ** 0.1]
    log_axis(axes.xaxis, ends, lambda value: units.si(value, unit, 1).rstrip(), 10, least=1.2, inches=_INCHES)


# what was reported


class ReportedNet(NamedTuple):
    """A net's reported ImageNet top-1 in per cent and its counted GMACs, both at ``px``."""

    net: Net
    gmacs: float
    top1: float
    px: int


def _families() -> dict[str, list[ReportedNet]]:
    """The nets of each family that have a reported top-1 and counted MACs at its px, by their MACs."""
    points: list[ReportedNet] = []
    for net in (net for net in NETS if net.family not in _OTHERWISE):
        top = published.top1(net)
        px = (top.px if top else None) or net.test_px
        count = counted(net.name, px) if top and px else None
        if top and px and count:
            points.append(ReportedNet(net, count.macs / 1e9, top.top1, px))
    points.sort(key=lambda point: (FAMILIES.index(point.net.family), point.gmacs))
    return grouped(points, lambda point: point.net.family)


def _variant(net: Net) -> str:
    """What a point of a reported net is labelled by: "F0", or its name where that alone says nothing."""
    return net.name.rpartition("-")[2].upper() if net.family in _VARIANTS else net.name


def _beside(rows: Sequence[Row], several: bool) -> list[ReportedNet]:
    """What was reported at the one px of the rows, or, of nets that are each at their own, of the same families."""
    px, of = {row.get("px") for row in rows}, {row.get("family") for row in rows}
    return [p for family, points in _families().items() for p in points if (family in of if several else p.px in px)]


def _draw_beside(axes: Axes, points: Sequence[ReportedNet]) -> list[Label]:
    """Draw what was reported at these px, hollow and grey; the labels that it wants."""
    for net, gmacs, top, _ in points:
        axes.plot([gmacs * 1e9], [top], **hollow(look(net.family)[1], linestyle="none", markersize=6, zorder=2))
    ends = axes.dataLim.intervalx
    _log(axes, [float(ends[0]), float(ends[1])], "")
    return [Label(gmacs * 1e9, top, _variant(net), REPORTED) for net, gmacs, top, _ in points]


def _reported(axes: Axes) -> tuple[list[Line2D], list[Label]]:
    """Draw the families' reported ImageNet top-1 against counted GMACs in a panel of their own."""
    handles, labels = [], []
    axes.set_xscale("log")
    for family, points in _families().items():
        style = hollow(look(family)[1], linewidth=1)
        axes.plot([p.gmacs for p in points], [p.top1 for p in points], **style)
        normed = "no batch norm" if points[0].net.norm == "none" else "batch norm"
        handles.append(Line2D([], [], label=f"reported: {family} ({normed})", **style))
        labels += [Label(p.gmacs, p.top1, _variant(p.net), REPORTED) for p in points if family in _VARIANTS]
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_title(_APART, loc="left", fontsize=8)
    axes.set_xlabel("counted GMACs of one image at the test px", fontsize=8)
    axes.set_ylabel("reported ImageNet top-1, %")
    return handles, labels


def accuracy_vs_latency(rows: list[Row], notes: list[str]) -> Figure:
    """Top-1 of training runs against the step time of the same nets (the paper's Figure 1), families as lines.

    What the paper reports stands below in a panel of its own, where a GPU was timed.
    """
    notes.extend(lost(rows))
    gpu = any(row["gpu"] for row in rows)
    figure = Figure(figsize=(COLUMN, 5.4 if gpu else 3.2), layout="constrained")
    axes, *below = figure.subplots(2 if gpu else 1, 1, squeeze=False, height_ratios=[3.2, 2.2] if gpu else None)[:, 0]
    _sizes(axes, rows, lambda row: row["step_time"], lambda row: row["step_time"])
    for row in rows:
        if (ends := interval(row)) is not None:
            axes.hlines([top1(row)], *ends, color=_label(row, 0, "").colour, linewidth=1.2, zorder=2)
    times = [time for row in rows for time in (row["step_time"], *(interval(row) or ()))]
    log_axis(axes.xaxis, times, lambda v: units.si(v, "s", 1), 10, least=1.2)
    accuracy_axis(axes, _extent(rows), room=0.14)
    axes.set_xlabel(f"measured time of a training step, {_batch(rows)}")
    axes.set_ylabel("measured top-1, %")
    names = _names(rows)
    wanted = {axes: [_label(row, row["step_time"], names[id(row)]) for row in rows if id(row) in names]}
    handles: list[Artist] = list(family_handles(rows))
    for beside in below:
        hollow_handles, wanted[beside] = _reported_times(beside)
        handles += hollow_handles
    machine, dataset = plain(rows[0]["machine"], 44), plain(rows[0]["dataset"], 30)
    title = f"{machine}: measured top-1 on {dataset} against training step time"
    frame(figure, title, _joined(rows), handles)
    notes.extend(place(figure, wanted))
    return figure


def _joined(rows: Sequence[Row]) -> str:
    evaluated = any(not row.get("epochs") for row in rows)
    runs = "weights that were evaluated" if evaluated else "training runs"
    parts = [
        f"Joined by model, precision{' and batch' if evaluated else ', batch, px and λ'}: the top-1 is of {runs}, the"
        " time of separately timed steps, without data, the quickest of each net.",
        "Bars: 95 % intervals.",
        "" if rows[0]["dataset"] == "imagenet" else "That does not carry over to ImageNet.",
    ]
    return " ".join(filter(None, parts))


def _reported_times(axes: Axes) -> tuple[list[Line2D], list[Label]]:
    """Draw the paper's Figure 1 as it was reported, grey and hollow."""
    handles: list[Line2D] = []
    labels: list[Label] = []
    absent = iter(_ABSENT)
    nets = [row for row in published.rows("table3.csv") if row["tpuv3_step_ms"] and row["top1"]]
    points = sorted((float(row["tpuv3_step_ms"]) / 1e3, float(row["top1"]), row["model"]) for row in nets)
    for family, sizes in grouped(points, lambda point: point[2].partition("-")[0].rstrip("0123456789")).items():
        marker = look(family)[1] if family in FAMILIES else next(absent)
        style = hollow(marker, linestyle=DASHES[len(handles) % len(DASHES)], markersize=4.5)
        axes.plot([x for x, _, _ in sizes], [y for _, y, _ in sizes], **style)
        handles.append(Line2D([], [], label=f"reported: {family}, TPUv3", **style))
        if family in _VARIANTS:
            labels += [Label(x, y, " ".join(model.upper().split("-")[1:]), REPORTED) for x, y, model in sizes]
    log_axis(axes.xaxis, [x for x, _, _ in points], lambda v: units.si(v, "s", 1), 10, least=1.2)
    accuracy_axis(axes, [y for _, y, _ in points])
    axes.set_xlabel(f"reported time of a training step, TPUv3, batch {_TPU_BATCH} a device")
    axes.set_ylabel("reported top-1, %")
    axes.set_title(f"{_APART}. {published.TABLE3}", loc="left", fontsize=8)
    return handles, labels

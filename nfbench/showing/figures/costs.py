"""Measured top-1 of training runs against what they cost, beside what others reported on ImageNet.

Accuracy never crosses data sets or px: each has a figure of its own. Lines lead through the sizes of a family.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import cycle
from typing import NamedTuple

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nfbench import units
from nfbench.analysis import sweeps
from nfbench.analysis.rows import Row
from nfbench.analysis.training_runs import front
from nfbench.catalog import published
from nfbench.catalog.models import FAMILIES, NETS, Net, counted
from nfbench.showing.figures.canvas import (
    DASHES,
    Label,
    Sheet,
    accuracy_axis,
    bars,
    entry,
    family_handles,
    log_axis,
    reported_line,
    reported_panel,
)
from nfbench.showing.figures.prepared import lost, on_log_axis, top1, top1_ends
from nfbench.showing.figures.style import COLUMN, PAGE, REPORTED, interval, look, plain, series
from nfbench.units import grouped

_RUN = ("batch", "epochs", "agc", "recipe", "optimizer", "lr", "schedule", "augment", "ema", "norm", "sam", "precision")
"""Runs that differ in one of these are no sizes of one family, and no line joins them."""
_OTHERWISE = ("nfnet-ladder",)
"""Families whose reported accuracy was trained without augmentation: no figure sets it beside the others."""
_VARIANTS = ("nfnet", "efficientnet")
"""Families whose reported points are labelled, by variant."""
_GREY = "#B8B8B8"
_JOINED = {"color": "#606060", "linewidth": 1.6, "linestyle": (0, (1, 1)), "zorder": 2.5}
_LETTERS = 34
_NAMED = 14
"""Runs up to which each has a label."""
_TPU_BATCH = 32
"""Images a device, at which the paper's times were reported."""
_ABSENT = "Hp8"
"""Markers of the paper's families that the catalogue has no net of."""
_CROWDED = " Of each net its most accurate run is labelled."
_OTHERS = "Grey and hollow: reported, trained by others, in other ways. "
_MEANS = "Accuracies are means over seeds, bars 95 % intervals of Student's t over them; the front ignores intervals."
_SEPARATELY = "the time of separately timed steps, without data, the quickest of each net. Bars: 95 % intervals."


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


class ReportedNet(NamedTuple):
    """A net's reported ImageNet top-1 in per cent and its counted MACs, both at ``px``."""

    net: Net
    macs: float
    top1: float
    px: int


def accuracy_vs_flops(rows: list[Row]) -> Sheet:
    """Top-1 against MACs, parameters, training step time and energy, with the front of each."""
    lacks = [*lost(rows), *_lacking(rows)]
    imagenet = rows[0]["dataset"] == "imagenet"
    rows = _at_test_px(rows) if imagenet else rows
    among = _among(rows) if imagenet else []
    panels = [cost for cost in _COSTS if any(on_log_axis(row.get(cost.key)) for row in rows)]
    if len({row["batch"] for row in rows}) > 1:
        panels = [_IMAGE_TIME if cost.key == "train_step_time" else cost for cost in panels]
    number = len(panels) + (not among)
    high = math.ceil(number / 2)
    figure = Figure(figsize=(PAGE, 2.7 * high), layout="constrained")
    grid = figure.add_gridspec(high, 2)
    handles: list[Artist] = [
        *family_handles(rows),
        entry("Pareto front: none better for less", color=_GREY, linewidth=4, marker="o", markersize=9),
        *([entry("an NF net and its twin with batch normalization", **_JOINED)] if _pairs(rows) else []),
    ]
    wanted: dict[Axes, list[Label]] = {}
    for i, cost in enumerate(panels):
        axes = figure.add_subplot(grid[i // 2, i % 2], sharey=next(iter(wanted), None))
        wanted[axes] = _draw(axes, cost, [row for row in rows if on_log_axis(row.get(cost.key))], rows)
        axes.set_xlabel(cost.label.format(macs_px=_px(rows), batch=_batch(rows)), fontsize=8)
        axes.set_ylabel("" if i % 2 else "measured top-1, %")
        axes.tick_params(labelleft=not i % 2)
        if cost.key == "macs" and among:
            _reported(axes, among, handles, wanted)
            axes.set_ylabel("ImageNet top-1, %")
            _log(
                axes, [*(row["macs"] for row in rows if on_log_axis(row.get("macs"))), *(net.macs for net in among)], ""
            )
    # shared by all panels
    accuracy_axis(next(iter(wanted)).yaxis, [*_extent(rows), *(net.top1 for net in among)], room=0.14)
    if not among:
        axes = figure.add_subplot(grid[(number - 1) // 2, (number - 1) % 2])
        every = _nets()
        _reported(axes, every, handles, wanted, alone=True)
        _log(axes, [net.macs for net in every], "")
        reported_panel(axes, "", "counted MACs of one image at the test px", "reported ImageNet top-1, %")
    carry = "" if imagenet else f"Results on {plain(rows[0]['dataset'], 40)} do not carry over to ImageNet. "
    note = _OTHERS + carry + _MEANS + _front_of(rows) + ("" if _all_named(rows) else _CROWDED)
    return Sheet(figure, _title(rows), note, handles, wanted, lacks)


def _lacking(rows: Sequence[Row]) -> list[str]:
    """How many of the rows a panel lacks that others are in."""
    where = f"{plain(rows[0]['dataset'], 40)} on {plain(rows[0]['machine'])}"
    number = {cost.name: sum(on_log_axis(row.get(cost.key)) for row in rows) for cost in _COSTS}
    return [
        f"{len(rows) - there} of {len(rows)} runs on {where} have no {name}: they are in the other panels only"
        for name, there in number.items()
        if 0 < there < len(rows)
    ]


def _at_test_px(rows: Sequence[Row]) -> list[Row]:
    """The rows with the MACs at which their accuracy was read, and those px.

    Where one of the nets cannot be counted at its test px all stand at the px that they were counted at.
    """
    tested = []
    for row in rows:
        if row.get("px") != row.get("test_px"):
            count = counted(row["model"], row["test_px"]) if row.get("test_px") else None
            row = {**row, "macs": count.macs, "px": row["test_px"]} if count else row
        tested.append(row)
    return tested if all(row.get("px") == row.get("test_px") for row in tested) else list(rows)


def _px(rows: Sequence[Row]) -> str:
    """At which px the MACs of the rows are."""
    if len({row.get("px") for row in rows}) == 1:
        return f"{rows[0].get('px')} px"
    return f"each net's {'test' if all(row.get('px') == row.get('test_px') for row in rows) else 'training'} px"


def _title(rows: Sequence[Row]) -> str:
    row = rows[0]
    tested = f", tested at {row['test_px']} px" if row.get("test_px") not in (None, row.get("px")) else ""
    several = len({(one.get("px"), one.get("test_px")) for one in rows}) > 1
    at = ", each net at its px" if several else f" at {row.get('px', '?')} px{tested}"
    weights = f", from {plain(str(row['weights']), 30)} weights" if row.get("weights", "none") != "none" else ""
    return f"measured top-1 on {plain(row['dataset'], 40)}{at}{weights}"


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
    corners = [
        (row[cost.key], top1(at)) for before, row in zip(best[:1] + best, best, strict=False) for at in (before, row)
    ]
    step = {"linewidth": 4, "solid_joinstyle": "round", "marker": "o", "markersize": 11, "markevery": slice(1, None, 2)}
    axes.plot([x for x, _ in corners], [y for _, y in corners], color=_GREY, zorder=1, label="_front", **step)  # type: ignore[arg-type]
    _sizes(axes, here, cost.key, lambda row: (row.get("macs", 0), row[cost.key]))
    for pair in _pairs(here):
        axes.plot([row[cost.key] for row in pair], [top1(row) for row in pair], label="_twins", **_JOINED)  # type: ignore[arg-type]
    _log(axes, [row[cost.key] for row in here], cost.unit)
    return _labels(here, cost.key, rows)


def _sizes(axes: Axes, rows: Sequence[Row], key: str, order: Callable[[Row], object]) -> None:
    """Draw the runs with their intervals, and a line through those that are sizes of one family."""
    families = grouped(rows, lambda row: (series(row["model"], row.get("family")), _trained(row)))
    for ((_, family), _), sizes in families.items():
        colour, marker = look(family)
        sizes.sort(key=order)  # type: ignore[arg-type]
        x, tops = [row[key] for row in sizes], [top1(row) for row in sizes]
        axes.plot(x, tops, color=colour, linewidth=1, marker=marker, markersize=6, zorder=3)  # type: ignore[arg-type]
        upright = [(row[key], *ends) for row in sizes if (ends := top1_ends(row)) is not None]
        bars(axes, upright, color=colour, linewidth=1.2, zorder=2)


def _trained(row: Row, *but: str) -> tuple[object, ...]:
    """How a run was trained, but for the settings ``but``. What a search chose is not compared by its value."""
    tuned = str(row.get("tune", "none")).split(",")
    return (row.get("tune"), *(row.get(key) for key in _RUN if key not in (*tuned, *but)))


def _pairs(rows: Sequence[Row]) -> list[tuple[Row, Row]]:
    """Each NF net with its batch-normalized twin that was trained in the same way."""
    twins = {net.name: net.twin_of for net in NETS if net.twin_of}
    free = {(row["model"], _trained(row, "agc", "norm")): row for row in rows}
    wanted = [(free.get((twins.get(row["model"]), _trained(row, "agc", "norm"))), row) for row in rows]
    return [(net, twin) for net, twin in wanted if net is not None]


def _all_named(rows: Sequence[Row]) -> bool:
    """Whether there is room for a label of each run, and not only of the most accurate of each net."""
    return len(rows) <= _NAMED or len({row["model"] for row in rows}) == len(rows)


def _labels(here: Sequence[Row], key: str, rows: Sequence[Row]) -> list[Label]:
    """Labels of the rows that are here: what each of all rows differs in from the others; of tiny nets without that
    word where all are."""
    batches = len({row["batch"] for row in rows}) > 1
    if _all_named(rows):
        pairs = zip(rows, sweeps.names(rows, swept=()), strict=True)
        texts = {id(row): f"{name}, batch {row['batch']}" if batches else name for row, name in pairs}
    else:
        best = {row["model"]: row for row in sorted(rows, key=lambda row: float(row["top1"]))}
        texts = {id(row): model for model, row in best.items()}
    prefix = "tiny-" if all(row.get("family") == "tiny" for row in rows) else ""
    return [
        Label(row[key], top1(row) or 0.0, plain(texts[id(row)].replace(prefix, "", 1), _LETTERS), _colour(row))
        for row in here
        if id(row) in texts
    ]


def _colour(row: Row) -> str:
    return look(series(row["model"], row.get("family"))[1])[0]


def _log(axes: Axes, values: Sequence[float], unit: str) -> None:
    # room at the ends for labels
    ends = [min(values) ** 1.1 / max(values) ** 0.1, max(values) ** 1.1 / min(values) ** 0.1]
    log_axis(axes.xaxis, ends, lambda value: units.si(value, unit, 1).rstrip(), least=1.2)


# what was reported


def _nets() -> list[ReportedNet]:
    """The nets that have a reported top-1 and counted MACs at its px, by their family and MACs."""
    nets: list[ReportedNet] = []
    for net in (net for net in NETS if net.family not in _OTHERWISE):
        top = published.top1(net)
        px = (top.px if top else None) or net.test_px
        count = counted(net.name, px) if top and px else None
        if top and px and count:
            nets.append(ReportedNet(net, count.macs, top.top1, px))
    return sorted(nets, key=lambda each: (FAMILIES.index(each.net.family), each.macs))


def _among(rows: Sequence[Row]) -> list[ReportedNet]:
    """What was reported at the test px of the rows, or, of nets that are each at their own, of the same families;
    nothing where the rows are at other px."""
    if any(row.get("px") != row.get("test_px") for row in rows):
        return []
    px, families = {row.get("px") for row in rows}, {row.get("family") for row in rows}
    return [net for net in _nets() if (net.net.family in families if len(px) > 1 else net.px in px)]


def _reported(
    axes: Axes,
    nets: Sequence[ReportedNet],
    handles: list[Artist],
    wanted: dict[Axes, list[Label]],
    alone: bool = False,
) -> None:
    """Draw what was reported of nets, hollow and grey: as lines where it stands alone; adds its entries and labels."""
    for family, sizes in grouped(nets, lambda net: net.net.family).items():
        normed = "no batch norm" if sizes[0].net.norm == "none" else "batch norm"
        name, dash = (f"{family} ({normed})", "-") if alone else (f"{family}, on ImageNet", "none")
        points = [(size.macs, size.top1) for size in sizes]
        handles.append(reported_line(axes, points, name, look(family)[1], linestyle=dash, zorder=2))
        variants = family in _VARIANTS
        for net, macs, top, _ in sizes if variants or not alone else ():
            text = net.name.rpartition("-")[2].upper() if variants else net.name
            wanted.setdefault(axes, []).append(Label(macs, top, text, REPORTED))


def accuracy_vs_latency(rows: list[Row]) -> Sheet:
    """Top-1 against the step time of the same nets (the paper's Figure 1), families as lines.

    The top-1 is that of training runs or of weights that were evaluated here; of nets without either it is what was
    reported, hollow and grey. What the paper reports of both stands below in a panel of its own, where a GPU was timed.
    """
    gpu = any(row["gpu"] for row in rows)
    figure = Figure(figsize=(COLUMN, 5.4 if gpu else 3.2), layout="constrained")
    axes, *below = figure.subplots(1 + gpu, 1, squeeze=False, height_ratios=[3.2, 2.2][: 1 + gpu])[:, 0]
    measured = [row for row in rows if "top1_by_others" not in row]
    by_others = [row for row in rows if "top1_by_others" in row]
    _sizes(axes, measured, "step_time", lambda row: row["step_time"])
    times = [row["step_time"] for row in rows]
    for row in rows:
        if (ends := interval(row)) is not None:
            axes.hlines(
                [_height(row)], *ends, color=_colour(row) if row in measured else REPORTED, linewidth=1.2, zorder=2
            )
            times += ends
    log_axis(axes.xaxis, times, lambda v: units.si(v, "s", 1), least=1.2)
    accuracy_axis(axes.yaxis, [*_extent(measured), *map(_height, by_others)], room=0.14)
    axes.set_xlabel(f"measured time of a training step, {_batch(rows)}")
    axes.set_ylabel("top-1, %" if measured and by_others else "measured top-1, %" if measured else "reported top-1, %")
    wanted = {axes: _labels(measured, "step_time", measured)}
    handles: list[Artist] = [*family_handles(measured)]
    for family, sizes in grouped(by_others, lambda row: str(row.get("family"))).items():
        sizes.sort(key=lambda row: float(row["step_time"]))
        points = [(row["step_time"], _height(row)) for row in sizes]
        handles.append(reported_line(axes, points, f"{family}, at its measured step time", look(family)[1]))
        wanted[axes] += [Label(row["step_time"], _height(row), row["model"], REPORTED) for row in sizes]
    for beside in below:
        _reported_times(beside, handles, wanted)
    evaluated = any(not row.get("epochs") for row in measured)
    joined = "precision and batch" if evaluated or not measured else "precision, batch, px and λ"
    runs = "weights that were evaluated" if evaluated else "training runs"
    imagenet = rows[0]["dataset"] == "imagenet"
    carry = "" if imagenet else " That does not carry over to ImageNet."
    whose = f"the top-1 is of {runs}, " if measured else "the top-1 was reported, on ImageNet, "
    grey = "Grey: the top-1 was reported by others. " if measured and by_others else ""
    note = f"{grey}Joined by model, {joined}: {whose}{_SEPARATELY}{carry}"
    top = "measured top-1" if measured else "reported top-1"
    title = f"{top} on {plain(rows[0]['dataset'], 30)} against training step time"
    return Sheet(figure, title, note, handles, wanted, lost(rows))


def _height(row: Row) -> float:
    """The top-1 of a row in per cent: measured, or else what was reported."""
    return 100 * float(row["top1_by_others"]) if "top1_by_others" in row else top1(row) or 0.0


def _reported_times(axes: Axes, handles: list[Artist], wanted: dict[Axes, list[Label]]) -> None:
    """Draw the paper's Figure 1 as it was reported, grey and hollow; adds its entries and labels."""
    absent, dashes = iter(_ABSENT), cycle(DASHES)
    nets = [row for row in published.rows("table3.csv") if row["tpuv3_step_ms"] and row["top1"]]
    points = sorted((float(row["tpuv3_step_ms"]) / 1e3, float(row["top1"]), row["model"]) for row in nets)
    wanted[axes] = []
    for family, sizes in grouped(points, lambda point: point[2].partition("-")[0].rstrip("0123456789")).items():
        marker = look(family)[1] if family in FAMILIES else next(absent)
        style = {"linestyle": next(dashes), "markersize": 4.5}
        handles.append(reported_line(axes, [(x, y) for x, y, _ in sizes], f"{family}, TPUv3", marker, **style))
        variants = sizes if family in _VARIANTS else ()
        wanted[axes] += [Label(x, y, " ".join(model.upper().split("-")[1:]), REPORTED) for x, y, model in variants]
    log_axis(axes.xaxis, [x for x, _, _ in points], lambda v: units.si(v, "s", 1), least=1.2)
    accuracy_axis(axes.yaxis, [y for _, y, _ in points])
    label = f"reported time of a training step, TPUv3, batch {_TPU_BATCH} per device"
    reported_panel(axes, published.TABLE3, label, "reported top-1, %")

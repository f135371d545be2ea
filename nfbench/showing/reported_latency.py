"""The paper's Figure 1 as it was reported: ImageNet top-1 against the time of a training step, grey and hollow."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from nfbench import units
from nfbench.catalog import published
from nfbench.catalog.models import FAMILIES
from nfbench.showing.labels import Label
from nfbench.showing.style import REPORTED, look
from nfbench.showing.sweep_lines import DASHES, Look, accuracy_axis, handle, log_axis

BATCH = 32
"""Images a device, at which the times were reported."""
SOURCE = f"{published.TABLE3}: TPUv3, bf16, batch {BATCH} a device"
_FAINT = 0.7
_OTHERS = "Hp8"
"""Markers of families that the catalogue has no net of."""
_SHORT = ("nfnet", "efficientnet")
"""Families whose points are labelled by variant."""


class Point(NamedTuple):
    """A net's reported seconds of a training step and its top-1 in per cent."""

    model: str
    seconds: float
    top1: float


def families() -> dict[str, list[Point]]:
    """The reported nets of each family, the quickest first."""
    found: dict[str, list[Point]] = {}
    for row in published.rows("table3.csv"):
        if row["tpuv3_step_ms"] and row["top1"]:
            family = row["model"].partition("-")[0].rstrip("0123456789")
            found.setdefault(family, []).append(
                Point(row["model"], float(row["tpuv3_step_ms"]) / 1e3, float(row["top1"]))
            )
    return {family: sorted(points, key=lambda point: point.seconds) for family, points in found.items()}


def draw(axes: Axes) -> tuple[list[Line2D], list[Label]]:
    """Draw them behind all else; the legend's handles, and the labels that they want."""
    handles, labels = [], []
    for family, style, points in _looks():
        hollow: dict[str, Any] = {"markerfacecolor": "white", "alpha": _FAINT, "linewidth": 0.8, "markersize": 4.5}
        x, y = [point.seconds for point in points], [point.top1 for point in points]
        axes.plot(x, y, color=style.colour, marker=style.marker, linestyle=style.dash, zorder=1, **hollow)
        handles.append(handle(f"reported: {family}, TPUv3", style, **hollow))
        if family in _SHORT:
            labels += [Label(p.seconds, p.top1, _variant(p.model), REPORTED) for p in points]
    return handles, labels


def panel(axes: Axes) -> tuple[list[Line2D], list[Label]]:
    """Fill an axes with them alone."""
    found = draw(axes)
    points = [point for some in families().values() for point in some]
    log_axis(axes.xaxis, [point.seconds for point in points], lambda v: units.si(v, "s", 1), 10, least=1.2)
    accuracy_axis(axes, [point.top1 for point in points])
    axes.set_xlabel(f"reported time of a training step, TPUv3, batch {BATCH} a device")
    axes.set_ylabel("reported top-1, %")
    axes.set_title(f"ImageNet, reported: not measured here. {published.TABLE3}", loc="left", fontsize=8)
    return found


def _looks() -> Iterator[tuple[str, Look, list[Point]]]:
    """Each family with its look; those that the catalogue has no net of have one of their own."""
    others, used = iter(_OTHERS), list[str]()
    for family, points in families().items():
        marker = look(family)[1] if family in FAMILIES else next(others)
        yield family, Look(REPORTED, marker, DASHES[len(used) % len(DASHES)]), points
        used.append(family)


def _variant(model: str) -> str:
    """ "F5 SAM" of nfnet-f5-sam."""
    return " ".join(part.upper() for part in model.split("-")[1:])

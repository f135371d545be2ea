"""Labels beside the points of a figure, so that none covers another or a point."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise, product
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from nfbench.showing.style import settle

Array = npt.NDArray[np.float64]

_WAYS = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1))
_FAR = (6, 10, 15, 21, 28, 36, 46, 60, 78, 100)
"""Points from a point to its label; from `_LED` on a line leads there."""
_SAID = 6
_LED = 15
_POINT = 5.0
"""Points that a marker takes on each side."""
_STRIDE = 3.0
"""Points between the places of a line that count as covered."""
_LINE = 4.0
"""Square points that covering such a place costs, against one for each of another label."""
_FARTHER = 1.5
"""What each point of distance costs."""


class Label(NamedTuple):
    """A text at a place in the units of the axes."""

    x: float
    y: float
    text: str
    colour: str


def place(figure: Figure, labels: dict[Axes, Sequence[Label]]) -> list[Label]:
    """Write the labels of each axes near their points; those that there is no room for are returned.

    Everything else must be in the figure already, which is laid out for good.
    """
    crowded = []
    canvas = FigureCanvasAgg(figure)
    # limits and sizes, which the places depend on
    settle(figure)
    renderer = canvas.get_renderer()  # type: ignore[no-untyped-call]
    point = figure.dpi / 72
    extents: dict[str, Array] = {}
    for axes, wanted in labels.items():
        centres = [np.asarray(axes.transData.transform((label.x, label.y))) for label in wanted]
        lines, inside = _lines(axes, _STRIDE * point), np.asarray(axes.bbox.extents)
        taken = [np.concatenate([centre - _POINT * point, centre + _POINT * point]) for centre in centres]
        for label, centre in zip(wanted, centres, strict=True):
            if label.text not in extents:
                text = axes.text(0, 0, label.text, fontsize=7)
                extents[label.text] = np.array(text.get_window_extent(renderer).size)
                text.remove()
            size = extents[label.text] + [2 * point, 0]
            others = np.array(taken)
            least, best = np.inf, None
            for far, way in product(_FAR, _WAYS):
                distance = far * _FARTHER * point**2
                if distance >= least:
                    break
                box = _box(centre, far * point, way, size)
                if _shared(box, inside) < size.prod() - 1 or _shared(box, others[len(centres) :]).any():
                    continue
                over = np.all((lines >= box[:2]) & (lines <= box[2:]), axis=1).sum()
                cost = float(_shared(box, others[: len(centres)]).sum() + over * _LINE * point**2 + distance)
                if cost < least:
                    least, best = cost, (far, way, box)
            if best is None:
                crowded.append(label)
                continue
            taken.append(best[2])
            _write(axes, label, best[0], best[1])
    return crowded


def dark(colour: str) -> tuple[float, ...]:
    """A colour as letters have it: what is bright enough for a marker is too pale to read."""
    return tuple(0.6 * part for part in to_rgb(colour))


def unlabelled(crowded: Sequence[Label]) -> list[str]:
    """What to say of labels that there was no room for: a sentence, or nothing."""
    names = list(dict.fromkeys(label.text for label in crowded))
    more = f" and {len(names) - _SAID} more" if len(names) > _SAID else ""
    return [f"no room for the labels of some points: {'; '.join(names[:_SAID])}{more}"] if names else []


def _lines(axes: Axes, stride: float) -> Array:
    """Places in pixels along every line of the axes."""
    paths = [np.column_stack(line.get_data()) for line in axes.lines]
    paths += [np.asarray(s) for c in axes.collections if isinstance(c, LineCollection) for s in c.get_segments()]
    found = [np.empty((0, 2))]
    for path in paths:
        for start, end in pairwise(axes.transData.transform(path)):
            found.append(np.linspace(start, end, max(2, int(np.hypot(*(end - start)) / stride))))
    return np.concatenate(found)


def _box(centre: Array, far: float, way: tuple[int, int], size: Array) -> Array:
    """Left, bottom, right and top of a label in pixels."""
    low = centre + np.multiply(way, far) + (np.asarray(way) - 1) * size / 2
    return np.concatenate([low, low + size])


def _shared(box: Array, others: Array) -> Array:
    """Square pixels that ``box`` shares with each of the others."""
    sides = np.minimum(box[2:], others[..., 2:]) - np.maximum(box[:2], others[..., :2])
    return np.asarray(np.prod(np.maximum(sides, 0), axis=-1))


def _write(axes: Axes, label: Label, far: int, way: tuple[int, int]) -> None:
    away, ink = (way[0] * far, way[1] * far), dark(label.colour)
    if far >= _LED:
        leader = {"arrowstyle": "-", "linewidth": 0.5, "color": label.colour, "shrinkA": 0, "shrinkB": 4}
        # an artist of its own, so that the text's box is that of the text
        axes.annotate(
            "", (label.x, label.y), xytext=away, textcoords="offset points", arrowprops=leader, zorder=4
        ).set_in_layout(False)
    axes.annotate(
        label.text,
        (label.x, label.y),
        xytext=away,
        textcoords="offset points",
        fontsize=7,
        color=ink,
        ha=("right", "center", "left")[way[0] + 1],
        va=("top", "center", "bottom")[way[1] + 1],
        path_effects=[withStroke(linewidth=2, foreground="white")],
        zorder=4,
    ).set_in_layout(False)

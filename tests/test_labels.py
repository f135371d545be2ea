"""Labels beside points: none covers another, none leaves its axes, and what has no room is said."""

from __future__ import annotations

from itertools import combinations

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from nfbench.showing.figures.canvas import Label, Sheet, finish


def axes_of(size: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(size, size), layout="constrained")
    return figure, figure.add_subplot()


def boxes(figure: Figure, axes: Axes) -> dict[str, Bbox]:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    texts = [text for text in axes.texts if text.get_text()]
    return {text.get_text(): text.get_window_extent(canvas.get_renderer()) for text in texts}  # type: ignore[no-untyped-call]


def crowd(number: int) -> list[Label]:
    return [Label(0.5 + 0.01 * (i % 5), 0.5 + 0.01 * (i // 5), f"a net called {i}", "black") for i in range(number)]


def test_labels_of_points_that_nearly_touch_neither_cover_each_other_nor_leave_the_axes() -> None:
    figure, axes = axes_of(4)
    assert finish(Sheet(figure, "", labels={axes: crowd(20)}), "") == []
    found = boxes(figure, axes)
    assert len(found) == 20
    assert not [pair for pair in combinations(found.values(), 2) if pair[0].overlaps(pair[1])]
    inside = axes.get_window_extent().padded(1)
    assert all(inside.contains(*corner) for box in found.values() for corner in box.corners())
    leaders = [text for text in axes.texts if not text.get_text()]
    assert leaders, "a label far from its point is led to it by a line"


def test_labels_that_there_is_no_room_for_are_not_written_and_are_told() -> None:
    figure, axes = axes_of(2)
    (note,) = finish(Sheet(figure, "", labels={axes: crowd(26)}), "")
    found = boxes(figure, axes)
    assert 0 < len(found) < 20
    assert not [pair for pair in combinations(found.values(), 2) if pair[0].overlaps(pair[1])]
    assert note.startswith("no room for the labels of some points: ")
    assert note.endswith(f" and {26 - len(found) - 6} more")

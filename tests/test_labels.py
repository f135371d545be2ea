from __future__ import annotations

from itertools import combinations

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from nfbench.showing.labels import Label, place, unlabelled


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
    assert place(figure, {axes: crowd(20)}) == []
    found = boxes(figure, axes)
    assert len(found) == 20
    assert not [pair for pair in combinations(found, 2) if found[pair[0]].overlaps(found[pair[1]])]
    inside = axes.get_window_extent()
    assert all(inside.contains(*corner) for box in found.values() for corner in box.corners())


def test_labels_that_there_is_no_room_for_are_not_written_and_are_told() -> None:
    figure, axes = axes_of(2)
    wanted = crowd(60)
    crowded = place(figure, {axes: wanted})
    found = boxes(figure, axes)
    assert crowded and {label.text for label in crowded}.isdisjoint(found)
    assert len(found) + len(crowded) == 60
    assert not [pair for pair in combinations(found, 2) if found[pair[0]].overlaps(found[pair[1]])]
    (note,) = unlabelled(crowded)
    assert note.startswith(f"no room for the labels of some points: {crowded[0].text}; ")
    assert note.endswith(f" and {len(crowded) - 6} more")
    assert unlabelled([]) == []


def test_a_label_far_from_its_point_is_led_to_it_by_a_line() -> None:
    figure, axes = axes_of(4)
    place(figure, {axes: crowd(20)})
    leaders = [text for text in axes.texts if not text.get_text()]
    assert leaders and all(leader.arrow_patch is not None for leader in leaders)  # type: ignore[attr-defined]
    figure, axes = axes_of(4)
    place(figure, {axes: crowd(1)})
    assert [text.get_text() for text in axes.texts] == ["a net called 0"]

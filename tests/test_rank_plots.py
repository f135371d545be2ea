from __future__ import annotations

import pytest
from all_sorts import composed, on_ranks, timed
from make import H200
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection

from nfbench.analysis.rows import rows
from nfbench.records import Resolved, Result, StepTime, reading
from nfbench.showing.kinds import Drawing, Held
from nfbench.showing.rank_plots import ranks


def drawn(*results: Result) -> Drawing:
    return ranks(Held(rows(results)[0], results))


def panels(drawing: Drawing) -> list[Axes]:
    return [axes for _, figure in drawing.figures for axes in figure.axes if axes.axison]


def medians(axes: Axes) -> dict[str, list[tuple[int, float]]]:
    return {
        str(line.get_label()): [(round(x), float(y)) for x, y in zip(*line.get_data(), strict=True)]
        for line in axes.lines
    }


def spread(*values: tuple[float, ...]) -> tuple[object, ...]:
    return tuple(reading("step_time", "s", "step", "t", each, rank=rank) for rank, each in enumerate(values))


def test_every_rank_is_a_point_at_its_median_with_and_without_the_others() -> None:
    (axes,) = panels(drawn(on_ranks(3)))
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("rank", "time, ms")
    found = medians(axes)
    assert found["step, gradients reduced"] == [(0, 100), (1, pytest.approx(110)), (2, pytest.approx(120))]
    assert found["step of the rank by itself"] == [(0, 80), (1, pytest.approx(88)), (2, pytest.approx(96))]
    assert len({(line.get_marker(), line.get_color()) for line in axes.lines}) == 2


def test_bars_go_from_the_5th_to_the_95th_percentile() -> None:
    values = tuple(0.1 + i / 1000 for i in range(21))
    (axes,) = panels(drawn(on_ranks(2, readings=spread(values, values))))
    (bars,) = [c for c in axes.collections if isinstance(c, LineCollection)]
    for segment in bars.get_segments():
        assert [y for _, y in segment] == pytest.approx([101, 119])
    assert list(medians(axes)) == ["step, gradients reduced"]


def test_the_title_tells_the_slowest_rank_from_the_quickest() -> None:
    (axes,) = panels(drawn(on_ranks(3)))
    assert axes.get_title(loc="left").split("\n")[1:] == [
        "reduced: rank 2 takes 1.20 × the time of rank 0",
        "by itself: rank 2 takes 1.20 × the time of rank 0",
    ]
    (axes,) = panels(drawn(on_ranks(2, readings=spread((0.1, 0.1), (0.1, 0.1)))))
    assert axes.get_title(loc="left").split("\n")[1:] == ["reduced: all ranks take the same time"]


def test_what_ran_on_one_device_or_kept_no_step_of_each_rank_is_left_out() -> None:
    own = StepTime(model="nfnet-f0", batch=64, world_size=2)
    became = Resolved(px=224, micro_batch=8, precision="fp32", layout="nhwc")
    drawing = drawn(
        timed(),
        composed(workload=own, resolved=became),
        on_ranks(4, status="error", readings=()),
        on_ranks(2, workload=StepTime(model="nf-resnet50", world_size=2), readings=spread((0.1, 0.2))),
        on_ranks(8),
    )
    assert {(m.row["model"], m.why) for m in drawing.missing} == {
        ("resnet50", "one device only"),
        ("nfnet-f0", "no whole step of each rank was timed"),
        ("resnet50", "error, no step time"),
        ("nf-resnet50", "no whole step of each rank was timed"),
    }
    assert [row["world_size"] for row in drawing.drawn] == [8]


def test_rounds_of_a_row_are_taken_together_and_failed_ones_do_not_count() -> None:
    rounds = [
        on_ranks(2, round=0, readings=spread((0.1,) * 3, (0.2,) * 3)),
        on_ranks(2, round=1, readings=spread((0.3,) * 4, (0.4,) * 4)),
        on_ranks(2, round=2, status="error", readings=spread((9.0,) * 9, (9.0,) * 9)),
    ]
    (axes,) = panels(drawn(*rounds))
    assert medians(axes)["step, gradients reduced"] == [(0, 300), (1, 400)]


def test_each_row_has_a_panel_and_more_than_there_is_room_for_are_left_out() -> None:
    many = [on_ranks(2, workload=StepTime(model="resnet50", batch=2 * b, world_size=2)) for b in range(1, 13)]
    drawing = drawn(*many, on_ranks(2, machine=H200))
    assert [machine for machine, _ in drawing.figures] == ["A CPU", "NVIDIA H200"]
    assert len(panels(drawing)) == 9 and len(drawing.missing) == 4
    assert {m.why for m in drawing.missing} == {"a figure has room for 8 rows: draw fewer at once, with --where"}

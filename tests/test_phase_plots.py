from __future__ import annotations

import pytest
from all_sorts import composed, on_ranks, phases, timed
from make import H200, step_times
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from nfbench.analysis.rows import rows
from nfbench.records import Result, StepTime, reading
from nfbench.showing.kinds import Drawing, Held
from nfbench.showing.phase_plots import phases as draw


def drawn(*results: Result) -> Drawing:
    return draw(Held(rows(results)[0], results))


def only(*results: Result) -> Figure:
    ((_, figure),) = drawn(*results).figures
    return figure


def bars(axes: Axes) -> dict[tuple[int, str], Rectangle]:
    found = {}
    for phase in axes.collections:
        for bar in phase.get_paths():
            box = bar.get_extents()
            patch = Rectangle(
                box.p0, box.width, box.height, hatch=phase.get_hatch(), facecolor=phase.get_facecolor()[0]
            )  # type: ignore[attr-defined]
            found[round((box.y0 + box.y1) / 2), str(phase.get_label()).removeprefix("_")] = patch
    return found


def with_phase(name: str, seconds: float, time: float = 0.1) -> Result:
    return timed(readings=(step_times(*(time,) * 20), *phases(), reading(name, "s", "step", "t", [seconds] * 20)))


def test_widths_of_bars_are_milliseconds_and_shares_of_the_step() -> None:
    figure = only(timed())
    times, shares = figure.axes[:2]
    assert times.get_xlabel() == "time of the phases, ms" and shares.get_xlabel() == "share of the step, %"
    expected = {"forward": 30, "backward": 50, "clip": 4, "update": 10, "rest": 6}
    for axes in (times, shares):
        found = bars(axes)
        assert {phase for _, phase in found} == set(expected)
        assert {phase: bar.get_width() for (_, phase), bar in found.items()} == pytest.approx(expected)
        at = 0.0
        for phase, width in expected.items():
            assert found[0, phase].get_x() == pytest.approx(at)
            at += width


def test_shares_are_of_the_step_and_not_of_the_sum_of_the_phases() -> None:
    # medians of their own: together they take longer than the step
    shares = bars(only(with_phase("average", 0.026)).axes[1])
    assert shares[0, "forward"].get_width() == pytest.approx(30)
    assert sum(bar.get_width() for bar in shares.values()) == pytest.approx(120)


def test_each_row_has_a_bar_in_its_own_line_beside_its_step_time() -> None:
    figure = only(timed("resnet50", 0.1), timed("nfnet-f0", 0.3))
    times = figure.axes[0]
    names = [label.get_text() for label in times.get_yticklabels()]
    assert names == ["nfnet-f0", "resnet50"]
    assert bars(times)[0, "forward"].get_width() == pytest.approx(90)
    assert [text.get_text() for text in times.texts] == ["300 ms", "100 ms"]


def test_the_clip_is_always_written_and_other_shares_where_they_fit() -> None:
    texts = {text.get_text() for text in only(timed()).axes[1].texts}
    assert texts == {"30", "50", "10", "clip 4.0 %"}
    shares = {"clip": 1e-6, "forward": 0.09}
    small = timed(readings=(step_times(0.1), *(reading(n, "s", "step", "t", [t]) for n, t in shares.items())))
    assert {text.get_text() for text in only(small).axes[1].texts} == {"90", "10", "clip below 0.1 %"}


def test_a_phase_that_was_not_read_has_no_bar_and_no_entry() -> None:
    def entries(figure: Figure) -> list[str]:
        return [t.get_text() for axes in figure.axes if (box := axes.get_legend()) for t in box.get_texts()]

    plain = entries(only(timed()))
    assert plain == ["forward", "backward", "clip (AGC)", "update", "rest of the step"]
    more = only(with_phase("ascent", 0.005), timed("resnet26"))
    assert entries(more) == ["ascent (SAM)", *plain]
    assert {place for place, phase in bars(more.axes[0]) if phase == "ascent"} == {1}
    assert "average (EMA)" in entries(only(with_phase("average", 0.001)))


def test_there_is_no_rest_where_the_phases_take_longer_than_the_step() -> None:
    figure = only(with_phase("ascent", 0.05))
    assert "rest" not in {phase for _, phase in bars(figure.axes[0])}
    assert figure.axes[1].get_xlim()[1] > 144


def test_phases_are_told_apart_by_hatch_and_not_by_colour_alone() -> None:
    one = with_phase("ascent", 0.002)
    both = timed(readings=(*one.readings, reading("average", "s", "step", "t", [0.003] * 20)))
    found = bars(only(both).axes[0])
    looks = {phase: (bar.get_hatch() or "", bar.get_facecolor()) for (_, phase), bar in found.items()}
    hatched = [hatch for hatch, _ in looks.values() if hatch]
    assert len(set(hatched)) == len(hatched) == len(looks) - 2
    assert looks["rest"][1] == (1, 1, 1, 1) and sum(looks["forward"][1][:3]) < 1.5


def test_phases_of_a_composed_step_are_composed_too() -> None:
    found = bars(only(composed()).axes[0])
    assert found[0, "forward"].get_width() == pytest.approx(80) and found[0, "clip"].get_width() == pytest.approx(1)


def test_what_has_no_phase_or_no_time_is_left_out_with_the_reason() -> None:
    graph = timed("resnet26", readings=(step_times(0.1, 0.1),))
    drawing = drawn(graph, timed("resnet101", status="out_of_memory", readings=()), timed())
    assert [(m.row["model"], m.why) for m in drawing.missing] == [
        ("resnet26", "no time of a phase, as under a CUDA graph"),
        ("resnet101", "out of memory, no step time"),
    ]
    assert [row["model"] for row in drawing.drawn] == ["resnet50"]


def test_machines_have_figures_of_their_own_and_rows_that_have_no_room_are_left_out() -> None:
    many = [timed(workload=StepTime(model="resnet50", batch=b)) for b in range(1, 40)]
    drawing = drawn(*many, timed(machine=H200))
    assert [machine for machine, _ in drawing.figures] == ["A CPU", "NVIDIA H200"]
    assert len(bars(drawing.figures[0][1].axes[0])) == 30 * 5
    assert {m.why for m in drawing.missing} == {"a figure has room for 30 rows: draw fewer at once, with --where"}
    assert len(drawing.missing) == 9 and len(drawing.drawn) == 31


def test_phases_of_several_ranks_say_whose_they_are() -> None:
    result = on_ranks(2)
    more = (*result.readings, *phases())
    figure = only(on_ranks(2, readings=more))
    assert figure.get_supxlabel().endswith("Phases are those of rank 0.")

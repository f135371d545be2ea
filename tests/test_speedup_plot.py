from __future__ import annotations

import pytest
from all_sorts import in_turns
from make import H200
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from nfbench import units
from nfbench.catalog import published
from nfbench.records import Result, StepTime
from nfbench.showing import ratios as shown
from nfbench.showing.kinds import Drawing, Held
from nfbench.showing.speedup_plot import speedup
from nfbench.showing.study import ratios
from nfbench.showing.style import look

F1 = in_turns("nfnet-f1", "efficientnet-b7", (0.1, 0.5), machine=H200)
PLAIN = in_turns("resnet101", "nf-resnet101", (0.1, 0.12), machine=H200)


def drawn(*results: Result) -> Drawing:
    return speedup(Held(results=results, ratios=ratios(results, everything=False)))


def only(*results: Result) -> Figure:
    ((_, figure),) = drawn(*results).figures
    return figure


def hollow(line: Line2D) -> bool:
    return line.get_markerfacecolor() == "white"


def points(axes: Axes) -> list[Line2D]:
    return [line for line in axes.lines if line.get_linestyle() == "None"]


def entries(figure: Figure) -> dict[str, Line2D]:
    (box,) = [box for axes in figure.axes if (box := axes.get_legend())]
    return {t.get_text(): h for t, h in zip(box.get_texts(), box.legend_handles, strict=True) if isinstance(h, Line2D)}


def test_the_dot_stands_at_the_ratio_and_its_bar_goes_from_end_to_end() -> None:
    ((ratio,), figure) = ratios(PLAIN, everything=False), only(*PLAIN)
    axes = figure.axes[0]
    (dot,) = points(axes)
    assert list(dot.get_xdata()) == [ratio.speedup.value] and not hollow(dot)
    (y,) = dot.get_ydata()
    bars = [line for line in axes.lines if list(line.get_ydata()) == [y, y]]
    assert [list(bar.get_xdata()) for bar in bars] == [[ratio.speedup.low, ratio.speedup.high]]
    assert axes.get_xscale() == "log" and axes.get_xlabel() == "times as fast as the second net (1: equally fast)"


def test_a_line_stands_where_both_are_equally_fast_beside_each_dot_and_crosses_no_text() -> None:
    figure = only(*PLAIN)
    axes = figure.axes[0]
    ((low, high),) = [line.get_ydata() for line in axes.lines if list(line.get_xdata()) == [1, 1]]
    (dot,) = points(axes)
    assert low < dot.get_ydata()[0] < high
    figure.draw_without_rendering()
    top = axes.transData.transform((1, low))[1]
    assert all(text.get_window_extent().y0 >= top - 1 for text in axes.texts if text.get_position()[0] == 0)
    low, high = axes.get_xlim()
    assert low < 1 < high


def test_every_reported_ratio_of_the_pair_is_a_hollow_point_in_its_row() -> None:
    axes = only(*F1, *PLAIN).axes[0]
    reported = [line for line in points(axes) if hollow(line)]
    known = published.ratios("nfnet-f1", "efficientnet-b7")
    assert [line.get_xdata()[0] for line in reported] == [r.value for r in known]
    assert len({line.get_marker() for line in reported}) == len(known)
    (measured,) = [line for line in points(axes) if line.get_color() == look("nfnet")[0]]
    assert {line.get_ydata()[0] for line in reported} == {measured.get_ydata()[0]}
    assert measured.get_color() not in {line.get_color() for line in reported}
    assert axes.get_xlim()[1] > max(r.value for r in known)


def test_measured_and_reported_have_entries_of_their_own_that_look_like_their_points() -> None:
    figure = only(*F1)
    found = entries(figure)
    assert [text for text, handle in found.items() if not hollow(handle)] == ["measured: nfnet"]
    sources = {r.source for r in published.ratios("nfnet-f1", "efficientnet-b7")}
    said = {text.removeprefix("reported: ").replace(",", "") for text in found if text.startswith("reported: ")}
    assert said == {source.replace(",", "") for source in sources}
    assert "Reported: on the devices and at the settings of the source" in figure.get_supxlabel().replace("\n", " ")


def test_nothing_is_said_of_reports_where_there_are_none() -> None:
    figure = only(*PLAIN)
    assert not any(map(hollow, points(figure.axes[0])))
    assert list(entries(figure)) == ["measured: resnet"] and "Reported" not in figure.get_supxlabel()


def test_a_row_says_both_nets_their_settings_and_the_value() -> None:
    figure = only(*F1)
    ((row,), texts) = shown.rows(ratios(F1, everything=False)), [t.get_text() for t in figure.axes[0].texts]
    assert texts == ["nfnet-f1 against efficientnet-b7", "both 224 px, nhwc, fp32, batch 32", shown.times(row)]
    assert "±" in shown.times(row)


@pytest.mark.parametrize("rounds", [1, 3])
def test_fewer_than_four_rounds_have_a_filled_point_without_a_bar_and_that_is_said(rounds: int) -> None:
    few = in_turns("resnet101", "nf-resnet101", (0.1, 0.12), rounds)
    figure = only(*few)
    (dot,) = points(figure.axes[0])
    assert dot.get_xdata()[0] == pytest.approx(1.2, rel=0.02) and not hollow(dot)
    assert figure.axes[0].texts[-1].get_text() == units.significant(dot.get_xdata()[0], 3)
    y = dot.get_ydata()[0]
    assert sum(list(line.get_ydata()) == [y, y] for line in figure.axes[0].lines) == 0
    assert "a point without one was measured in fewer than 4 rounds" in figure.get_supxlabel().replace("\n", " ")


def test_pairs_that_something_was_reported_of_go_first_where_there_is_no_room() -> None:
    many = [
        result
        for batch in range(1, 26)
        for result in in_turns("resnet26", "resnet50", (0.1, 0.2), rounds=1, session=str(batch), resolved=None)
    ]
    many = [_at(result, int(result.session or 0)) for result in many]
    drawing = drawn(*many, *F1)
    assert [machine for machine, _ in drawing.figures] == ["A CPU", "NVIDIA H200"]
    assert len(drawing.drawn) == 21 and len(drawing.missing) == 5
    assert {m.why for m in drawing.missing} == {"a figure has room for 20 rows: draw fewer at once, with --where"}
    drawing = drawn(*(_on_h200(r) for r in (*many, *in_turns("nfnet-f1", "efficientnet-b7", (0.1, 0.5)))))
    assert drawing.drawn[0]["net"] == "nfnet-f1"


def _on_h200(result: Result) -> Result:
    import msgspec

    return msgspec.structs.replace(result, machine=H200)


def _at(result: Result, batch: int) -> Result:
    import msgspec
    from make import result as made

    workload = StepTime(model=result.step.model, batch=batch)
    return msgspec.structs.replace(result, workload=workload, resolved=made().resolved)


def test_no_pair_draws_nothing() -> None:
    assert drawn() == Drawing()

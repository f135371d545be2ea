"""What the bars of phases, ranks and energy mean, and the cells of a map of clipping thresholds."""

from __future__ import annotations

import pytest
from all_sorts import composed, on_ranks, phases, timed
from figure_cases import axes_of, drawn, foot, legend, only, texts, ticks, why
from make import H200, once, step_times
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.patches import Rectangle
from matplotlib.transforms import Bbox
from sweep_cases import agc_results, run

from nfbench.records import Result, StepTime, reading


def bars(axes: Axes) -> dict[tuple[int, str], Bbox]:
    """The bar of each row and phase."""
    found = {}
    for phase in (c for c in axes.collections if isinstance(c, PolyCollection)):
        for path in phase.get_paths():
            box = path.get_extents()
            found[round((box.y0 + box.y1) / 2), str(phase.get_label()).removeprefix("_")] = box
    return found


def with_phase(name: str, seconds: float) -> Result:
    return timed(readings=(step_times(*(0.1,) * 20), *phases(), reading(name, "s", "step", "t", [seconds] * 20)))


def test_bars_are_milliseconds_and_shares_of_the_step_and_joules_of_an_image() -> None:
    figure = only("phases", timed("resnet50", 0.1), timed("nfnet-f0", 0.3))
    times, shares, energy = figure.axes
    assert [axes.get_xlabel() for axes in figure.axes] == [
        "time of the phases, ms", "share of the step, %", "energy, J an image"
    ]  # fmt: skip
    assert ticks(times) == ["nfnet-f0", "resnet50"]
    assert texts(times) == ["300 ms", "100 ms"]
    expected = {"forward": 30, "backward": 50, "clip": 4, "update": 10, "rest": 6}
    for axes in (times, shares):
        at = 0.0
        for phase, width in expected.items():
            box = bars(axes)[1, phase]
            assert (box.x0, box.width) == (pytest.approx(at), pytest.approx(width))
            at += width
    assert bars(times)[0, "forward"].width == pytest.approx(90)
    # 25 W
    assert [patch.get_width() for patch in energy.patches] == pytest.approx([0.3 * 25 / 32, 0.1 * 25 / 32])  # type: ignore[attr-defined]
    assert legend(figure) == ["forward", "backward", "clip (AGC)", "update", "rest of the step"]
    assert {"30", "50", "10", "clip 4.0 %"} == set(texts(shares))


def test_shares_are_of_the_step_and_not_of_the_sum_of_the_phases() -> None:
    # medians of their own: together they take longer than the step
    figure = only("phases", with_phase("average", 0.026))
    shares = bars(figure.axes[1])
    assert shares[0, "forward"].width == pytest.approx(30) and (0, "rest") not in shares
    assert sum(box.width for box in shares.values()) == pytest.approx(120) and figure.axes[1].get_xlim()[1] > 120
    assert "average (EMA)" in legend(figure)


def test_phases_of_a_composed_step_are_composed_too() -> None:
    found = bars(axes_of("phases", composed()))
    assert found[0, "forward"].width == pytest.approx(80) and found[0, "clip"].width == pytest.approx(1)


def test_a_step_that_several_devices_share_has_a_bar_a_rank_below_it() -> None:
    ranks = on_ranks(3)
    spans = [reading("forward", "s", "step", "t", [0.02 * (1 + rank)] * 20, rank=rank) for rank in range(3)]
    rounds = [on_ranks(3, readings=(*ranks.readings, *spans), round=i) for i in range(2)]
    figure = only("phases", *rounds, timed("nf-resnet50"), on_ranks(3, round=2, status="error", readings=()))
    times = figure.axes[0]
    assert ticks(times) == ["nf-resnet50", "resnet50", "rank 0", "rank 1", "rank 2"]
    assert texts(times)[1:] == ["120 ms", "100 ms (80.0 ms by itself)", "110 ms (88.0 ms by itself)",
                                "120 ms (96.0 ms by itself)"]  # fmt: skip
    found = bars(times)
    assert [found[place, "forward"].width for place in (2, 3, 4)] == pytest.approx([20, 40, 60])
    assert found[4, "rest"].width == pytest.approx(60)
    assert "A rank's bar is of its own medians" in foot(figure)
    many = [on_ranks(8, workload=StepTime(model="resnet50", batch=8 * b, world_size=8)) for b in range(1, 9)]
    made = drawn("phases", *many)
    assert made.notes == ["no room for the ranks of 8 rows: draw fewer at once, with --where"] and len(made.drawn) == 8


def test_what_has_no_phase_no_energy_or_no_time_is_left_out_and_none_has_a_bar_at_zero() -> None:
    graph = timed("resnet26", readings=(step_times(0.1, 0.1),))
    unread = tuple(r for r in timed().readings if not r.name.startswith("energy"))
    only_energy = (step_times(0.1, 0.1), once("energy", 50.0, "J"), once("energy_time", 2.0, "s"))
    made = drawn(
        "phases", graph, timed("resnet101", status="out_of_memory", readings=()), timed(readings=unread),
        timed("nfnet-f0", readings=only_energy), timed(machine=H200),
    )  # fmt: skip
    assert why(made) == {"no time of a phase, as under a CUDA graph, and no energy", "out of memory, no step time"}
    assert [machine for machine, _ in made.figures] == ["A CPU", "NVIDIA H200"]
    figure = made.figures[0][1]
    assert len(figure.axes[2].patches) == 1 and len({row for row, _ in bars(figure.axes[0])}) == 2
    assert "A white bar is of a step without timed phases" in foot(figure)


RUNS = agc_results()


def cells(axes: Axes) -> dict[tuple[str, str], tuple[str, Rectangle]]:
    """The text and the rectangle of each (λ, batch), by the ticks beside them."""
    said = {text.get_position(): text.get_text() for text in axes.texts}
    across = {float(x): t.get_text() for x, t in zip(axes.get_xticks(), axes.get_xticklabels(), strict=True)}
    down = {round(float(y), 6): t.get_text() for y, t in zip(axes.get_yticks(), axes.get_yticklabels(), strict=True)}
    found = {}
    for patch in axes.patches:
        assert isinstance(patch, Rectangle)
        x, y = (patch.get_x() + patch.get_width() / 2, patch.get_y() + patch.get_height() / 2)
        (text,) = [text for at, text in said.items() if at == pytest.approx((x, y))]
        found[down[round(y, 6)], across[x]] = text, patch
    return found


def test_every_cell_of_the_map_is_drawn_and_what_diverged_is_hatched_and_named() -> None:
    axes = axes_of("agc-heatmap", *RUNS)
    found = cells(axes)
    assert len(found) == 24
    assert {cell for cell, (_, patch) in found.items() if patch.get_hatch()} == {
        *(("no clip", "128"), ("no clip", "256"), ("0.16", "256")),
    }
    assert found["no clip", "128"][0] == "diverged\nat 25"
    assert found["0.16", "256"][0].endswith("1 of 2\ndiverged") and found["0.02", "32"][0] == "97\n± 3"
    assert ticks(axes)[-1] == "no clip"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("batch, images an update", "clipping threshold λ")
    # darker is more accurate, so that it reads in grey too
    light = {cell: sum(patch.get_facecolor()[:3]) for cell, (_, patch) in found.items()}
    assert light["no clip", "64"] < light["0.16", "32"] < light["no clip", "256"] == 3.0


def test_colours_of_a_map_are_of_a_range_that_is_said_and_what_was_not_run_is_no_blank() -> None:
    results = [run("tiny-nfnet", 32, 0.01, 0.991), run("tiny-nfnet", 32, 0.02, 0.993), run("tiny-nfnet", 64, 0.02)]
    figure = only("agc-heatmap", *results)
    found = cells(figure.axes[0])
    pale, dark = (found[clip, "32"][1].get_facecolor()[0] for clip in ("0.01", "0.02"))
    # two tenths of a per cent are hardly a difference
    assert 0 < pale - dark < 0.05
    assert texts(figure.axes[0]).count("·") == 1
    assert "Colours: from 90 %, the palest, to 100 %, the darkest." in foot(figure)
    assert foot(figure).endswith("· not run.")
